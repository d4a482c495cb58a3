"""Bad input and known faults that belong to no single module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Image, Ordinal, Rows
from rung3.data.variables import Variable
from rung3.effects import average, mediate
from rung3.mechanisms import VAE, Equation, Flow, GumbelMax, InverseCDF, Mechanism


class Untouchable(Equation):
    """Fails at the first work that it is asked for."""

    def predict(self, *_: Any) -> Tensor:
        raise AssertionError("work has started")

    def sample_noise(self, *_: Any) -> Tensor:
        raise AssertionError("work has started")

    def abduct(self, *_: Any) -> Tensor:
        raise AssertionError("work has started")

    def log_prob(self, *_: Any) -> Tensor:
        raise AssertionError("work has started")


def untouchable() -> SCM:
    return SCM(
        graph="a -> m -> y",
        variables={"a": Continuous(lower=0), "m": Continuous(missing=True)},
        mechanisms={
            "a": Untouchable("u"), "m": Untouchable("a + u"), "y": Untouchable("m + u"),
        },
    )  # fmt: skip


GOOD = {"a": [1.0, 2.0], "m": [1.0, 2.0], "y": [0.0, 0.0]}
BAD: dict[str, tuple[Any, str]] = {
    "unknown": (GOOD | {"yy": [0.0, 0.0]}, "unknown variable 'yy'.*did you mean 'y'"),
    "not given": ({"a": [1.0], "m": [1.0]}, "y: not given; abduction needs a value"),
    "shape": (GOOD | {"y": [[0.0], [0.0]]}, r"y: expected shape \(\) or \(n,\), got \(2, 1\)"),
    "support": (GOOD | {"a": [1.0, -2.0]}, "a: -2 is outside its support"),
    "NaN": (GOOD | {"y": [0.0, np.nan]}, "y: 1 values are NaN"),
    "infinite": (GOOD | {"y": [0.0, np.inf]}, "y: 1 values are infinite"),
    "missing": (GOOD | {"m": [1.0, np.nan]}, "m: missing in 1 rows"),
    "length": (GOOD | {"m": [1.0]}, "variables differ in number of rows"),
}
ROWS: dict[str, Callable[[SCM, Any], object]] = {
    "abduct": lambda model, rows: model.abduct(rows),
    "counterfactual": lambda model, rows: model.counterfactual(rows, {"a": 1.0}),
    "counterfactual, held": lambda model, rows: model.counterfactual(rows, {"a": 1.0}, hold=["m"]),
    "mediate": lambda model, rows: mediate(model, rows, {"a": 1.0}, "y", "m"),
}


@pytest.mark.parametrize("query", ROWS)
@pytest.mark.parametrize("fault", BAD)
def test_bad_rows_are_refused_before_any_work_starts(query: str, fault: str) -> None:
    rows, message = BAD[fault]
    with pytest.raises(ValueError, match=message):
        ROWS[query](untouchable(), rows)


@pytest.mark.parametrize("fault", [fault for fault in BAD if fault != "not given"])
def test_densities_of_bad_rows_are_refused_before_any_work_starts(fault: str) -> None:
    rows, message = BAD[fault]
    with pytest.raises(ValueError, match=message):
        untouchable().log_prob(rows)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, do: model.do(do),
        lambda model, do: model.counterfactual(GOOD, do),
        lambda model, do: mediate(model, GOOD, do, "y", "m"),
        lambda model, do: average(model, do, "y"),
        lambda model, do: average(model, {}, "y", versus=do),
    ],
    ids=["do", "counterfactual", "mediate", "average", "average versus"],
)
@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"aa": 1.0}, "aa'.*did you mean 'a'"),
        ({"a": -1.0}, "a: -1 is outside its support"),
        ({"a": np.nan}, "a: 1 values are NaN"),
        ({"a": [[1.0]]}, r"a: expected shape \(\) or \(n,\), got \(1, 1\)"),
        ({"a": lambda m: m}, r"do\(a=function\): unknown variable 'm'"),
    ],
)
def test_bad_interventions_are_refused_before_any_work_starts(
    ask: Callable[[SCM, Any], object], do: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(untouchable(), do)


def test_categories_that_were_never_seen_and_vectors_out_of_range_are_flagged() -> None:
    model = SCM(
        graph="k -> v; o",
        variables={"k": Categorical(3), "v": Continuous(dim=2), "o": Ordinal(4)},
    )
    seen = {
        "k": torch.tensor([0, 1] * 20),
        "v": torch.rand(40, 2),
        "o": torch.tensor([0, 3] * 20),
    }
    for name, mechanism in model.mechanisms.items():
        mechanism.calibrate(seen[name], {parent: seen[parent] for parent in mechanism.parents})
    rows = Rows({name: value[:2] for name, value in seen.items()})
    do = {"k": torch.tensor([1, 2]), "v": torch.tensor([[0.5, 0.5], [0.5, 7.0]]), "o": 2}
    answer = model.counterfactual(rows, do)
    assert answer.explain().outside == {"k": 0.5, "v": 0.5, "o": 1.0}


@pytest.mark.parametrize(
    ("family", "variable"),
    [
        (Flow(hidden=(8,)), Continuous()),
        (GumbelMax(hidden=(8,)), Categorical(3)),
        (InverseCDF(hidden=(8,)), Ordinal(3)),
        (VAE(latent=2, width=4, depth=1), Image(1, 8, 8)),
    ],
)
def test_parents_are_normalised_alike_in_every_family_and_in_any_unit(
    family: Mechanism, variable: Variable
) -> None:
    """An answer does not depend on the unit of a parent, so no constant of a data set is in it."""
    metres = 3 + torch.randn(200)
    value = torch.randint(2, (200, *variable.shape)).to(variable.dtype)

    def answer(size: Tensor) -> Tensor:
        torch.manual_seed(0)
        mechanism = family.bind("x", variable, {"size": Continuous()}).eval()
        mechanism.calibrate(value, {"size": size})
        for parameter in mechanism.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        return mechanism.mean(mechanism.sample_noise(200, {"size": size}), {"size": size})

    one, other = answer(metres), answer(1000 * metres + 5)
    assert one.float().std() > 0
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("likelihood", ["discretised", "gaussian"])
def test_queries_decode_with_the_decoder_that_was_trained(
    likelihood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of a query is the mean that the loss saw, with no squashing of its own."""
    mechanism = VAE(latent=2, width=4, depth=1, likelihood=likelihood).bind(
        "x",
        Image(1, 8, 8, bits=None if likelihood == "gaussian" else 8),
        {"size": Continuous()},
    )
    for parameter in mechanism.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    x, parents = torch.randint(256, (5, 1, 8, 8)) / 255, {"size": torch.randn(5)}
    seen: list[Tensor] = []
    log_prob = mechanism.pixels.log_prob

    def watched(value: Tensor, params: Any) -> Tensor:
        seen.append(mechanism.pixels.mean(params))
        return log_prob(value, params)

    monkeypatch.setattr(mechanism.pixels, "log_prob", watched)
    torch.manual_seed(1)
    mechanism.train().loss(x, parents)
    torch.manual_seed(1)
    noise = mechanism.eval().abduct(x, parents)
    torch.testing.assert_close(mechanism.mean(noise, parents), seen[0])


@pytest.mark.parametrize("ask", ["counterfactual", "abduct", "log_prob"])
def test_no_rows_are_refused(ask: str) -> None:
    kinds = {"x": Continuous(), "scan": Image(1, 8, 8)}
    model = SCM("x -> scan", kinds, {"scan": VAE(latent=2, width=4, depth=1)})
    none = {"x": [], "scan": torch.zeros(0, 1, 8, 8)}
    with pytest.raises(ValueError, match="no rows were given; expected at least one"):
        getattr(model, ask)(none, **({"do": {"x": 1.0}} if ask == "counterfactual" else {}))
