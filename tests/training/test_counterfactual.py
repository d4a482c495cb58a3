"""The counterfactual objective: what it minimises, what it refuses, and what it mends."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import halves
import pytest
import torch
from torch import Generator, Tensor, nn

from rung3 import SCM, Binary, Continuous, Image, Rows, evaluate, fit, load
from rung3.data.rows import Noise
from rung3.evaluation import Oracle, Oracles, fit_oracles
from rung3.mechanisms import HVAE, VAE, Equation, Flow, Stage
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.training.batches import Table
from rung3.training.counterfactual import CounterfactualObjective, fit_predictors
from rung3.training.counterfactual.loss import CounterfactualLoss, propagate
from rung3.training.counterfactual.preparation import columns, prepare, rehearsal

QUIET: dict[str, Any] = {"progress": False, "accelerator": "cpu"}
TINY: dict[str, Any] = {"latent": 2, "width": 2, "depth": 1, "cooling": 0}


class Gain(Mechanism):
    """`x = 2 theta render(left, right) + u`: at theta = 0 it does not listen to its parents."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "none"

    def build(self) -> None:
        self.theta = nn.Parameter(torch.tensor(0.0))

    def _pattern(self, parents: Parents) -> Tensor:
        flat = torch.zeros(len(parents["left"]), *self.variable.shape)
        return 2 * halves.render(parents["left"], parents["right"], flat)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return 0.1 * torch.randn(n, *self.variable.shape, generator=generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Tensor)
        return self.theta * self._pattern(parents) + noise

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return value - self.theta * self._pattern(parents)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        noise = self.abduct(value, parents)
        assert isinstance(noise, Tensor)
        return -50 * noise.square().flatten(1).sum(1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums come out the same bit for bit only with the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return halves.world().sample(1000, seed=0)


@pytest.fixture(scope="module")
def predictors(rows: Rows) -> Oracles:
    return fit_oracles(
        halves.world(), rows[:800], rows[800:], epochs=16, width=8, seed=5, progress=False
    )


def tiny(mechanism: Mechanism | None = None, fitted: bool = True) -> SCM:
    """A model of the world's causes, and a mechanism of its image that has learned nothing."""
    torch.manual_seed(0)
    model = halves.scm(mechanism or VAE(**TINY))
    model.fitted = {"image": {}} if fitted else {}
    return model


def bound(model: SCM, rows: Rows, predictors: Oracles, **options: Any) -> CounterfactualLoss:
    aim = CounterfactualObjective(
        predictors=predictors, **{"weight": 1.0, "after": 0, "ramp": 0} | options
    )
    image = model.mechanisms["image"]
    columns(aim, model, ["image"])
    return prepare(aim, model, {"image": image}, rows, None, 0, False)["image"]


def weights(model: SCM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[k].nan_to_num(-99.0), other[k].nan_to_num(-99.0)) for k in one)


# What is imagined --------------------------------------------------------------------------------


def chain() -> SCM:
    """Learned causes of several kinds, above an image: `a -> b -> c`, `{a e} -> c`."""
    torch.manual_seed(0)
    image = Image(1, 4, 4)
    model = SCM(
        "a -> b; {a b e} -> c; {b c} -> image",
        {"b": Binary(), "c": Continuous(lower=0), "image": image},
        {"e": Equation("u"), "image": VAE(latent=1, width=1)},
    )
    for name, mechanism in model.mechanisms.items():
        for parameter in mechanism.parameters() if name != "image" else ():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("do", [("a",), ("b",), ("c",), ("a", "c"), ("e", "b")])
def test_what_lies_below_an_intervention_is_what_the_model_itself_says(do: tuple[str, ...]) -> None:
    model = chain()
    with torch.no_grad():
        rows = model.sample(50, seed=0)
    to = {name: rows[name].roll(1) for name in do}
    carriers = [model.mechanisms["b"], model.mechanisms["c"]]
    torch.manual_seed(1)
    with torch.no_grad():
        found, changed = propagate(carriers, {k: rows[k] for k in "abce"}, to)
        expected = model.counterfactual(rows, to, seed=1)
    below = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "e": {"c"}}
    assert changed == set(do).union(*(below[name] for name in do))
    for name in set("abce") - {"b", "c"} | set(do):
        assert torch.equal(found[name], expected[name]), name
    if "a" not in do:  # abducting b draws random numbers
        torch.testing.assert_close(found["c"], expected["c"])


