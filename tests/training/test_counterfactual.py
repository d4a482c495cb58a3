"""The counterfactual objective: what it minimises, what it refuses, and what it mends."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, cast

import halves
import pytest
import torch
from fits import QUIET, same, weights
from objectives import TINY, bound, tiny
from torch import Tensor

from rung3 import SCM, Continuous, Image, Rows, evaluate, fit, load
from rung3.evaluation import Oracle, Oracles, fit_oracles
from rung3.mechanisms import VAE, Equation, Flow
from rung3.training.counterfactual import CounterfactualObjective, fit_predictors
from rung3.training.counterfactual.preparation import columns

# Predictors ---------------------------------------------------------------------------------------


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
        names = bound(tiny(), rows, halfblind, intervene=["left"])
    assert (names.read, names.chosen) == (["right"], ["left"])
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
    for name, read in zip(loss.read, loss.predictors, strict=True):
        oracle = cast(Oracle, read)
        assert torch.equal(oracle.residual, predictors["image", name].residual)
    assert all(oracle.explained.isnan() for oracle in given.values())
    assert loss.digests() == {n: predictors["image", n].digest() for n in ("left", "right")}


def test_its_own_predictors_are_not_those_of_evaluation() -> None:
    rows = halves.world().sample(60, seed=0)
    state = torch.get_rng_state()
    first, second = (fit_predictors(halves.world(), rows, progress=False) for _ in range(2))
    judges = fit_oracles(halves.world(), rows, epochs=1, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    for key, oracle in first.items():
        assert oracle.digest() == second[key].digest() != judges[key].digest()
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
    objective = model.fitted["image"]["objective"]
    assert (objective["kind"], objective["set"]) == ("counterfactual", ["left", "right"])
    assert objective["constraint"] > 0
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
    message = "oracles: the one that reads left off image was a predictor .*; fit others"
    quick: dict[str, Any] = {"bootstrap": 0, "progress": False, "n": 4, "particles": 1}
    with pytest.raises(ValueError, match=message):
        evaluate(model, rows[:10], oracles=predictors, **quick)
    others = fit_oracles(halves.world(), rows[:200], epochs=1, seed=6, progress=False)
    evaluate(model, rows[:10], oracles=others, **quick)
    mixed = Oracles({**others, ("image", "left"): copy.deepcopy(predictors["image", "left"])})
    with pytest.raises(ValueError, match=message):
        evaluate(model, rows[:10], oracles=mixed, **quick)


def test_what_no_image_depends_on_cannot_be_set() -> None:
    variables = {"left": Continuous(), "image": Image(1, 8, 8)}
    equations = {"left": Equation("u"), "late": Equation("left + u")}
    model = SCM("left -> {image late}", variables, {"image": VAE(**TINY), **equations})
    objective = CounterfactualObjective(weight=1.0, intervene=["left", "late"])
    with pytest.raises(ValueError, match=r"intervene: late has no path to image, .* \['left'\]"):
        columns(objective, model, ["image"])


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intervene": "left"}, r"intervene='left' must be a list of names"),
        ({"intervene": []}, r"intervene=\[\] must be a list of names"),
        ({"at_once": 0}, r"at_once=0 must be a whole number of at least 1"),
        ({"intervene": ["left"], "at_once": 2}, r"at_once=2 must be at least 1, and at most the"),
        ({"intervene": ["left", "left"]}, r"intervene=\['left', 'left'\] names a variable twice"),
        ({"kept": 1.5}, r"kept=1.5 must be a share between 0 and 1"),
        ({"share": 0.0}, r"share=0.0 must be a share between 0 and 1"),
        ({"weight": -1.0}, r"weight=-1.0 must be greater than 0"),
        ({"weight": math.nan}, r"weight=nan must be greater than 0"),
        ({"margin": -0.1}, r"margin=-0.1 must be at least 0"),
        ({"damping": math.inf}, r"damping=inf must be at least 0"),
        ({"committee": 0}, r"committee=0 must be a whole number of at least 1"),
        ({"jitter": -1}, r"jitter=-1 must be a whole number of at least 0"),
        ({"predictors": []}, r"predictors=\[\] must be Oracles, as fit_oracles returns them, or a"),
        (
            {"predictors": [Oracles({}), Oracles({})], "committee": 3},
            r"committee=3: 2 were given as predictors; give as many",
        ),
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
        (
            CounterfactualObjective(weight=1.0, jitter=4),
            {},
            r"jitter=4 must be less than half of the shortest side of image, 8 px",
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


# Checkpoints --------------------------------------------------------------------------------------


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
    resumed, history = train(checkpoints=tmp_path, checkpoint_every=every)
    assert same(weights(resumed), weights(expected))
    assert resumed.fitted["image"]["objective"] == expected.fitted["image"]["objective"]
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
        before = weights(model.mechanisms["right"])
        fit(
            model, rows[:40], epochs=1, checkpoints=tmp_path,
            objective=CounterfactualObjective(predictors=predictors), **QUIET,
        )  # fmt: skip
        assert same(before, weights(model.mechanisms["right"]))

    train(0.0)
    with pytest.raises(ValueError, match="the mechanism of right, frozen was"):
        train(0.1)


# What it mends ------------------------------------------------------------------------------------


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
    answer = model.counterfactual(test, do, seed=0)["image"]
    return float(1 - (answer - truth).abs().mean() / (test["image"] - truth).abs().mean())


def missed(model: SCM, test: Rows, name: str) -> dict[str, float]:
    """How far each cause, as measured on the images, lies from what it should be."""
    answer = model.counterfactual(test, {name: test[name].flip(0)}, seed=0)
    seen = halves.measured(answer["image"])
    return {k: float((v - answer[k]).abs().mean()) for k, v in seen.items()}


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
    weights = {}
    aim = CounterfactualObjective(weight=1.0, after=100, ramp=100, predictors=judges)
    aims: dict[int, Any] = {12: "likelihood", 8: aim}
    for epochs, objective in aims.items():
        torch.manual_seed(0)
        model = weights[epochs] = halves.scm(VAE(latent=8, width=8, depth=1, cooling=0))
        fit(
            model, train, only=["image"], epochs=epochs, batch_size=32, lr=5e-3,
            objective=objective, **QUIET,
        )  # fmt: skip
    for name in ("left", "right"):
        assert skill(weights[8], test, name) > max(0.6, skill(weights[12], test, name) - 0.1)
    assert nelbo(weights[8], test) < 1.02 * nelbo(weights[12], test)
