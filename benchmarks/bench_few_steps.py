"""Counterfactuals a second at 2, 4, 20 and 50 steps of a path, with their skill, beside an HVAE's.

    python benchmarks/bench_few_steps.py MODEL --study studies/morphomnist-flow.yaml
    python benchmarks/bench_few_steps.py MODEL --beside RECTIFIED HVAE_MODEL --plot few-steps.png

Models are folders that `rung3 run` or `SCM.save` wrote; the study says the world and its test rows.
A model whose image mechanism takes `steps` is asked at each number of them, by each solver, another
once. A
counterfactual is abduction, action and prediction of the image, given the true counterfactual
parents (`benchmarks/skill.py`); seconds are those of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import torch

from rung3 import load
from rung3.mechanisms import Mechanism
from rung3.mechanisms.inversion import INVERSIONS
from rung3.study.study import Study
from skill import Question, imagine, questions

STUDY = Path(__file__).parents[1] / "studies" / "morphomnist-flow.yaml"
IMAGE = "image"


@torch.no_grad()
def measured(
    mechanism: Mechanism, test: Any, by_cause: dict[str, Question], keep_eps: bool
) -> tuple[float, dict[str, float]]:
    """Counterfactuals a second, and skill by intervention."""
    n = len(next(iter(by_cause.values())).truth)
    x, parents = test[IMAGE][:n], {name: test[name][:n] for name in mechanism.parents}
    skills, start = {}, time.process_time()
    for label, question in by_cause.items():
        answer = imagine(mechanism, x, parents, question.parents, keep_eps=keep_eps)
        error, change = ((part - question.truth).abs().mean() for part in (answer, x))
        skills[label] = float(1 - error / change)
    return len(by_cause) * n / (time.process_time() - start), skills


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--beside", nargs="*", default=[], help="other models")
    parser.add_argument("--study", default=STUDY)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 20, 50])
    parser.add_argument("--solvers", nargs="+", default=["heun"], choices=list(INVERSIONS))
    parser.add_argument("--causes", nargs="+", default=["thickness", "intensity"])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--plot", help="where the picture goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    _, _, test, world = Study.load(options.study, options.set).splits()
    if world is None:
        raise SystemExit(f"{options.study}: its truth is not known; set data.mnist")
    by_cause = questions(world, test, IMAGE, options.causes, torch.device("cpu"), options.rows)
    curves: dict[str, list[tuple[str, float, dict[str, float]]]] = {}
    print(f"{'':44}{'a second':>10}" + "".join(f"{label:>18}" for label in by_cause))
    for place in (options.model, *options.beside):
        mechanism = load(place).mechanisms[IMAGE]
        takes = "steps" in mechanism.query_options
        ways = itertools.product(options.solvers, options.steps) if takes else [("", None)]
        for solver, steps in ways:
            chosen = mechanism.for_query(steps=steps, solver=solver) if steps else mechanism
            curve = f"{Path(place).name}, {solver}" if steps else Path(place).name
            name = f"{curve}, {steps} steps" if steps else curve
            rate, skills = measured(chosen, test, by_cause, keep_eps=True)
            curves.setdefault(curve, []).append((str(steps or ""), rate, skills))
            print(
                f"{name:44}{rate:10.1f}" + "".join(f"{skill:18.3f}" for skill in skills.values()),
                flush=True,
            )
    if options.plot:
        draw(curves, list(by_cause), options.plot)


def draw(
    curves: dict[str, list[tuple[str, float, dict[str, float]]]], labels: list[str], path: str
) -> None:
    """Draw skill over counterfactuals a second, one panel an intervention."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(labels), 3.8), layout="constrained")
    panels = figure.subplots(1, len(labels), squeeze=False, sharey=True)[0]
    for axes, label in zip(panels, labels, strict=True):
        for k, (name, points) in enumerate(curves.items()):
            rates, skills = [p[1] for p in points], [p[2][label] for p in points]
            (line,) = axes.plot(rates, skills, "o-", label=name)
            # Curves lie close together: the numbers of one are above it, of the next below.
            up = k % 2 == 1
            where = {"va": "bottom" if up else "top", "ha": "left" if up else "right"}
            for (steps, rate, _), skill in zip(points, skills, strict=True):
                axes.annotate(
                    steps, (rate, skill), textcoords="offset points", color=line.get_color(),
                    xytext=(5, 2) if up else (-6, -5), **where,
                )  # fmt: skip
        axes.set(xscale="log", xlabel="counterfactuals a second", title=label)
        axes.margins(0.14, 0.1)
    panels[0].set_ylabel("skill")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
