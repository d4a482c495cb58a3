"""Audits: parts of a disparity against closed forms, their coverage, flips, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Rows
from rung3.effects import audit
from rung3.mechanisms import Equation, GumbelMax, InverseCDF

PARTS = ("disparity", "direct", "indirect", "spurious")
SELECTED = 0.4 * 0.6 / (0.4 * 0.6 + 0.6 * 0.3) - 0.4 * 0.4 / (0.4 * 0.4 + 0.6 * 0.7)
"""E[z | x = 1] - E[z | x = 0] of `linear`."""


def linear() -> SCM:
    """z comes before the protected x; w lies between x and y."""
    return SCM(
        "z -> x; {z x} -> w; {z x w} -> y",
        {"z": Binary(), "x": Binary()},
        {
            "z": InverseCDF(table=[0.6, 0.4]),
            "x": InverseCDF(table=[[0.7, 0.3], [0.4, 0.6]]),
            "w": Equation("1.5*x + 8*z + 0.5*u"),
            "y": Equation("2*x - 1.2*w + 15*z + 0.5*u"),
        },
    )


TRUTH = {
    "prediction": {"direct": 0.4, "indirect": 1.5, "spurious": 8 * SELECTED},
    "y": {"direct": 2.0, "indirect": -1.8, "spurious": (15 - 1.2 * 8) * SELECTED},
}
for parts in TRUTH.values():
    parts["disparity"] = sum(parts.values())


def score(x: Tensor, w: Tensor) -> Tensor:
    return 0.4 * x + w


def test_the_parts_of_a_linear_world_are_those_of_the_closed_form() -> None:
    found = audit(linear(), score, "x", "y", n=150_000, seed=0, paths=["x -> w -> y", "x -> y"])
    for name, parts in TRUTH.items():
        for part, value in parts.items():
            assert float(getattr(found.parts[name], part).effect) == pytest.approx(value, rel=0.01)
        one = found.parts[name]
        total = one.direct.effect + one.indirect.effect + one.spurious.effect
        assert float(total) == pytest.approx(float(one.disparity.effect), abs=1e-5)
    along = found.parts["y"].paths
    assert [round(float(e.effect), 4) for e in along.values()] == [-1.8, 2.0]
    assert found.flips is None  # of a number nothing is decided
    assert "rests on w: the equation is the true mechanism" in str(found)
    assert len(found.figure().axes) == 2


class Lines:
    """Learns w and y of `linear` again, by least squares on rows drawn with replacement."""

    cheap, scale = True, 1.0

    def __init__(self, rows: Rows) -> None:
        self.rows, self.world = rows, linear()

    def __call__(self, seed: int, names: Any = None) -> SCM:
        generator = torch.Generator().manual_seed(seed)
        return self.fitted(
            self.rows[torch.randint(self.rows.n, (self.rows.n,), generator=generator)]
        )

    def fitted(self, rows: Rows) -> SCM:
        causes = {"w": ("z", "x"), "y": ("z", "x", "w")}
        variables = self.world.variables
        return self.world.exchange(
            {
                name: _line(rows, names, name).bind(
                    name, variables[name], {cause: variables[cause] for cause in names}
                )
                for name, names in causes.items()
            }
        )


def _line(rows: Rows, causes: tuple[str, ...], name: str) -> Equation:
    columns = [torch.ones(rows.n), *(rows[cause] for cause in causes)]
    features = torch.stack([column.double() for column in columns], 1)
    b = torch.linalg.lstsq(features, rows[name].double()[:, None]).solution[:, 0].tolist()
    terms = [f"{slope:.9f}*{cause}" for slope, cause in zip(b[1:], causes, strict=True)]
    return Equation(" + ".join([f"{b[0]:.9f}", *terms, "0.5*u"]))


@pytest.mark.slow  # 20 minutes
def test_intervals_of_rows_and_learning_cover_as_often_as_they_say() -> None:
    world, hits, simulations = linear(), Counter[str](), 1000
    for seed in range(simulations):
        rows, lines = world.sample(300, seed=2 * seed), world.sample(300, seed=2 * seed + 1)
        learner = Lines(lines)
        model = learner.fitted(lines)
        model.relearn = learner
        found = audit(model, None, "x", "y", rows=dict(rows), seed=seed).parts["y"]
        for part, value in TRUTH["y"].items():
            hits[part] += value in getattr(found, part)
    shares = {part: count / simulations for part, count in hits.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


def discrete() -> SCM:
    return SCM(
        "a -> d; {a d} -> p",
        {"a": Binary(), "d": Binary(), "p": Binary(labels=("no", "yes"))},
        {
            "a": GumbelMax(table=[0.5, 0.5]),
            "d": GumbelMax(table=[[0.8, 0.2], [0.3, 0.7]]),
            "p": GumbelMax(table=[[[0.9, 0.1], [0.5, 0.5]], [[0.7, 0.3], [0.2, 0.8]]]),
        },
    )


def test_flips_are_counted_and_bounded() -> None:
    # The predictor reads d alone, so a decision flips where d does. Of two margins 0.2 and 0.7
    # the share that differs is 0.7 - 0.2 at least, and 0.7 + 0.2 at most.
    found = audit(discrete(), lambda d: d.float(), "a", "p", n=20_000, seed=2)
    assert found.flips is not None
    assert found.flip_bounds is not None
    bounds = found.flip_bounds
    assert bounds.low == pytest.approx(0.5, abs=0.03)
    assert bounds.high == pytest.approx(0.9, abs=0.03)
    assert bounds.low <= float(found.flips.high)
    assert float(found.flips.low) <= bounds.high
    assert float(found.parts["prediction"].direct.effect) == 0
    assert float(found.parts["prediction"].indirect.effect) == pytest.approx(0.5, abs=0.03)
    # of the outcome, by the table: E[p(1, D)] - E[p(0, D)] with D as in a = 1
    direct = 0.3 * (0.3 - 0.1) + 0.7 * (0.8 - 0.5)
    assert direct in found.parts["p"].direct
    assert "data alone allow" in str(found)


def test_a_predictor_that_never_heard_of_the_protected_variable_differs_spuriously() -> None:
    found = audit(linear(), lambda z: z.float(), "x", "y", n=2_000, seed=0).parts["prediction"]
    assert float(found.direct.effect) == float(found.indirect.effect) == 0
    assert float(found.spurious.effect) == float(found.disparity.effect) > 0.2


def test_peers_widen_the_intervals() -> None:
    world = linear()
    other = world.exchange(
        {
            "w": Equation("1.7*x + 8*z + 0.5*u").bind(
                "w", world.variables["w"], {k: world.variables[k] for k in "zx"}
            )
        }
    )
    rows = world.sample(500, seed=0)
    plain = audit(world, score, "x", "y", rows=rows, seed=0).parts["prediction"].indirect
    wide = audit(world, score, "x", "y", rows=rows, peers=[world, other], seed=0)
    indirect = wide.parts["prediction"].indirect
    assert float(plain.high - plain.low) == pytest.approx(0, abs=1e-5)
    assert float(indirect.high - indirect.low) > 0.2
    assert indirect.refits == 2


def test_what_no_data_can_tell_is_refused() -> None:
    model = SCM(
        "x -> m -> y; x -> y; m <-> y", {"x": Binary()}, {"x": InverseCDF(table=[0.5, 0.5])}
    )
    with pytest.raises(ValueError, match="recanting district"):
        audit(model, None, "x", "y", n=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protected": "y", "outcome": "x"}, "'y' has no path to 'x'"),
        ({"protected": "w"}, "w is Continuous.*compares groups"),
        ({"protected": "nobody"}, "nobody"),
        ({"groups": (0, 0)}, "both are 0"),
        ({"predictor": lambda w: w[:2]}, r"gave shape \(2,\) for 4 rows"),
        ({"predictor": lambda w: w.mul_(2)}, "changes its input w in place"),
        ({"predictor": lambda w: w + torch.rand(1)}, "asked again"),
        ({"predictor": lambda w: w - w.mean()}, "another batch"),
        ({"predictor": lambda w: w * torch.nan}, "NaN or infinity"),
        ({"predictor": lambda w: "yes"}, "gave str"),
        ({"predictor": lambda weight: weight}, "cannot tell what it reads"),
        ({"predictor": lambda w: w, "inputs": ["v"]}, "inputs: .*'v'"),
        ({"predictor": 3.0}, "expected a callable"),
        ({"rows": {"x": [0, 1]}}, "z: not given"),
        ({"level": 1.0}, "level"),
        ({"peers": [linear()]}, "peers: expected two"),
        ({"paths": ["x -> z -> y"]}, "not a causal path"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {
        "predictor": score,
        "protected": "x",
        "outcome": "y",
        "n": 50,
        "seed": 0,
    } | change
    with pytest.raises(ValueError, match=message):
        audit(linear(), **options)


def test_a_protected_variable_that_nothing_joins_with_the_predictor_is_refused() -> None:
    model = SCM("x -> y; w", {"x": Binary()}, {"x": InverseCDF(table=[0.5, 0.5])})
    with pytest.raises(ValueError, match=r"'x' has no path to the prediction: .*\['w'\]"):
        audit(model, torch.sigmoid, "x", inputs="w", n=50)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (lambda d: 2.0 * d, "gave 2, which is not a probability"),
        (lambda d: d - 0.5, "gave -0.5, which is not a probability"),
        (lambda d: torch.stack([d, d], 1).double() + 0.2, "not a probability"),
        (lambda d: torch.full((len(d), 3), 1 / 3), "gave 3 classes, and its outcome has 2"),
    ],
)
def test_what_is_no_probability_is_refused(predictor: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audit(discrete(), predictor, "a", "p", n=50, seed=1)


def test_scores_are_decided_as_told_and_groups_are_named() -> None:
    model = SCM(
        "g -> s -> y",
        {"g": Categorical(labels=("a", "b", "c")), "y": Categorical(3)},
        {
            "g": InverseCDF(table=[0.4, 0.3, 0.3]),
            "s": Equation(lambda g, u: g + u),
            "y": InverseCDF(),
        },
    )
    with pytest.raises(ValueError, match="has 3 values; name the two"):
        audit(model, None, "g", "y", event=2, n=50)
    with pytest.raises(ValueError, match="name the category that is looked at"):
        audit(model, None, "g", "y", groups=("a", "c"), n=50)
    found = audit(
        model, lambda s: s, "g", "y", groups=("a", "c"), event=2, decide=lambda s: s > 1,
        n=2_000, seed=0,
    )  # fmt: skip
    assert found.groups == ("a", "c")
    assert float(found.parts["prediction"].indirect.effect) == pytest.approx(2, abs=1e-3)
    normal = torch.distributions.Normal(0, 1)
    crossed = float(normal.cdf(torch.tensor(1.0)) - normal.cdf(torch.tensor(-1.0)))
    assert found.flips is not None
    assert crossed in found.flips