def test_only_what_carries_an_intervention_is_recomputed_and_only_its_columns_are_needed() -> None:
    model = chain()
    model.fitted = {name: {} for name in ("a", "b", "c", "image")}
    assert set(columns(CounterfactualObjective(), model, ["image"])) == {"b", "c", "a", "e"}
    assert set(columns(CounterfactualObjective(intervene=["c"]), model, ["image"])) == {"c"}
    model.fitted.pop("c")
    columns(CounterfactualObjective(intervene=["c"]), model, ["image"])
    with pytest.raises(ValueError, match=r"c: lies between .* image, and is not fitted yet; fit"):
        columns(CounterfactualObjective(), model, ["image"])
    changed = model.do(c=lambda a, b: a + b)
    changed.fitted = model.fitted
    with pytest.raises(ValueError, match=r"c: .*; fit the model before do\(c=\.\.\.\)"):
        columns(CounterfactualObjective(intervene=["a"]), changed, ["image"])


def test_values_are_permuted_within_the_batch_one_variable_or_several_at_a_time(
    rows: Rows, predictors: Oracles
) -> None:
    seen: dict[int, set[tuple[str, ...]]] = {1: set(), 2: set()}
    factual = {name: rows[name][:20] for name in ("left", "right")}
    for many, found in seen.items():
        loss = bound(tiny(), rows, predictors, at_once=many)
        for _ in range(20):
            imagined, changed = loss._imagine(factual)
            moved = [n for n in factual if not torch.equal(imagined[n], factual[n])]
            permuted = [
                n for n in moved if torch.equal(imagined[n].sort().values, factual[n].sort().values)
            ]
            found.add(tuple(permuted))
            assert changed == set(moved)
    # Setting left moves right along, and then right is no permutation of what it was.
    assert seen == {1: {("left",), ("right",)}, 2: {("left", "right")}}


@pytest.mark.parametrize("kind", [VAE(**TINY), HVAE(stages=[Stage(8, 4, latents=1)])])
def test_the_image_is_encoded_once_and_decoded_twice(
    kind: Mechanism, rows: Rows, predictors: Oracles
) -> None:
    model = tiny(kind)
    mechanism: Any = model.mechanisms["image"]
    loss = bound(model, rows, predictors)
    calls = {"encoder": 0, "decoder": 0}
    for name in calls:
        getattr(mechanism, name).register_forward_hook(
            lambda *_, name=name: calls.update({name: calls[name] + 1})
        )
    loss(mechanism.train(), Table(rows, [mechanism])[:8], 0)
    assert calls == {"encoder": 1, "decoder": 2}


def test_gradients_reach_the_decoder_and_the_latents_but_not_what_predicts_or_carries(
    rows: Rows, predictors: Oracles
) -> None:
    model = tiny()
    mechanism: Any = model.mechanisms["image"]
    loss = bound(model, rows, predictors, weight=1e6)
    assert not any(module.training for module in loss.train().modules())
    loss(mechanism.train(), Table(rows, [mechanism])[:32], 0).total.backward()
    for name, parameter in mechanism.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_noise_of_observation_is_kept_in_a_share_of_the_rows(
    rows: Rows, predictors: Oracles
) -> None:
    mechanism = tiny().mechanisms["image"]
    noise = {"z": torch.ones(200, 2), "eps": torch.ones(200, 1, 8, 8)}
    for kept in (0.0, 0.5, 1.0):
        found: Any = bound(tiny(), rows, predictors, kept=kept).temper(
            noise, mechanism, 200, torch.arange(200)
        )
        assert torch.equal(found["z"], noise["z"])
        shares = found["eps"].flatten(1).mean(1)
        assert set(shares.unique().tolist()) <= {0.0, 1.0}
        assert shares.mean() == pytest.approx(kept, abs=0.1)


# What is minimised -------------------------------------------------------------------------------


