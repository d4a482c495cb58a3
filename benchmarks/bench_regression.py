"""The networks of `AdditiveNoise` beside scikit-learn's regressors: error of the mean, and time.

Problems are the equations of `rung3.worlds.tables` with additive noise, `x := f(pa) + g(u)`, and a
few waves, steps and bumps. Every regressor learns from the same rows, in one process and by turns.
A counterfactual moves the factual value by `m(pa~) - m(pa)`, so the error is that of differences of
m: the deviation of `m - f`, over that of f, on 4,000 rows whose parents are

- as observed: fresh rows of the same world; and
- as set: the same values, each parent shuffled by itself, as interventions set them.

Seconds are those spent on the processor, with one thread. Ratios are geometric means over problems.

    OMP_NUM_THREADS=1 python benchmarks/bench_regression.py [--rows 500 5000] [--seeds 0]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler
from torch import Tensor

from rung3 import SCM, Continuous
from rung3.mechanisms import AdditiveNoise, Equation
from rung3.worlds.tables import ADDITIVE, suite

TEST_ROWS = 4_000
"""Fresh rows that errors are measured on."""

GP_ROWS = 1_000
"""Most rows of a Gaussian process: its time grows as their cube."""

LEAST_ERROR = 1e-4
"""Least error, relative to the deviation of f, that a ratio counts: below, all are as good."""

SHAPES: Mapping[str, Mapping[str, str]] = {
    "wave": {"x": "u", "y": "sin(4*x) + 0.3*u"},
    "steps": {"x": "u", "y": "where(x > -1, 1, 0) + where(x > 0.5, 2, 0) + 0.3*u"},
    "bump": {"x": "u", "y": "3*exp(-20*(x - 0.5)**2) + 0.3*u"},
    "ridge": {"a": "u", "b": "u", "y": "3*sigmoid(8*(a + b)) + 0.3*u"},
    "product": {"a": "u", "b": "u", "c": "u", "y": "a*b*c + 0.3*u"},
}
"""Functions of other kinds than the suite's, with normal noise; `u` is standard normal."""

REPEATED = {f"x{k}" for k in range(3, 8)}
"""Variables of `backdoor` with the equation of its `x2`, left out."""

OURS = "rung3"


class Problem(NamedTuple):
    """One equation: its world, its variable, and the names of its parents."""

    world: SCM
    variable: str
    parents: tuple[str, ...]


class Data(NamedTuple):
    """Features `(n, d)`, targets `(n,)` of training, and features and f `(n,)` by kind of test."""

    features: Tensor
    target: Tensor
    tests: dict[str, tuple[Tensor, Tensor]]


Fitted = Callable[[Tensor], Tensor]
Make = Callable[[int], Any]
"""A regressor of scikit-learn for so many features."""


def problems() -> dict[str, Problem]:
    """Return every equation that has parents, by name."""
    worlds = {name: suite(name) for name in ADDITIVE}
    worlds |= {
        name: SCM(mechanisms={variable: Equation(text) for variable, text in equations.items()})
        for name, equations in SHAPES.items()
    }
    return {
        f"{name} {variable}": Problem(world, variable, world.graph.parents(variable))
        for name, world in worlds.items()
        for variable in world.graph.nodes
        if world.graph.parents(variable) and not (name == "backdoor" and variable in REPEATED)
    }


def draw(problem: Problem, rows: int, seed: int) -> Data:
    """Draw training rows, and both kinds of test rows with the true f, up to a constant."""
    world, variable, names = problem
    train, test = world.sample(rows, seed=seed), world.sample(TEST_ROWS, seed=10_000 + seed)
    generator = torch.Generator().manual_seed(seed)
    shuffled = {k: test[k][torch.randperm(TEST_ROWS, generator=generator)] for k in names}
    tests = {}
    for kind, parents in {"observed": {k: test[k] for k in names}, "set": shuffled}.items():
        constant = torch.full((TEST_ROWS,), 0.5)
        truth = world.mechanisms[variable].predict(constant, parents)
        tests[kind] = torch.stack([parents[k] for k in names], 1), truth
    return Data(torch.stack([train[k] for k in names], 1), train[variable], tests)


