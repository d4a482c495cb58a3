"""The counterfactual loss: what is imagined, what is minimised, and which rows take part."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import halves
import pytest
import torch
from fits import QUIET, same, weights
from objectives import TINY, Gain, bound, tiny
from torch import Generator, Tensor, nn

from rung3 import SCM, Binary, Continuous, Image, Rows, fit
from rung3.data.rows import Noise
from rung3.evaluation import Oracle, Oracles
from rung3.mechanisms import HVAE, VAE, Equation, FlowMatching, Stage
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.training.batches import Table
from rung3.training.counterfactual import CounterfactualObjective
from rung3.training.counterfactual.loss import propagate
from rung3.training.counterfactual.preparation import columns, rehearsal

# What is imagined ---------------------------------------------------------------------------------


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
        propagated, changed = propagate(carriers, {k: rows[k] for k in "abce"}, to)
        expected = model.counterfactual(rows, to, seed=1)
    below = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "e": {"c"}}
    assert changed == set(do).union(*(below[name] for name in do))
    for name in set("abce") - {"b", "c"} | set(do):
        assert torch.equal(propagated[name], expected[name]), name
    if "a" not in do:  # abducting b draws random numbers
        torch.testing.assert_close(propagated["c"], expected["c"])


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
    for many, values in seen.items():
        loss = bound(tiny(), rows, predictors, at_once=many)
        for _ in range(20):
            imagined, changed = loss.imagine(factual)
            moved = [n for n in factual if not torch.equal(imagined[n], factual[n])]
            permuted = [
                n for n in moved if torch.equal(imagined[n].sort().values, factual[n].sort().values)
            ]
            values.add(tuple(permuted))
            assert changed == set(moved)
    # Setting left moves right along, and then right is not a permutation of what it was.
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


@pytest.mark.parametrize("kind", [None, FlowMatching(network={"width": 16}, steps=1)])
def test_gradients_reach_the_decoder_and_the_latents_but_not_what_predicts_or_carries(
    kind: Mechanism | None, rows: Rows, predictors: Oracles
) -> None:
    model = tiny(kind)
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
    for share in (0.0, 0.5, 1.0):
        tempered: Any = bound(tiny(), rows, predictors, kept=share).temper(
            noise, mechanism, 200, torch.arange(200)
        )
        assert torch.equal(tempered["z"], noise["z"])
        shares = tempered["eps"].flatten(1).mean(1)
        assert set(shares.unique().tolist()) <= {0.0, 1.0}
        assert shares.mean() == pytest.approx(share, abs=0.1)


# What is minimised --------------------------------------------------------------------------------


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
        assert torch.equal(step.plain, mechanism.loss(*batch.of(mechanism)))
        cost, factor, n = loss.sums.tolist()
        assert (factor, n) == (1.0, 1.0)
        total = (step.plain + weight * cost / 64).item()
        assert step.total.item() == pytest.approx(total, rel=1e-5)


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
    actual = loss.log_loss(rows["image"][20:30], image, parents, {"left", "right"})
    torch.testing.assert_close(actual, expected.mean())


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
    weights = [loss.weight(step) for step in (0, 9, 10, 11, 13, 1000)]
    assert weights == pytest.approx([0.0, 0.0, 0.5, 1.0, 2.0, 2.0])
    assert bound(tiny(), rows, predictors, after=0, ramp=0).weight(0) == 1


def test_the_multiplier_holds_the_loss_below_its_bound_and_never_pulls_it_up(
    rows: Rows, predictors: Oracles
) -> None:
    loss = bound(tiny(), rows, predictors, weight=None, rate=0.1, damping=50.0)
    loss.bound.fill_(1.0)
    # Above the bound by 0.2: damping alone at first, and then the multiplier too.
    assert loss.factor(torch.tensor(1.2)).item() == pytest.approx(10)
    assert loss.multiplier.item() == pytest.approx(1)
    assert loss.factor(torch.tensor(1.2)).item() == pytest.approx(11)
    assert loss.multiplier.item() == pytest.approx(2)
    # Below it: less, down to nothing, and nothing negative.
    assert loss.factor(torch.tensor(0.98)).item() == pytest.approx(1, rel=1e-4)
    assert loss.factor(torch.tensor(0.5)).item() == 0
    assert loss.multiplier.item() == 0
    loss.multiplier.fill_(3.0)
    loss.factor(torch.tensor(math.nan))
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
        actual = (
            copy.deepcopy(mechanism).train().loss(*Table(rows, [mechanism]).all().of(mechanism))
        )
    assert loss.bound.item() == pytest.approx(actual.item(), rel=1e-2)
    assert wider.bound.item() == pytest.approx(1.1 * loss.bound.item(), rel=1e-5)
    assert same(weights(model), before)  # measuring it leaves the schedules where they were


def test_until_the_objective_begins_training_is_that_by_likelihood(
    rows: Rows, predictors: Oracles
) -> None:
    losses = []
    for objective in (
        "likelihood",
        CounterfactualObjective(weight=1.0, after=4, predictors=predictors),
    ):
        model = tiny(fitted=False)
        fit(
            model, rows[:40], only=["image"], epochs=2, batch_size=20, validation_share=0,
            objective=objective, **QUIET,
        )  # fmt: skip
        losses.append(weights(model))
    assert same(*losses)


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
    shifts = {}
    for soft in (False, True):
        model = tiny(Corrects())
        fit(
            model, {**rows, "left": labels, "image": plain}, epochs=2, batch_size=50, lr=0.05,
            validation_share=0, **QUIET,
            objective=CounterfactualObjective(
                predictors=predictors, intervene=["right"], soft=soft
            ),
        )  # fmt: skip
        shifts[soft] = model.mechanisms["image"].state_dict()["theta"].item()
    assert shifts[False] > 0.5
    assert abs(shifts[True]) < 0.02


# Rows that lack something -------------------------------------------------------------------------


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
    assert step.total is step.plain
    assert step.total.isfinite()


# The committee -----------------------------------------------------------------------------------


def test_each_step_asks_one_member_of_the_committee(rows: Rows, predictors: Oracles) -> None:
    """One member agrees with the parents, the other takes each class for another."""
    contrary = Oracles({pair: copy.deepcopy(oracle) for pair, oracle in predictors.items()})
    for oracle in contrary.values():
        for parameter in oracle.head.parameters():
            parameter.data *= -1
    loss = bound(tiny(), rows, [predictors, contrary])
    images = rows["image"][:20]
    parents = {name: rows[name][:20] for name in loss.read}
    torch.manual_seed(0)
    costs = {round(float(loss.log_loss(images, images, parents, ())), 4) for _ in range(20)}
    alone = [
        float(bound(tiny(), rows, [one]).log_loss(images, images, parents, ()))
        for one in (predictors, contrary)
    ]
    assert sorted(costs) == pytest.approx(sorted(alone), abs=1e-3)
    digests = {oracle.digest() for member in (predictors, contrary) for oracle in member.values()}
    assert set(loss.digests().values()) == digests


def test_a_parent_counts_as_legible_only_if_every_member_reads_it(
    rows: Rows, predictors: Oracles
) -> None:
    blind = Oracles({pair: copy.deepcopy(oracle) for pair, oracle in predictors.items()})
    blind["image", "left"].explained.fill_(0.05)
    with pytest.warns(UserWarning, match=r"left cannot be read .* explain 5% of left"):
        loss = bound(tiny(), rows, [predictors, blind])
    assert loss.read == ["right"]


def test_members_that_read_other_parents_are_refused(rows: Rows, predictors: Oracles) -> None:
    half = Oracles({("image", "left"): predictors["image", "left"]})
    with pytest.raises(ValueError, match=r"member 2 reads \['left'\] and the first \['left', 'ri"):
        bound(tiny(), rows, [predictors, half])


def test_images_are_moved_alike_by_a_few_pixels_and_their_edges_repeated(
    rows: Rows, predictors: Oracles
) -> None:
    loss = bound(tiny(), rows, predictors, jitter=1)
    image = torch.arange(64.0).view(1, 1, 8, 8)
    torch.manual_seed(0)
    moved = {tuple(loss.shift(image, image + 1)[0].flatten().tolist()) for _ in range(100)}
    expected = {
        tuple(image[0, 0][rows_][:, columns_].flatten().tolist())
        for rows_ in ([0, *range(7)], range(8), [*range(1, 8), 7])
        for columns_ in ([0, *range(7)], range(8), [*range(1, 8), 7])
    }
    assert moved == expected
    one, other = loss.shift(image, image + 1)
    assert torch.equal(other, one + 1)
    assert loss.shift(torch.rand(2, 1, 4, 5, 6))[0].shape == (2, 1, 4, 5, 6)
    plain = bound(tiny(), rows, predictors)
    state = torch.random.get_rng_state()
    assert plain.shift(image)[0] is image
    assert torch.equal(torch.random.get_rng_state(), state)