def test_with_a_weight_the_log_loss_is_added_a_nat_for_a_nat(
    rows: Rows, predictors: Oracles
) -> None:
    model = tiny()
    mechanism: Any = model.mechanisms["image"].train()
    batch = Table(rows, [mechanism])[:32]
    for weight in (0.5, 2.0):
        loss = bound(model, rows, predictors, weight=weight, share=1.0)
        torch.manual_seed(3)
        step = loss(mechanism, batch, 0)
        torch.manual_seed(3)
        assert torch.equal(step.own, mechanism.loss(*batch.of(mechanism)))
        cost, factor, n = loss.sums.tolist()
        assert (factor, n) == (1.0, 1.0)
        assert step.total.item() == pytest.approx((step.own + weight * cost / 64).item(), rel=1e-5)


def test_the_log_loss_is_that_of_the_predictors_at_the_counterfactual_parents(
    rows: Rows, predictors: Oracles
) -> None:
    loss = bound(tiny(), rows, predictors)
    image, parents = rows["image"][:10], {"left": rows["left"][:10], "right": rows["right"][10:20]}
    expected = torch.zeros(10)
    for name, values in parents.items():
        oracle = predictors["image", name]
        normal = torch.distributions.Normal(oracle(image), oracle.residual)
        expected -= normal.log_prob(oracle.standardise(values))
    found = loss.log_loss(rows["image"][20:30], image, parents, {"left", "right"})
    torch.testing.assert_close(found, expected.mean())


def test_a_soft_target_is_what_the_factual_image_shows_and_labels_do_not_matter(
    rows: Rows, predictors: Oracles
) -> None:
    factual = rows["image"][:10]
    parents = {name: rows[name][:10] for name in ("left", "right")}
    other = {**parents, "right": parents["right"] + 0.3}
    hard, soft = (bound(tiny(), rows, predictors, soft=soft) for soft in (False, True))
    changed = {"left"}
    same_label, other_label = (
        soft.log_loss(factual, factual, p, changed) for p in (parents, other)
    )
    assert same_label == other_label
    assert hard.log_loss(factual, factual, other, changed) > same_label + 1
    least = soft.log_loss(factual, factual, parents, {"left"})
    darker = soft.log_loss(factual, 0.7 * factual, parents, {"left"})
    assert darker > least
    # What was set, or lies below, is still asked for.
    assert soft.log_loss(factual, factual, other, {"left", "right"}) > least + 1


def test_soft_targets_of_categories_are_the_predictors_probabilities() -> None:
    oracle = Oracle(Image(1, 4, 4), Binary(), 4).eval()
    images, others = torch.rand(6, 1, 4, 4), torch.rand(6, 1, 4, 4)
    p, q = oracle(images).softmax(1), oracle(others).log_softmax(1)
    torch.testing.assert_close(oracle.log_loss(others, oracle.expected(images)), -(p * q).sum(1))


def test_the_weight_rises_after_some_steps(rows: Rows, predictors: Oracles) -> None:
    loss = bound(tiny(), rows, predictors, weight=2.0, after=10, ramp=4)
    found = [loss.weight(step) for step in (0, 9, 10, 11, 13, 1000)]
    assert found == pytest.approx([0.0, 0.0, 0.5, 1.0, 2.0, 2.0])
    assert bound(tiny(), rows, predictors, after=0, ramp=0).weight(0) == 1


def test_the_multiplier_holds_the_loss_below_its_bound_and_never_pulls_it_up(
    rows: Rows, predictors: Oracles
) -> None:
    loss = bound(tiny(), rows, predictors, weight=None, rate=0.1, damping=50.0)
    loss.bound.fill_(1.0)
    # Above the bound by 0.2: damping alone at first, and then the multiplier too.
    assert loss._factor(torch.tensor(1.2)).item() == pytest.approx(10)
    assert loss.multiplier.item() == pytest.approx(1)
    assert loss._factor(torch.tensor(1.2)).item() == pytest.approx(11)
    assert loss.multiplier.item() == pytest.approx(2)
    # Below it: less, down to nothing, and nothing negative.
    assert loss._factor(torch.tensor(0.98)).item() == pytest.approx(1, rel=1e-4)
    assert loss._factor(torch.tensor(0.5)).item() == 0
    assert loss.multiplier.item() == 0
    loss.multiplier.fill_(3.0)
    loss._factor(torch.tensor(math.nan))
    assert loss.multiplier.item() == 3


