from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import pytest
import torch
from noises import whole
from torch import Tensor
from torch.nn import functional as F

from rung3 import Binary, Categorical, Continuous, Image, Ordinal
from rung3.data.variables import Variable
from rung3.mechanisms import VAE, Equation, Flow, GumbelMax, InverseCDF
from rung3.mechanisms.base import Abduction, Mechanism, repeat_noise
from rung3.testing import CHECKS, MechanismError, Subject, check_mechanism, prepare

MIXED: dict[str, Variable] = {
    "age": Continuous(lower=0),
    "sick": Binary(),
    "stage": Ordinal(3),
    "site": Categorical(3),
    "position": Continuous(dim=2),
    "scan": Image(1, 8, 8),
}

CASES: dict[str, tuple[Callable[[], Mechanism], Variable, dict[str, Variable]]] = {
    "equation": (
        lambda: Equation("3*cause + u"), Continuous(), {"cause": Continuous()},
    ),
    "equation, numeric inverse": (
        lambda: Equation("cause + u + u**3"), Continuous(), {"cause": Continuous()},
    ),
    "equation, uniform noise": (
        lambda: Equation("2*u + 1", noise="Uniform(0, 1)"), Continuous(lower=1, upper=3), {},
    ),
    "equation, gamma noise": (
        lambda: Equation("0.5 + u", noise="Gamma(10, 5)"), Continuous(lower=0), {},
    ),
    "equation, inverse given": (
        lambda: Equation("exp(cause + u)", inverse="log(x) - cause"),
        Continuous(lower=0),
        {"cause": Continuous()},
    ),
    "equation, deterministic": (
        lambda: Equation("2*cause"), Continuous(), {"cause": Continuous()},
    ),
    "equation, Python function": (
        lambda: Equation(lambda cause, u: cause + u), Continuous(), {"cause": Continuous()},
    ),
    "equation, vector": (
        lambda: Equation("cause + 2*u"), Continuous(dim=2), {"cause": Continuous(dim=2)},
    ),
    "flow, no parents": (Flow, Continuous(), {}),
    "flow, mixed parents": (Flow, Continuous(), MIXED),
    "flow, vector": (Flow, Continuous(dim=3), {"age": Continuous(lower=0)}),
    "flow, bounded": (Flow, Continuous(lower=-1, upper=4), {"sick": Binary()}),
    "flow, lower bound": (Flow, Continuous(lower=2), {"sick": Binary()}),
    "flow, upper bound": (Flow, Continuous(upper=-3), {"sick": Binary()}),
    "flow, bounded vector": (Flow, Continuous(lower=0, upper=1, dim=2), {"sick": Binary()}),
    "Gaussian": (lambda: Flow(splines=0), Continuous(), {"age": Continuous(lower=0)}),
    "Gumbel-max": (GumbelMax, Categorical(5), MIXED),
    "Gumbel-max, no parents": (GumbelMax, Categorical(3), {}),
    "Gumbel-max, may be missing": (GumbelMax, Categorical(3, missing=True), {}),
    "inverse CDF, binary": (InverseCDF, Binary(), MIXED),
    "inverse CDF, ordinal": (InverseCDF, Ordinal(4), {"age": Continuous(lower=0)}),
    "VAE, discretised": (lambda: VAE(latent=4, width=4), Image(1, 8, 10), MIXED),
    "VAE, Gaussian": (
        lambda: VAE(latent=4, width=4, likelihood="gaussian"), Image(3, 9, 8, bits=None), {},
    ),
}  # fmt: skip


@lru_cache
def subject(case: str) -> Subject:
    make, variable, parents = CASES[case]
    return prepare(make(), variable, parents)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES)
def test_contract(case: str, check: str) -> None:
    CHECKS[check](subject(case))


def test_report_says_what_was_measured() -> None:
    report = check_mechanism(Flow(), Continuous(), {"age": Continuous()})
    assert list(report.passed) == list(CHECKS)
    assert str(report).startswith("Flow() keeps the contract")
    assert "round trip: error" in str(report)


def test_approximate_kinds_report_their_distance_to_the_prior() -> None:
    report = check_mechanism(VAE(latent=2, width=4), Image(1, 8, 8), {})
    assert "distance to the prior" in report.passed["noise"]


def test_values_of_parents_are_used() -> None:
    parents = {"cause": torch.full((10,), 3.0)}
    prepared = prepare(Equation("cause + u"), Continuous(), {"cause": Continuous()}, values=parents)
    assert torch.equal(prepared.parents["cause"], parents["cause"])


def test_bound_mechanism_keeps_its_weights() -> None:
    bound = GumbelMax().bind("digit", Categorical(3), {})
    bound.calibrate(torch.tensor([0, 1, 1, 1]), {})
    tested = prepare(bound, Categorical(3), {}).mechanism
    assert torch.equal(
        tested.log_prob(torch.tensor([1]), {}), bound.log_prob(torch.tensor([1]), {})
    )
    assert tested is not bound


def failures(mechanism: Mechanism, variable: Variable, **parents: Variable) -> str:
    with pytest.raises(MechanismError) as error:
        check_mechanism(mechanism, variable, parents)
    return str(error.value)


