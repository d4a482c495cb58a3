"""Average effects from five tables beside DoWhy and EconML, in one process: error and CPU seconds.

Each table is redrawn under every seed, and its true effect is known. Every library estimates it
by the method that its documentation gives for such a table, with its defaults otherwise:

- `lines`: two-armed treatment, confounded in lines. DoWhy: linear regression.
- `curves`: confounded by a wave and a parabola; the effect differs between rows. DoWhy: weighting
  by the propensity. Ours: splines of each column, and trees, cross-fitted.
- `risk`: an outcome of yes or no. DoWhy: weighting by the propensity.
- `instrument`: a hidden cause, and an instrument of an amount.
- `front door`: a hidden cause, and a mediator. EconML has no estimator.

EconML: `LinearDRLearner`, whose models choose themselves, and `OrthoIV`. The error is the root of
the mean square over seeds, and in brackets that of the median, and the worst seed. Seconds are of
the processor, the library's first call aside. Of each rival it is said by how much the square
errors of rung3 are less on the same tables, in standard errors of that mean difference.

python benchmarks/bench_effects.py [--rows 2000] [--seeds 10] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rung3 import effect

SAME = 1e-9
"""Greatest difference of square errors that is of rounding."""

Draw = Callable[[np.random.Generator, int], dict[str, Any]]
Estimate = Callable[[pd.DataFrame], float]


@dataclass(frozen=True)
class Case:
    """A table: how it is drawn, its true effect, its graph, and how each library estimates it."""

    draw: Draw
    truth: float
    graph: str
    by: Mapping[str, Estimate]


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lines(rng: np.random.Generator, n: int) -> dict[str, Any]:
    a, b, c, e = rng.normal(size=(4, n))
    t = (rng.random(n) < logistic(a - b / 2)).astype(int)
    return {"a": a, "b": b, "c": c, "t": t, "y": 2 * t + a + b - c / 2 + e}


def curves(rng: np.random.Generator, n: int) -> dict[str, Any]:
    a, b, c, e = rng.normal(size=(4, n))
    t = (rng.random(n) < logistic(1.5 * np.sin(2 * a) + b / 2)).astype(int)
    return {"a": a, "b": b, "c": c, "t": t, "y": t * (1 + b) + 2 * np.sin(2 * a) + b**2 + e}


def risk(rng: np.random.Generator, n: int) -> dict[str, Any]:
    a, b, c = rng.normal(size=(3, n))
    t = (rng.random(n) < logistic(a)).astype(int)
    share = 0.2 + 0.15 * t + 0.3 * (logistic(2 * a) + logistic(b)) / 2
    return {"a": a, "b": b, "c": c, "t": t, "y": (rng.random(n) < share).astype(int)}


def instrument(rng: np.random.Generator, n: int) -> dict[str, Any]:
    z, hidden, e, f = rng.normal(size=(4, n))
    t = z / 2 + hidden + e
    return {"z": z, "t": t, "y": t / 2 + hidden + f}


def front_door(rng: np.random.Generator, n: int) -> dict[str, Any]:
    hidden, e, f = rng.normal(size=(3, n))
    t = (rng.random(n) < logistic(hidden)).astype(int)
    m = t + e
    return {"t": t, "m": m, "y": 2 * m + hidden + f}


def with_rung3(graph: str, **options: Any) -> Estimate:
    return lambda table: effect(table, "t", "y", graph=graph, **options).effect.effect


def trees() -> tuple[Any, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    small = {"max_iter": 60, "learning_rate": 0.1, "random_state": 0}
    return HistGradientBoostingRegressor(**small), HistGradientBoostingClassifier(**small)


def splines() -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    classifier = LogisticRegression(solver="newton-cholesky")
    return tuple(make_pipeline(SplineTransformer(8), one) for one in (Ridge(1e-3), classifier))


def dowhy(graph: str, method: str) -> Estimate:
    def estimate(table: pd.DataFrame) -> float:
        from dowhy import CausalModel

        logging.disable(logging.WARNING)
        model = CausalModel(table, treatment="t", outcome="y", graph=graph)
        estimand = model.identify_effect(proceed_when_unidentifiable=True)
        return float(model.estimate_effect(estimand, method_name=method).value)

    return estimate


def dr_learner(table: pd.DataFrame) -> float:
    from econml.dr import LinearDRLearner

    causes = table[["a", "b", "c"]].to_numpy()
    learner = LinearDRLearner(random_state=0)
    learner.fit(table["y"].to_numpy(), table["t"].to_numpy(), X=causes)
    return float(learner.ate(causes))


def ortho_iv(table: pd.DataFrame) -> float:
    from econml.iv.dml import OrthoIV

    columns = {name: table[name].to_numpy() for name in ("y", "t", "z")}
    learner = OrthoIV(random_state=0)
    learner.fit(columns["y"], columns["t"], Z=columns["z"], W=np.ones((len(table), 1)))
    return float(np.asarray(learner.effect()).ravel()[0])


BACK = "digraph {a -> t; a -> y; b -> t; b -> y; c -> y; t -> y;}"
BACK_TEXT = "{a b} -> t; {a b c t} -> y"
HIDDEN = "digraph {u [observed=no]; z -> t; t -> y; u -> t; u -> y;}"
FRONT = "digraph {u [observed=no]; t -> m; m -> y; u -> t; u -> y;}"
LINE, WEIGHT = "backdoor.linear_regression", "backdoor.propensity_score_weighting"
CASES = {
    "lines": Case(
        lines,
        2.0,
        BACK_TEXT,
        {
            "rung3": with_rung3(BACK_TEXT, adjust=["a", "b", "c"]),
            "DoWhy": dowhy(BACK, LINE),
            "EconML": dr_learner,
        },
    ),
    "curves": Case(
        curves,
        1.0,
        BACK_TEXT,
        {
            "rung3": with_rung3(BACK_TEXT, adjust=["a", "b", "c"], learner=splines()),
            "rung3, trees": with_rung3(BACK_TEXT, adjust=["a", "b", "c"], learner=trees()),
            "DoWhy": dowhy(BACK, WEIGHT),
            "EconML": dr_learner,
        },
    ),
    "risk": Case(
        risk,
        0.15,
        BACK_TEXT,
        {
            "rung3": with_rung3(BACK_TEXT, adjust=["a", "b", "c"]),
            "DoWhy": dowhy(BACK, WEIGHT),
            "EconML": dr_learner,
        },
    ),
    "instrument": Case(
        instrument,
        0.5,
        "z -> t -> y; t <-> y",
        {
            "rung3": with_rung3("z -> t -> y; t <-> y"),
            "DoWhy": dowhy(HIDDEN, "iv.instrumental_variable"),
            "EconML": ortho_iv,
        },
    ),
    "front door": Case(
        front_door,
        2.0,
        "t -> m -> y; t <-> y",
        {
            "rung3": with_rung3("t -> m -> y; t <-> y"),
            "DoWhy": dowhy(FRONT, "frontdoor.two_stage_regression"),
        },
    ),
}


def measured(case: Case, estimate: Estimate, rows: int, seeds: int) -> tuple[Any, float]:
    """Return the miss under each seed, and the mean seconds of a call after the first."""
    misses, seconds = [], []
    for seed in range(-1, seeds):
        table = pd.DataFrame(case.draw(np.random.default_rng(seed + 1), rows))
        start = time.process_time()
        value = estimate(table)
        if seed >= 0:
            seconds.append(time.process_time() - start)
            misses.append(value - case.truth)
    return np.array(misses), float(np.mean(seconds))


def compared(reference: Any, misses: Any) -> str:
    """Say how much less the reference's square errors are, in standard errors of the difference."""
    less = misses**2 - reference**2
    if np.abs(less).max() < SAME:
        return "the same"
    return f"{less.mean() / (less.std(ddof=1) / len(less) ** 0.5):+.1f} errors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--libraries", nargs="+", default=["rung3", "DoWhy", "EconML"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| table | library | error | rung3 is better by | CPU seconds |\n" + "|---" * 5 + "|")
    for name in options.tables:
        reference = None
        for library, estimate in CASES[name].by.items():
            if library.split(",")[0] not in options.libraries:
                continue
            misses, seconds = measured(CASES[name], estimate, options.rows, options.seeds)
            reference = misses if library == "rung3" else reference
            typical, error = np.median(misses**2) ** 0.5, np.mean(misses**2) ** 0.5
            worst = f"worst {np.abs(misses).max():.4g} under seed {np.abs(misses).argmax() + 1}"
            is_rival = reference is not None and reference is not misses
            better = compared(reference, misses) if is_rival else ""
            print(
                f"| {name} | {library} | {error:.4f} ({typical:.4f}; {worst}) | {better} "
                f"| {seconds:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