def test_the_constraint_is_the_loss_of_the_base_model_and_its_margin_is_relative(
    rows: Rows, predictors: Oracles
) -> None:
    model = tiny()
    mechanism: Any = model.mechanisms["image"]
    before = weights(model)
    loss = bound(model, rows, predictors, weight=None)
    wider = bound(model, rows, predictors, weight=None, margin=0.1)
    with torch.no_grad():
        found = mechanism.train().loss(*Table(rows, [mechanism]).all().of(mechanism))
    assert loss.bound.item() == pytest.approx(found.item(), rel=1e-2)
    assert wider.bound.item() == pytest.approx(1.1 * loss.bound.item(), rel=1e-5)
    mechanism.steps.zero_()
    assert same(weights(model), before)  # measuring it leaves the schedules where they were


def test_until_the_objective_begins_training_is_that_by_likelihood(
    rows: Rows, predictors: Oracles
) -> None:
    found = []
    for objective in (
        "likelihood",
        CounterfactualObjective(weight=1.0, after=4, predictors=predictors),
    ):
        model = tiny(fitted=False)
        fit(
            model, rows[:40], only=["image"], epochs=2, batch_size=20, validation_share=0,
            objective=objective, **QUIET,
        )  # fmt: skip
        found.append(weights(model))
    assert same(*found)


def test_any_mechanism_of_images_can_be_trained_so(rows: Rows, predictors: Oracles) -> None:
    """One parameter: at 0 it does not listen; the counterfactuals alone say that it must."""
    model = tiny(Gain())
    plain = halves.render(rows["left"], rows["right"], torch.zeros_like(rows["image"]))
    history = fit(
        model, {**rows, "image": plain}, epochs=2, batch_size=50, lr=0.05, validation_share=0,
        objective=CounterfactualObjective(predictors=predictors, margin=1e6), **QUIET,
    )  # fmt: skip
    assert model.mechanisms["image"].state_dict()["theta"].item() == pytest.approx(0.5, abs=0.1)
    costs = history.counterfactual["image"]["log-loss of the predictors"]
    assert costs[1] < costs[0]
    assert history.curves()["image, counterfactual"] == history.counterfactual["image"]


class Corrects(Mechanism):
    """`x = u + theta (left - seen) L`: it may light up an image's left half as its label says."""

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "none"

    def build(self) -> None:
        self.theta = nn.Parameter(torch.tensor(0.0))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return torch.rand(n, *self.variable.shape, generator=generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Tensor)
        lit = (~halves.UPPER & halves.LEFT).float()
        seen = (noise * lit).sum((1, 2, 3)) / lit.sum() - 0.1
        return noise + self.theta * (parents["left"] - seen).view(-1, 1, 1, 1) * lit

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return value

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return torch.zeros(len(value)) + 0 * self.theta


def test_hard_targets_amplify_what_labels_say_and_soft_ones_leave_it(
    rows: Rows, predictors: Oracles
) -> None:
    """Labels of left are off. Setting right, the image's left half should stay as it is."""
    plain = halves.render(rows["left"], rows["right"], torch.zeros_like(rows["image"]))
    labels = rows["left"] + 0.1 * torch.randn(rows.n)
    found = {}
    for soft in (False, True):
        model = tiny(Corrects())
        fit(
            model, {**rows, "left": labels, "image": plain}, epochs=2, batch_size=50, lr=0.05,
            validation_share=0, **QUIET,
            objective=CounterfactualObjective(
                predictors=predictors, intervene=["right"], soft=soft
            ),
        )  # fmt: skip
        found[soft] = model.mechanisms["image"].state_dict()["theta"].item()
    assert found[False] > 0.5
    assert abs(found[True]) < 0.02


# Rows that lack something ------------------------------------------------------------------------


