"""Explanations of predictors: closed forms, parts that add up, and what a world says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Image, Rows, explain, worlds
from rung3.effects import with_predictor
from rung3.effects.bounds import probabilities_of_causation
from rung3.mechanisms import HVAE, AdditiveNoise, Equation, InverseCDF, Stage
from rung3.scm.zoo import find_model
from rung3.study.folder import RunFolder


def linear() -> SCM:
    return SCM(x=Equation("u"), m=Equation("x + u"), aside=Equation("u"))


ROW = {"x": -2.0, "m": -2.0, "aside": 0.0}


def test_an_effect_is_shared_among_its_ways() -> None:
    why = explain(
        linear(), lambda x, m: 2 * x + 3 * m, ROW, outcome="x",
        do={"up": {"x": 0.0}, "m": {"m": 0.0}}, seed=0,
    )  # fmt: skip
    up = next(one for one in why.effects if one.label == "up")
    assert float(up.total.effect) == pytest.approx(10, abs=1e-4)
    assert up.total.over == "noise"  # of one row
    parts = {name: float(part.effect) for name, part in up.parts.items()}
    assert parts == pytest.approx({"direct": 4.0, "m": 6.0}, abs=1e-4)
    assert why.effects[0].label == "up"  # the largest first
    assert why.decisions is None
    assert why.flip is None
    # x m: -2 -> 1 changes x m from 4 to 1; alone, x gives -2 and m gives -2
    crossed = explain(
        linear(), lambda x, m: x * m, ROW, outcome="x", do={"up": {"x": 1.0}}, seed=0
    ).effects[0]
    shares = [float(part.effect) for part in crossed.parts.values()]
    assert shares == pytest.approx([-1.5, -1.5], abs=1e-4)
    assert float(crossed.total.effect) == pytest.approx(-3, abs=1e-4)


def test_several_rows_are_explained_on_average_with_an_interval() -> None:
    rows = linear().sample(400, seed=1)
    why = explain(
        linear(), lambda x, m: x * m, rows, outcome="x", do={"up": {"x": lambda x: x + 1}}, seed=0
    )
    truth = ((rows["x"] + 1) * (rows["m"] + 1) - rows["x"] * rows["m"]).double()
    total = why.effects[0].total
    assert float(total.effect) == pytest.approx(float(truth.mean()), abs=1e-5)
    assert float(total.high - total.low) == pytest.approx(
        2 * 1.966 * float(truth.std()) / 20, rel=0.05
    )
    assert total.over == "rows"
    assert "mean of 400 rows" in str(why)


def brightness(image: Tensor) -> Tensor:
    return image.flatten(1).mean(1)


def test_of_an_image_the_parts_add_up_and_the_total_is_the_counterfactual() -> None:
    world = worlds.digits()
    rows = world.sample(3, seed=0)
    do = {"thick": {"thickness": 5.0}}
    effect = explain(world, brightness, rows, do=do, particles=2, seed=0).effects[0]
    assert set(effect.parts) == {"direct", "intensity"}
    after = brightness(world.counterfactual(rows, do["thick"])["image"])
    expected = float((after - brightness(rows["image"])).mean())
    assert float(effect.total.effect) == pytest.approx(expected, abs=1e-5)
    parts = sum(float(part.effect) for part in effect.parts.values())
    assert parts == pytest.approx(expected, abs=1e-6)


def test_latents_of_an_image_are_a_way_of_their_own() -> None:
    model = SCM(
        graph="t -> i; {t i} -> scan",
        variables={"scan": Image(1, 16, 16)},
        mechanisms={
            "t": Equation("u"),
            "i": Equation("t + u"),
            "scan": HVAE(
                prior="conditional", stages=(Stage(8, 4, latents=2), Stage(4, 8, latents=2))
            ),
        },
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    rows = model.eval().requires_grad_(False).sample(2, seed=0)
    found = explain(model, brightness, rows, do={"t": {"t": 2.0}}, particles=3, seed=0).effects[0]
    assert list(found.parts) == ["direct", "i", "latent"]
    parts = {name: float(part.effect) for name, part in found.parts.items()}
    assert sum(parts.values()) == pytest.approx(float(found.total.effect), abs=1e-6)
    assert abs(parts["latent"]) > 1e-4
    # with its own pixels' noise, and not by decoder means: what the counterfactual gives
    after = model.counterfactual(rows, {"t": 2.0}, particles=64, seed=0)["scan"]
    expected = after.flatten(2).mean(2).mean() - brightness(rows["scan"]).mean()
    assert float(found.total.effect) == pytest.approx(float(expected), abs=0.02)


def test_the_smallest_flip_goes_along_the_graph() -> None:
    # Setting x moves m too, so x + m > -1 needs x = -0.5: 1.5 deviations. By m alone it takes 3.
    why = explain(
        linear(), lambda x, m: x + m, ROW, decide=lambda s: s > -1, do={"m": {"m": 0.0}}, seed=0
    )
    assert why.flip is not None
    assert list(why.flip.do) == ["x"]
    assert float(why.flip.do["x"]) == pytest.approx(-0.5, abs=1e-3)
    assert why.flip.cost == pytest.approx(1.5, rel=0.1)
    assert "flips with: x -2 -> -0.49" in str(why) or "flips with: x -2 -> -0.5" in str(why)
    never = explain(linear(), lambda x: 0 * x, ROW, do={"x": {"x": 0.0}}, seed=0)
    assert never.flip is None
    assert not never.causes


def test_necessity_and_sufficiency_are_the_probabilities_of_causation() -> None:
    world = worlds.exam()

    def passes(passed: Tensor) -> Tensor:
        return passed.double()

    rows = world.sample(20_000, seed=0)
    both = (rows["studied"] == 1) & (rows["passed"] == 1)
    why = explain(
        world, passes, rows[both][:1_000], do={"no": {"studied": 0}}, typical=rows, particles=1,
        seed=0,
    )  # fmt: skip
    truth = probabilities_of_causation(world, "studied", "passed", n=20_000, seed=1)
    judged = probabilities_of_causation(
        with_predictor(world, passes), "studied", "prediction", event=lambda p: p >= 0.5, n=20_000,
        seed=1,
    )  # fmt: skip
    assert truth.necessity is not None
    assert truth.sufficiency is not None
    assert judged.necessity == truth.necessity
    found = why.causes["studied"]
    assert float(found.necessity.effect) == pytest.approx(truth.necessity.effect, abs=0.05)
    assert float(found.sufficiency.effect) == pytest.approx(truth.sufficiency.effect, abs=0.05)


def test_an_image_model_tells_whether_effusion_was_necessary_for_the_verdict() -> None:
    # Brightness is 0.2 + 0.3 effusion + v with v in [0, 0.4]; bright means above 0.5. Of images
    # with effusion all are bright, and without it those of v > 0.3 still are: PN = 3/4.
    model = SCM(
        "{effusion v} -> image",
        {"effusion": Binary(), "image": Image(1, 2, 2, bits=None)},
        {
            "effusion": InverseCDF(table=[0.5, 0.5]),
            "v": Equation("0.4*u", noise="Uniform(0, 1)"),
            "image": Equation(
                lambda effusion, v: (0.2 + 0.3 * effusion + v)[:, None, None, None].expand(
                    -1, 1, 2, 2
                )
            ),
        },
    )
    judged = with_predictor(model, brightness)
    found = probabilities_of_causation(
        judged, "effusion", "prediction", event=lambda p: p > 0.5, n=4_000, seed=0
    )
    assert found.necessity is not None
    assert 0.75 in found.necessity
    row = {"effusion": 1, "v": 0.05, "image": torch.full((1, 2, 2), 0.55)}
    why = explain(
        model, brightness, row, decide=lambda p: p > 0.5, typical=model.sample(500, seed=0)
    )
    assert float(why.causes["effusion"].necessity.effect) == 1
    assert why.images
    assert len(why.figure().axes) == len(why.images) + len(why.effects)


def test_of_several_classes_the_one_decided_for_is_explained() -> None:
    def shares(m: Tensor) -> Tensor:
        return torch.softmax(torch.stack([m, -m, 0 * m], 1), 1)

    why = explain(linear(), shares, ROW, do={"m": {"m": 2.0}}, seed=0)
    low, high = (float(shares(torch.tensor([m]))[0, 1]) for m in (2.0, -2.0))
    assert float(why.outputs[0]) == pytest.approx(high)
    assert float(why.effects[0].total.effect) == pytest.approx(low - high, abs=1e-5)
    assert int(explain(linear(), shares, ROW, do={"m": {"m": 2.0}}, event=0).outputs[0] > 0.1) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictor": lambda image: image}, "cannot tell what it reads"),
        ({"predictor": lambda m: 3 * m}, "not a probability"),
        ({"do": {"up": 3.0}}, "must be a mapping"),
        ({"do": {"aside": {"aside": 1.0}}}, "no effect on what the predictor reads"),
        ({"rows": {"x": 1.0}}, "m: not given"),
        ({"peers": [linear()]}, "peers: expected two"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "predictor": lambda m: torch.sigmoid(m),
        "rows": ROW,
        "do": {"m": {"m": 1.0}},
    } | change
    with pytest.raises(ValueError, match=message):
        explain(linear(), **given)


@pytest.mark.slow  # 10 seconds
def test_effects_of_a_fitted_model_rank_as_the_worlds() -> None:
    world = SCM(
        a=Equation("u"), b=Equation("a + 0.5*a**2 + u"), c=Equation("tanh(b) - a + u"),
        d=Equation("b*c/2 + u"),
    )  # fmt: skip
    model = SCM(world.graph, mechanisms={name: AdditiveNoise(hidden=8) for name in "abcd"})
    rows = world.sample(2_000, seed=0)
    for name, mechanism in model.mechanisms.items():
        mechanism.calibrate(rows[name], {p: rows[p] for p in world.graph.parents(name)})

    def risk(b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return torch.sigmoid(b - c + d)

    options: dict[str, Any] = {"typical": world.sample(500, seed=2), "particles": 4, "seed": 0}
    rows = world.sample(200, seed=1)
    truth = explain(world, risk, rows, **options)
    assert explain(model, risk, rows, **options).agreement(truth) >= 0.9


@pytest.mark.slow  # a quarter of a minute
def test_effects_on_images_are_ranked_as_the_truth() -> None:
    run, world = RunFolder(find_model("rung3/digits")), worlds.digits()
    model, rows = run.model().requires_grad_(False), world.sample(40, seed=5)
    values = {"thickness": (1.5, 2.5, 3.6), "intensity": (90.0, 150.0, 240.0), "digit": (1, 6)}
    do = {f"{name}={v}": {name: v} for name, some in values.items() for v in some}

    def bright(image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(40 * (image.flatten(1).mean(1) - 0.12))

    def agreement(some: Rows, particles: int) -> float:
        options: dict[str, Any] = {"do": do, "typical": rows, "seed": 0}
        truth = explain(world, bright, some, particles=1, **options)
        return explain(model, bright, dict(some), particles=particles, **options).agreement(truth)

    assert agreement(rows, 1) >= 0.9
    assert min(agreement(rows[k], 8) for k in range(12)) >= 0.9