class TruncatedAtTheWrongPlace(GumbelMax):
    """The fault of a published implementation: others are truncated at `T - logit`."""

    def abduct(
        self, value: Tensor, parents: Any, particles: Any = None, generator: Any = None
    ) -> Any:
        logits = self.log_probs(parents, len(value))
        lead = (len(value),) if particles is None else (particles, len(value))
        top = -torch.empty((*lead, 1)).exponential_(generator=generator).log()
        others = -torch.empty((*lead, self.classes)).exponential_(generator=generator).log()
        below = -torch.logaddexp(-others, -(top - logits))
        winner = F.one_hot(value.long(), self.classes).bool().expand(below.shape)
        return torch.where(winner, top, below) - logits


def test_catches_a_wrong_truncation() -> None:
    faults = failures(TruncatedAtTheWrongPlace(), Categorical(5), age=Continuous())
    assert "round trip: off by" in faults
    assert "noise: abducted noise does not follow its prior" in faults


class OneGumbelForAll(GumbelMax):
    """The other fault: a base that is shared by the classes, so the mode always wins."""

    def sample_noise(self, n: int, parents: Any, generator: Any = None) -> Any:
        return whole(super().sample_noise(n, parents, generator))[:, :1].expand(n, self.classes)


def test_catches_a_shared_base() -> None:
    assert "noise: abducted noise does not follow" in failures(OneGumbelForAll(), Categorical(5))


class WrongScale(Flow):
    """A density in another unit than the values."""

    def log_prob(self, value: Tensor, parents: Any) -> Tensor:
        return super().log_prob(value, parents) + 0.1


def test_catches_a_density_in_another_unit() -> None:
    assert "density: the density integrates to 1.1" in failures(WrongScale(), Continuous())
    assert "density: the density integrates to 1.1" in failures(WrongScale(), Continuous(dim=2))


class Forgetful(Equation):
    """Loses values outside a box, without an error."""

    def abduct(self, value: Tensor, *args: Any) -> Any:
        return super().abduct(value.clamp(-5, 5), *args)


def test_catches_values_lost_outside_the_range() -> None:
    faults = failures(Forgetful("u"), Continuous())
    assert "outside the training range: off by" in faults
    assert "\n  round trip" not in faults


class Careless(Equation):
    """Draws from torch's own generator, whatever it is given, and mixes rows."""

    def sample_noise(self, n: int, parents: Any, generator: Any = None) -> Any:
        return torch.randn(n)

    def predict(self, noise: Any, parents: Any) -> Tensor:
        return noise - noise.mean()


def test_catches_ignored_seeds_and_mixed_rows_and_lists_all() -> None:
    faults = failures(Careless("u"), Continuous())
    assert "seed: sample_noise differs between two calls" in faults
    assert "rows: off by" in faults


class Mixed(Equation):
    """An image of whole levels that is a little brighter where the batch is."""

    def sample_noise(self, n: int, parents: Any, generator: Any = None) -> Any:
        return torch.rand(n, *self.variable.shape, generator=generator)

    def predict(self, noise: Any, parents: Any) -> Tensor:
        return (255 * (0.9 * noise + 0.1 * noise.mean())).round() / 255


def test_catches_mixed_rows_in_images_of_whole_levels() -> None:
    assert "rows: off by" in failures(Mixed("u"), Image(1, 8, 8))


class Unused(Flow):
    """Has a parameter that the loss does not reach."""

    def build(self) -> None:
        super().build()
        self.spare = torch.nn.Parameter(torch.zeros(2))


def test_catches_parameters_without_gradient() -> None:
    assert "gradients: no finite gradient in spare" in failures(Unused(), Continuous())


class Forgotten(Flow):
    """Does not keep its constructor's argument under the argument's name."""

    def __init__(self, bins: int = 8) -> None:
        super().__init__(bins=4)


def test_catches_a_config_that_makes_another_mechanism() -> None:
    class Drifting(Equation):
        def config(self) -> dict[str, Any]:
            return {"function": "u + 1"}

    assert "saving: " in failures(Drifting("u"), Continuous())


def test_catches_a_missing_particles_axis() -> None:
    class Flat(Equation):
        def abduct(
            self, value: Tensor, parents: Any, particles: Any = None, generator: Any = None
        ) -> Any:
            return super().abduct(value, parents, None, generator)

    assert "particles: abduct(particles=3): expected" in failures(Flat("u"), Continuous())


def test_not_invertible_is_one_listed_failure() -> None:
    assert "round trip: x: its equation is not monotone" in failures(Equation("u**2"), Continuous())


def test_a_mechanism_without_a_constructor_has_no_arguments() -> None:
    class Standard(Mechanism):
        """Standard normal, whatever its parents."""

        abduction: ClassVar[Abduction] = "exact"
        assumption: str = "none"

        def build(self) -> None: ...

        def sample_noise(self, n: int, parents: Any, generator: Any = None) -> Tensor:
            return torch.randn(n, generator=generator)

        def predict(self, noise: Any, parents: Any) -> Tensor:
            return torch.as_tensor(noise)

        def abduct(
            self, value: Tensor, parents: Any, particles: int | None = None, generator: Any = None
        ) -> Any:
            return repeat_noise(value, particles)

        def log_prob(self, value: Tensor, parents: Any) -> Tensor:
            return -(value.square() + math.log(2 * math.pi)) / 2

    assert Standard().config() == {}
    assert repr(Standard()) == "Standard()"
    check_mechanism(Standard(), Continuous(), {})