def test_rows_that_lack_a_value_train_by_what_they_have(predictors: Oracles, rows: Rows) -> None:
    """Left lies above the image twice; where it is missing, neither is trained on."""
    torch.manual_seed(0)
    names = ("left", "right", "image")
    model = SCM(
        halves.GRAPH,
        {"left": Continuous(missing=True), "image": Image(1, 8, 8)},
        {"left": Equation("u"), "right": Equation("0.5*left + 0.25*u"), "image": VAE(**TINY)},
    )
    model.fitted = {"image": {}}
    oracles = Oracles({k: copy.deepcopy(o) for k, o in predictors.items()})
    oracles["image", "left"].target = Continuous(missing=True)
    some = {name: rows[name][:40].clone() for name in names}
    some["left"][::2] = torch.nan
    with pytest.warns(UserWarning, match=r"of 40 rows: image 20\)"):
        fit(
            model, some, epochs=2, batch_size=10, validation_share=0,
            objective=CounterfactualObjective(weight=1.0, after=0, predictors=oracles), **QUIET,
        )  # fmt: skip
    assert all(p.isfinite().all() for p in model.mechanisms["image"].parameters())
    assert model.fitted["image"]["rows"] == 20


def test_rows_that_lack_what_lies_above_are_left_out_of_the_counterfactuals() -> None:
    """The image's own parent is there, and what the parent is abducted with is not."""
    torch.manual_seed(0)
    model = SCM(
        "a -> b; {a b c} -> d; {b d} -> image",
        {"c": Continuous(missing=True), "image": Image(1, 4, 4)},
        {"a": Equation("u"), "b": Equation("a + u"), "c": Equation("u"),
         "d": Equation("a + b + c + u"), "image": VAE(**TINY)},
    )  # fmt: skip
    mechanism = model.mechanisms["image"].train()
    objective = CounterfactualObjective(weight=1.0, after=0, ramp=0, share=1.0)
    loss = rehearsal(objective, model, mechanism)
    with torch.no_grad():
        rows = dict(model.sample(8, seed=0))
    rows["c"][:5] = torch.nan
    table = Table(Rows(rows), [mechanism], ["a", "b", "c", "d"])
    assert loss.usable(table.all().columns("abcd", mechanism)).tolist() == [5, 6, 7]
    rows["c"][:] = torch.nan
    table = Table(Rows(rows), [mechanism], ["a", "b", "c", "d"])
    step = loss(mechanism, table.all(), 0)
    assert step.total is step.own
    assert step.total.isfinite()


# Predictors --------------------------------------------------------------------------------------


def test_a_parent_that_cannot_be_read_is_left_out_with_a_word(rows: Rows) -> None:
    shuffled = {**rows, "left": rows["left"][torch.randperm(rows.n)]}
    halfblind = fit_oracles(
        halves.world(), Rows(shuffled)[:800], Rows(shuffled)[800:], epochs=4, width=8,
        progress=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"image: left cannot be read off it, and is not asked"):
        loss = bound(tiny(), rows, halfblind)
    assert (loss.read, loss.chosen) == (["right"], ["right"])
    with pytest.warns(UserWarning, match="left cannot be read"):
        asked = bound(tiny(), rows, halfblind, intervene=["left"])
    assert (asked.read, asked.chosen) == (["right"], ["left"])
    blind = Oracles({("image", "left"): halfblind["image", "left"]})
    with pytest.raises(ValueError, match=r"image: no predictor can read a parent off it; .* left"):
        bound(tiny(), rows, blind)
    with pytest.raises(ValueError, match=r"image: no predictor can read .* there are none"):
        bound(tiny(), rows, Oracles({}))


def test_predictors_that_were_not_measured_are_measured_and_the_ones_given_are_left_alone(
    rows: Rows, predictors: Oracles
) -> None:
    given = Oracles({key: copy.deepcopy(oracle) for key, oracle in predictors.items()})
    for oracle in given.values():
        oracle.residual.fill_(torch.nan)
        oracle.explained.fill_(torch.nan)
    loss = bound(tiny(), rows[800:], given)
    for name, oracle in zip(loss.read, loss.predictors, strict=True):
        assert torch.equal(oracle.residual, predictors["image", name].residual)
    assert all(oracle.explained.isnan() for oracle in given.values())
    assert loss.digests() == {n: predictors["image", n].digest() for n in ("left", "right")}