def networks(data: Data) -> Fitted:
    """Fit `AdditiveNoise()`, its noise included."""
    names = [f"p{k}" for k in range(data.features.shape[1])]

    def parents(features: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, features.unbind(1), strict=True))

    torch.manual_seed(0)
    mechanism = AdditiveNoise().bind("y", Continuous(), dict.fromkeys(names, Continuous()))
    mechanism.calibrate(data.target, parents(data.features))
    return lambda features: mechanism.predict(torch.zeros(len(features)), parents(features))


def scikit(regressor: Make, max_rows: int | None = None) -> Callable[[Data], Fitted]:
    """Fit a regressor of scikit-learn, made for so many features, on standardised ones."""

    def fit(data: Data) -> Fitted:
        model = make_pipeline(StandardScaler(), regressor(data.features.shape[1]))
        model.fit(data.features[:max_rows].double().numpy(), data.target[:max_rows].numpy())
        return lambda features: torch.from_numpy(model.predict(features.double().numpy()))

    return fit


def splines(features: int) -> Any:
    """Return cubic splines of each feature and products of two, with ridge by leave-one-out."""
    return make_pipeline(
        SplineTransformer(n_knots=8, knots="quantile", extrapolation="linear", include_bias=False),
        PolynomialFeatures(2, interaction_only=True, include_bias=False),
        RidgeCV(np.logspace(-4, 4, 9)),
    )


def gaussian_process(features: int) -> Any:
    """Return a Gaussian process with a length for each feature, by maximal likelihood."""
    kernel = ConstantKernel() * RBF(np.ones(features)) + WhiteKernel(0.1)
    return GaussianProcessRegressor(kernel, normalize_y=True)


def boosting(features: int) -> Any:
    """Return gradient boosting that stops by rows held out."""
    return HistGradientBoostingRegressor(
        max_iter=500, learning_rate=0.05, early_stopping=True, random_state=0
    )


CONTENDERS: Mapping[str, Callable[[Data], Fitted]] = {
    OURS: networks,
    "splines": scikit(splines),
    "boosting": scikit(boosting),
    "Gaussian process": scikit(gaussian_process, GP_ROWS),
}


def error(predicted: Tensor, truth: Tensor) -> float:
    """Return the deviation of the error over that of the truth: a constant does not count."""
    return float((predicted.double() - truth.double()).std() / truth.double().std())


def measure(data: Data) -> dict[str, dict[str, float]]:
    """Return the errors by kind of test, and the seconds of fitting, of each contender."""
    scores = {}
    for name, fit in CONTENDERS.items():
        start = time.process_time()
        fitted = fit(data)
        seconds = time.process_time() - start
        with torch.no_grad():
            errors = {kind: error(fitted(x), f) for kind, (x, f) in data.tests.items()}
        scores[name] = {**errors, "seconds": seconds}
    return scores


def ratios(scores: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return rung3's errors and seconds over each other's, and how often its error is lower."""

    def over(other: str, what: str) -> list[float]:
        least = 0.0 if what == "seconds" else LEAST_ERROR
        return [max(one[OURS][what], least) / max(one[other][what], least) for one in scores]

    table = {}
    for other in [name for name in CONTENDERS if name != OURS]:
        by_kind = {what: over(other, what) for what in ("observed", "set", "seconds")}
        table[other] = {what: statistics.geometric_mean(r) for what, r in by_kind.items()}
        table[other]["better"] = statistics.fmean(ratio < 1 for ratio in by_kind["set"])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 5_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure(draw(problems()["wave y"], 200, 0))  # imports, and what is compiled once
    measured: dict[str, Any] = {}
    for rows in options.rows:
        scores = {
            f"{name}, seed {seed}": measure(draw(problem, rows, seed))
            for name, problem in problems().items()
            for seed in options.seeds
        }
        print(f"\n{rows} rows: error as set (seconds)")
        print(f"{'':26}" + "".join(f"{name:>24}" for name in CONTENDERS))
        for name, by_contender in scores.items():
            cells = [f"{s['set']:.4f} ({s['seconds']:.2f})" for s in by_contender.values()]
            print(f"{name:26}" + "".join(f"{cell:>24}" for cell in cells))
        table = ratios(list(scores.values()))
        for other, by in table.items():
            print(
                f"rung3 / {other}: error as observed {by['observed']:.2f}, as set {by['set']:.2f} "
                f"(better in {by['better']:.0%}), seconds {by['seconds']:.2f}"
            )
        measured[str(rows)] = {"ratios": table, "scores": scores}
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
