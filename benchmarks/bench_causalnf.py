"""Counterfactuals of tables beside DoWhy-GCM and a causal flow, on worlds whose truth is known.

The worlds of `rung3.worlds.suite`; protocol of CausalNF (arXiv 2306.05415): every contender learns
from the same 20,000 rows; each variable with descendants is set to its 25th, 50th and 75th
percentile, in 5,000 other rows; the error of a row is the Euclidean norm, over all variables, of
its counterfactual less the true one. Its mean is printed, over rows, interventions and seeds, and
the mean seconds of CPU time of one process, libraries imported before. Then come the errors and
seconds of `chosen`, divided by the others'.

- `nothing`: the factual row, with the variable set.
- `dowhy`: `gcm.auto` at its default quality, invertible (additive noise).
- `maf`: CausalNF's causal masked autoregressive flow (32 x 3, ELU, Adam at 1e-3 falling on
  plateaus, 1,000 epochs of batches of 4,096), in its author's package `causalflows`.
- `form`: the true equations of additive worlds, their constants fitted by least squares: about what
  so many rows allow where noise is normal, to one who knows the form.
- `flows`: `rung3.fit` of the default mechanisms; `chosen`: `rung3.choose`, all of it timed.

python benchmarks/bench_causalnf.py [--worlds NAME ...] [--contenders NAME ...] [--seeds S ...]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rung3 import SCM, Rows, fit, worlds
from rung3.data.expressions import Expression
from rung3.worlds.tables import ADDITIVE, SUITE

ROWS, TEST = 20_000, 5_000
CONSTANT = re.compile(r"(?<![\w.])(?<!\*\*)\d+(?:\.\d+)?")
"""A number that is not an exponent."""
Answer = Callable[[Rows, str, float], Mapping[str, Tensor]]


def nothing(world: SCM, train: Rows, seed: int) -> Answer:
    """Every variable but the one that is set stays as it is."""
    return lambda rows, name, value: {**rows, name: torch.full((rows.n,), value)}


def flows(world: SCM, train: Rows, seed: int) -> Answer:
    """The default mechanisms, with the default options."""
    model = SCM(world.graph)
    fit(model, train, seed=seed, progress=False)
    return lambda rows, name, value: model.counterfactual(dict(rows), do={name: value})


def chosen(world: SCM, train: Rows, seed: int) -> Answer:
    """The mechanisms that `choose` finds, with its default options."""
    from rung3 import choose

    model = choose(SCM(world.graph), train, seed=seed).model
    return lambda rows, name, value: model.counterfactual(dict(rows), do={name: value})


def dowhy(world: SCM, train: Rows, seed: int) -> Answer:
    """DoWhy-GCM, additive noise assigned by itself."""
    import networkx as nx
    import pandas as pd
    from dowhy import gcm

    gcm.config.disable_progress_bars()
    gcm.config.set_default_n_jobs(1)  # no helpers, whose time would not be counted
    gcm.util.general.set_random_seed(seed)
    frame = pd.DataFrame({k: v.double().numpy() for k, v in train.items()})
    graph = nx.DiGraph([(p, k) for k in world.graph.nodes for p in world.graph.parents(k)])
    model = gcm.InvertibleStructuralCausalModel(graph)
    gcm.auto.assign_causal_mechanisms(model, frame)
    gcm.fit(model, frame)

    def answer(rows: Rows, name: str, value: float) -> Mapping[str, Tensor]:
        table = pd.DataFrame({k: v.double().numpy() for k, v in rows.items()})
        answer = gcm.counterfactual_samples(model, {name: lambda _: value}, observed_data=table)
        return {k: torch.tensor(answer[k].to_numpy()) for k in rows}

    return answer


def maf(world: SCM, train: Rows, seed: int) -> Answer:
    """A causal masked autoregressive flow, with the settings of its paper's code."""
    from causalflows.flows import CausalMAF

    torch.manual_seed(seed)
    order = list(world.graph.order)
    reached = torch.eye(len(order), dtype=torch.bool)
    for k, name in enumerate(order):
        for parent in world.graph.parents(name):
            reached[k, order.index(parent)] = True
    table = torch.stack([train[name] for name in order], 1)
    loc, scale = table.mean(0), table.std(0)
    table = (table - loc) / scale
    held = (torch.stack([world.sample(2_500, seed=seed + 9)[k] for k in order], 1) - loc) / scale
    flow = CausalMAF(
        len(order), adjacency=reached, hidden_features=(32, 32, 32), activation=torch.nn.ELU
    )
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.95, patience=60)
    for _ in range(1_000):
        for rows in torch.randperm(len(table)).split(4_096):
            optimizer.zero_grad()
            (-flow().log_prob(table[rows]).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            schedule.step(-flow().log_prob(held).mean())

    @torch.no_grad()
    def answer(rows: Rows, name: str, value: float) -> Mapping[str, Tensor]:
        k = order.index(name)
        factual = (torch.stack([rows[name] for name in order], 1) - loc) / scale
        answer = flow().compute_counterfactual(factual, index=k, value=(value - loc[k]) / scale[k])
        return dict(zip(order, (answer * scale + loc).T, strict=True))

    return answer


def named(count: Iterator[int], _: object) -> str:
    """The name of the next constant."""
    return f"c{next(count)}"


def form(world: SCM, train: Rows, seed: int) -> Answer:
    """The true equations, their constants fitted by least squares, from the true ones."""
    from scipy.optimize import least_squares

    table = {k: v.double() for k, v in train.items()}
    middle = torch.tensor(0.5 if world.world == "backdoor" else 0.0)  # of its noise

    def mean(curve: Expression, constants: Any, columns: Mapping[str, Tensor]) -> Tensor:
        known = {f"c{j}": value for j, value in enumerate(torch.tensor(constants))}
        value: Tensor = constants[-1] + curve(**columns, **known, u=middle)
        return value

    fitted: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {}
    for k in world.graph.order:
        if world.graph.parents(k):
            text = SUITE[str(world.world)][k]
            start = [*(float(number) for number in CONSTANT.findall(text)), 0.0]
            count = itertools.count()
            function = partial(mean, Expression(CONSTANT.sub(partial(named, count), text)))
            misses = lambda c, answer=function, k=k: (answer(c, table) - table[k]).numpy()  # noqa: E731
            fitted[k] = partial(function, least_squares(misses, start).x)

    def answer(rows: Rows, name: str, value: float) -> Mapping[str, Tensor]:
        factual = {k: v.double() for k, v in rows.items()}
        other = {**factual, name: torch.full((rows.n,), value).double()}
        for k, curve in fitted.items():
            if k != name:
                other[k] = factual[k] + curve(other) - curve(factual)
        return other

    return answer


LAZY = "torch._dynamo"
"""What torch imports when its first optimiser is made."""
LIBRARIES = {
    "dowhy": ["dowhy.gcm", "pandas"],
    "maf": ["causalflows.flows"],
    "flows": ["lightning"],
    "chosen": ["lightning", "rung3.training.loop"],
}
CONTENDERS = {f.__name__: f for f in (nothing, form, dowhy, maf, flows, chosen)}


def error(world: SCM, answer: Answer, train: Rows, test: Rows) -> float:
    """The mean norm of the counterfactuals' errors, over rows and interventions."""
    norms = []
    for name in world.graph.nodes:
        if world.graph.descendants([name]) <= {name}:
            continue
        for value in train[name].quantile(torch.tensor([0.25, 0.5, 0.75])).tolist():
            truth = world.counterfactual(test, do={name: value})
            imagined = answer(test, name, value)
            squares = [
                (imagined[k].double() - truth[k].double()).square() for k in world.graph.nodes
            ]
            norms.append(torch.stack(squares).sum(0).sqrt().mean())
    return float(torch.stack(norms).mean())


def run(
    world: SCM, contender: Callable[[SCM, Rows, int], Answer], seed: int
) -> tuple[float, float]:
    """Error, and seconds to fit."""
    train, test = world.sample(ROWS, seed=2 * seed), world.sample(TEST, seed=2 * seed + 1)
    start = time.process_time()
    answer = contender(world, Rows(dict(train)), seed)
    seconds = time.process_time() - start
    return error(world, answer, train, test), seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", nargs="+", choices=list(SUITE), default=list(SUITE))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for module in (LAZY, *(m for name in chosen.contenders for m in LIBRARIES.get(name, ()))):
        importlib.import_module(module)
    print(f"{ROWS} rows, seeds {chosen.seeds}, one thread: mean error (CPU seconds to fit)")
    print(f"{'world':10}" + "".join(f"{name:>20}" for name in chosen.contenders), flush=True)
    for which in chosen.worlds:
        world = worlds.suite(which)
        print(f"{which:10}", end="", flush=True)
        errors = {}
        for name in chosen.contenders:
            if name == "form" and which not in ADDITIVE:
                print(f"{'-':>20}", end="", flush=True)
                continue
            ran = [run(world, CONTENDERS[name], seed) for seed in chosen.seeds]
            errors[name] = [sum(each) / len(ran) for each in zip(*ran, strict=True)]
            print(f"{errors[name][0]:12.4f} ({errors[name][1]:5.1f}s)", end="", flush=True)
        selected = errors.pop("chosen", None)
        for name, (wrong, seconds) in errors.items():
            if selected is None:
                break
            if name != "nothing":
                ratios = f"{selected[0] / wrong:.2f} ({selected[1] / seconds:.2f})"
                print(f"  / {name} {ratios}", end="", flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
