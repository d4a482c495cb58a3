"""Questions to graphs of 200 variables: the CPU time of each, in this process.

Graphs are random, with three arrows a variable, and with a hidden common cause for a tenth of the
variables or without any. Each question is asked of five graphs. Which answers agree with other
libraries' is checked by `check_graphs.py`.

    python benchmarks/bench_graph.py [--variables 200] [--arrows 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from itertools import combinations

from records import Figure, add_option, record
from rung3.graph import (
    CausalGraph,
    check_adjustment,
    equivalence_class,
    implications,
    read_dagitty,
    separation,
    structures,
    to_dagitty,
)
from rung3.scm.identifiability import identify

QUESTIONS: dict[str, Callable[[CausalGraph, str, str, list[str]], object]] = {
    "d-separated, yes or no": lambda g, x, y, z: g.d_separated(x, y, z),
    "d-separated, with 20 paths and reasons": lambda g, x, y, z: separation(g, x, y, z),
    "a minimal adjustment set": lambda g, x, y, z: g.minimal_adjustment_set(x, y),
    "why a set is not an adjustment set": lambda g, x, y, z: check_adjustment(g, x, y, z),
    "the basis of implied independencies": lambda g, x, y, z: implications(g),
    "identify P(y | do(x))": lambda g, x, y, z: identify(g, f"P({y} | do({x}))"),
    "roles of all variables": lambda g, x, y, z: g.roles(x, y),
    "instruments": lambda g, x, y, z: g.instruments(x, y),
    "a front-door set": lambda g, x, y, z: g.front_door_sets(x, y, limit=1),
    "all chains, forks, colliders and Ms": lambda g, x, y, z: list(structures(g)),
    "the equivalence class (without hidden)": lambda g, x, y, z: equivalence_class(
        CausalGraph.of(g.nodes, g.edges)
    ),
    "to DAGitty's text and back": lambda g, x, y, z: read_dagitty(to_dagitty(g)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variables", type=int, default=200)
    parser.add_argument("--arrows", type=float, default=3.0, help="to each variable, on average")
    add_option(parser)
    options = parser.parse_args()
    variables, arrows = options.variables, options.arrows
    figures = {}
    for hidden in (0, variables // 10):
        print(f"{variables} variables, {arrows:g} arrows each, {hidden} hidden common causes")
        print(f"{'':42}{'median s':>10}{'most':>10}")
        for question, ask in QUESTIONS.items():
            seconds = []
            for seed in range(5):
                graph = random_graph(variables, arrows, hidden, seed)
                x, y = graph.order[variables // 4], graph.order[-1]
                known = list(graph.order[variables // 2 : variables // 2 + 3])
                start = time.process_time()
                ask(graph, x, y, known)
                seconds.append(time.process_time() - start)
            middle = statistics.median(seconds)
            print(f"{question:42}{middle:10.4f}{max(seconds):10.4f}")
            figures[f"{question}, {hidden} hidden"] = Figure(middle, "s")
    record(options.json, "graph", figures)


def random_graph(variables: int, arrows: float, hidden: int, seed: int) -> CausalGraph:
    rng = random.Random(seed)
    names = [f"v{at}" for at in range(variables)]
    chance = 2 * arrows / (variables - 1)
    edges = [pair for pair in combinations(names, 2) if rng.random() < chance]
    bidirected = rng.sample(list(combinations(names, 2)), hidden)
    return CausalGraph.of(names, edges, bidirected)


if __name__ == "__main__":
    main()