def test_its_own_predictors_are_not_those_of_evaluation() -> None:
    rows = halves.world().sample(60, seed=0)
    state = torch.get_rng_state()
    own, again = (fit_predictors(halves.world(), rows, progress=False) for _ in range(2))
    judges = fit_oracles(halves.world(), rows, epochs=1, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    for key, oracle in own.items():
        assert oracle.digest() == again[key].digest() != judges[key].digest()
        assert oracle.width != judges[key].width
        assert oracle.explained.isfinite()


def test_oracles_that_had_a_say_in_training_may_not_judge(
    rows: Rows, predictors: Oracles, tmp_path: Path
) -> None:
    model = tiny()
    options = {"epochs": 1, "batch_size": 20, "only": ["image"], **QUIET}
    history = fit(
        model, rows[:60], objective=CounterfactualObjective(predictors=predictors), **options
    )
    said = model.fitted["image"]["objective"]
    assert (said["kind"], said["set"]) == ("counterfactual", ["left", "right"])
    assert said["constraint"] > 0
    assert len(history.counterfactual["image"]["factor of its own loss"]) == 1
    # Training goes on, the model is saved: they remain what they were.
    fit(model, rows[:60], **options)
    model = SCM(
        halves.GRAPH,
        {"image": Image(1, 8, 8)},
        {"left": Equation("u"), "right": Equation("0.5*left + u"), "image": VAE(**TINY)},
    )
    fit(
        model,
        rows[:60],
        objective=CounterfactualObjective(weight=1.0, predictors=predictors),
        **options,
    )
    model.save(tmp_path / "model")
    model = load(tmp_path / "model")
    fit(model, rows[:60], **options)
    message = "oracles: the one that reads left off image was a predictor .*; let others judge it"
    quick = {"bootstrap": 0, "progress": False, "n": 4, "particles": 1}
    with pytest.raises(ValueError, match=message):
        evaluate(model, rows[:10], oracles=predictors, **quick)
    others = fit_oracles(halves.world(), rows[:200], epochs=1, seed=6, progress=False)
    evaluate(model, rows[:10], oracles=others, **quick)
    mixed = Oracles({**others, ("image", "left"): copy.deepcopy(predictors["image", "left"])})
    with pytest.raises(ValueError, match=message):
        evaluate(model, rows[:10], oracles=mixed, **quick)


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intervene": "left"}, r"intervene='left' must be a list of names"),
        ({"intervene": []}, r"intervene=\[\] must be a list of names"),
        ({"at_once": 0}, r"at_once=0 must be a whole number of at least 1"),
        ({"intervene": ["left"], "at_once": 2}, r"at_once=2 must be at least 1, and at most the"),
        ({"kept": 1.5}, r"kept=1.5 must be a share between 0 and 1"),
        ({"share": 0.0}, r"share=0.0 must be a share between 0 and 1"),
        ({"weight": -1.0}, r"weight=-1.0 must be greater than 0"),
        ({"weight": math.nan}, r"weight=nan must be greater than 0"),
        ({"margin": -0.1}, r"margin=-0.1 must be at least 0"),
        ({"damping": math.inf}, r"damping=inf must be at least 0"),
        (
            {"predictors": "oracles"},
            r"predictors='oracles' must be Oracles, as fit_oracles returns them",
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CounterfactualObjective(**options)


@pytest.mark.parametrize(
    ("objective", "more", "message"),
    [
        ("counterfactul", {}, r"objective='counterfactul' must be 'likelihood', 'counterfactual'"),
        ("counterfactual", {"patience": 2}, r"patience: goes by the likelihood alone"),
        ("counterfactual", {}, r"image: not fitted yet, and the constraint is measured on a fitte"),
        (
            CounterfactualObjective(weight=1.0),
            {"only": ["left"]},
            r"left: the counterfactual objective is f",
        ),
        (
            CounterfactualObjective(weight=1.0, intervene=["lift"]),
            {},
            r"intervene: unknown variable 'lift'",
        ),
        (
            CounterfactualObjective(weight=1.0, intervene=["image"]),
            {},
            r"image: has no cause that could be",
        ),
        (
            CounterfactualObjective(weight=1.0, at_once=3),
            {},
            r"at_once=3: image has only \['left', 'right'\]",
        ),
    ],
)
def test_what_cannot_be_trained_so_is_refused_before_anything_starts(
    rows: Rows, objective: Any, more: dict[str, Any], message: str
) -> None:
    model = tiny(fitted=False)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, rows, objective=objective, **QUIET, **more)
    assert same(weights(model), before)
    assert model.fitted == {}


def test_models_without_images_are_refused() -> None:
    model = SCM("x -> y")
    with pytest.raises(ValueError, match="needs an image with causes; there is none"):
        fit(model, {"x": [1.0, 2.0], "y": [1.0, 2.0]}, objective="counterfactual", **QUIET)


@pytest.mark.parametrize("arrow", ["left <-> right", "left <-> image"])
def test_hidden_causes_on_the_way_to_the_image_are_refused(rows: Rows, arrow: str) -> None:
    model = SCM(f"{halves.GRAPH}; {arrow}", {"image": Image(1, 8, 8)}, {"image": VAE(**TINY)})
    model.fitted = {"right": {}}
    with pytest.raises(ValueError, match=rf"needs causes that are seen, .*\({arrow}\) play a part"):
        fit(model, rows, objective=CounterfactualObjective(weight=1.0), **QUIET)


def test_predictors_of_something_else_are_refused(rows: Rows, predictors: Oracles) -> None:
    wrong = copy.deepcopy(predictors["image", "left"])
    wrong.target = Continuous(lower=0)
    for name in ("left", "kind"):
        with pytest.raises(ValueError, match=f"predictors: the one of {name} off image reads"):
            bound(tiny(), rows, Oracles({("image", name): wrong}))


# Checkpoints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, 0.5])
@pytest.mark.parametrize(("every", "cuts"), [(2, [3, 8]), (None, [6])])
def test_a_run_that_broke_off_ends_with_the_same_weights(
    rows: Rows,
    predictors: Oracles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weight: float | None,
    every: int | None,
    cuts: list[int],
) -> None:
    from rung3.training.loop import Loop

    aim = CounterfactualObjective(weight=weight, after=2, ramp=4, rate=0.1, predictors=predictors)

    def train(**where: Any) -> tuple[SCM, Any]:
        model = tiny()
        history = fit(
            model, rows[:40], epochs=3, batch_size=10, lr=0.01, ema=0.9, validation_share=0,
            objective=aim, **QUIET, **where,
        )  # fmt: skip
        return model, history

    expected, straight = train()
    step = Loop.training_step
    for cut in [*cuts, -1]:

        def training_step(self: Loop, *args: Any, cut: int = cut) -> Tensor:
            if self.trainer.global_step == cut:
                raise InterruptedError("power cut")
            return step(self, *args)

        monkeypatch.setattr(Loop, "training_step", training_step)
        if cut >= 0:
            with pytest.raises(InterruptedError):
                train(checkpoints=tmp_path, checkpoint_every=every)
    found, history = train(checkpoints=tmp_path, checkpoint_every=every)
    assert same(weights(found), weights(expected))
    assert found.fitted["image"]["objective"] == expected.fitted["image"]["objective"]
    assert history.training == straight.training
    assert history.counterfactual == straight.counterfactual
    assert len(history.counterfactual["image"]["factor of its own loss"]) == 3


def test_the_checkpoint_of_another_objective_is_refused(
    rows: Rows, predictors: Oracles, tmp_path: Path
) -> None:
    def train(**options: Any) -> None:
        aim = CounterfactualObjective(**{"predictors": predictors} | options)
        fit(tiny(), rows[:40], epochs=1, objective=aim, checkpoints=tmp_path, **QUIET)

    train()
    with pytest.raises(
        ValueError, match=r"the objective of image was CounterfactualObjective\(\) and is C"
    ):
        train(soft=True)
    others = copy.deepcopy(predictors)
    next(iter(others["image", "left"].parameters())).data[0] += 1e-3
    with pytest.raises(ValueError, match="the predictors of image was"):
        train(predictors=others)
    with pytest.raises(
        ValueError, match=r"the objective of image was CounterfactualObjective\(\) and is N"
    ):
        fit(tiny(), rows[:40], epochs=1, only=["image"], checkpoints=tmp_path, **QUIET)


def test_learned_carriers_must_be_as_they_were(
    rows: Rows, predictors: Oracles, tmp_path: Path
) -> None:
    def train(shift: float) -> None:
        torch.manual_seed(0)
        model = SCM(halves.GRAPH, {"image": Image(1, 8, 8)},
                    {"left": Equation("u"), "right": Flow(splines=0, hidden=()),
                     "image": VAE(**TINY)})  # fmt: skip
        model.fitted = {"right": {}, "image": {}}
        for parameter in model.mechanisms["right"].parameters():
            parameter.data += shift
        before = weights(model.mechanisms["right"])  # type: ignore[arg-type]
        fit(
            model, rows[:40], epochs=1, checkpoints=tmp_path,
            objective=CounterfactualObjective(predictors=predictors), **QUIET,
        )  # fmt: skip
        assert same(before, weights(model.mechanisms["right"]))  # type: ignore[arg-type]

    train(0.0)
    with pytest.raises(ValueError, match="the mechanism of right, frozen was"):
        train(0.1)


# What it mends -----------------------------------------------------------------------------------


def deaf(rows: Rows) -> SCM:
    """A VAE that was trained with the parents of other rows, and so does not listen to them."""
    torch.manual_seed(0)
    model = halves.scm(VAE(latent=8, width=8, depth=1, cooling=0))
    order = torch.randperm(rows.n)
    shuffled = {"image": rows["image"], **{k: rows[k][order] for k in ("left", "right")}}
    fit(
        model, shuffled, epochs=8, batch_size=32, lr=5e-3, **QUIET,
    )  # fmt: skip
    return model


def skill(model: SCM, test: Rows, name: str) -> float:
    do = {name: test[name].flip(0)}
    truth = halves.world().counterfactual(test, do)["image"]
    found = model.counterfactual(test, do, seed=0)["image"]
    return float(1 - (found - truth).abs().mean() / (test["image"] - truth).abs().mean())


def missed(model: SCM, test: Rows, name: str) -> dict[str, float]:
    """How far each cause, as measured on the images, lies from what it should be."""
    found = model.counterfactual(test, {name: test[name].flip(0)}, seed=0)
    seen = halves.measured(found["image"])
    return {k: float((v - found[k]).abs().mean()) for k, v in seen.items()}


def nelbo(model: SCM, rows: Rows) -> float:
    image = model.mechanisms["image"]
    with torch.no_grad():
        return float(image.eval().loss(rows["image"], {k: rows[k] for k in image.parents}))


@pytest.mark.slow
def test_a_model_that_does_not_listen_learns_to_within_its_likelihood() -> None:
    world = halves.world()
    train, test = world.sample(2000, seed=0), world.sample(400, seed=1)
    judges = fit_oracles(world, train[:1500], train[1500:], epochs=6, width=16, progress=False)
    base = deaf(train)
    options = {"epochs": 6, "batch_size": 32, "lr": 3e-3, **QUIET}
    for soft in (False, True):
        model = copy.deepcopy(base)
        aim = CounterfactualObjective(predictors=judges, soft=soft)
        fit(model, train, objective=aim, **options)
        assert skill(base, test, "left") < 0.05
        assert skill(model, test, "left") > 0.7
        for name in ("left", "right"):
            assert skill(model, test, name) > skill(base, test, name) + 0.3
            for cause, error in missed(model, test, name).items():
                assert error < 0.05, (name, cause)
        assert missed(base, test, "left")["left"] > 0.1
        assert nelbo(model, test) < 1.02 * nelbo(base, test)


@pytest.mark.slow
def test_from_the_start_it_takes_little_from_answers_that_are_good_already() -> None:
    """Eight epochs of it cost as much as twelve by likelihood."""
    world = halves.world()
    train, test = world.sample(2000, seed=0), world.sample(400, seed=1)
    judges = fit_oracles(world, train[:1500], train[1500:], epochs=6, width=16, progress=False)
    found = {}
    aim = CounterfactualObjective(weight=1.0, after=100, ramp=100, predictors=judges)
    for epochs, objective in ((12, "likelihood"), (8, aim)):
        torch.manual_seed(0)
        model = found[epochs] = halves.scm(VAE(latent=8, width=8, depth=1, cooling=0))
        fit(
            model, train, only=["image"], epochs=epochs, batch_size=32, lr=5e-3,
            objective=objective, **QUIET,
        )  # fmt: skip
    for name in ("left", "right"):
        assert skill(found[8], test, name) > max(0.6, skill(found[12], test, name) - 0.1)
    assert nelbo(found[8], test) < 1.02 * nelbo(found[12], test)
