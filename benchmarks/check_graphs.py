"""Answers about random graphs beside those of y0, DoWhy, pgmpy, causal-learn, and of definitions.

Separation is compared with its definition too, path by path, and the path that is found open with
networkx's separation in the graph that has a node for each hidden cause. Each graph has 5 to 8
variables, half of them with hidden common causes. Nothing is timed: the script counts how often two
answers differ, and prints the first cases where they do. One may: the PAG of causal-learn 0.1.4.8
depends on the order of Python's hashes, so that `PYTHONHASHSEED` says whether it calls the two
graphs of seed 698 equivalent; they are not, as all their separations show.

    pip install -c benchmarks/constraints.txt -e '.[bench]' y0 pgmpy
    python benchmarks/check_graphs.py [graphs]
"""

from __future__ import annotations

import logging
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import combinations

import networkx as nx
from causallearn.graph.Dag import Dag
from causallearn.graph.Endpoint import Endpoint
from causallearn.graph.GraphNode import GraphNode
from causallearn.utils.DAG2CPDAG import dag2cpdag
from causallearn.utils.DAG2PAG import dag2pag
from dowhy import graph as dowhy_graph
from dowhy.causal_identifier import auto_identifier
from dowhy.causal_identifier.efficient_backdoor import EfficientBackdoor
from pgmpy.base import ADMG, DAG
from pgmpy.identification import Frontdoor
from y0.algorithm.conditional_independencies import are_d_separated
from y0.algorithm.identify import identify_outcomes
from y0.algorithm.simplify_latent import evans_simplify
from y0.dsl import Variable
from y0.graph import NxMixedGraph

from rung3.graph import (
    CausalGraph,
    CausalQuery,
    equivalence_class,
    equivalent,
    implications,
    to_dagitty,
)
from rung3.graph.m_separation import open_path
from rung3.scm.identifiability import identify

Answers = Iterator[tuple[str, object, object]]


def main(graphs: int = 1000) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    counts: Counter[str] = Counter()
    differ: Counter[str] = Counter()
    for seed in range(graphs):
        rng = random.Random(seed)
        graph = random_graph(rng, hidden=seed % 2 == 1)
        for part in (separations, adjustments, doors, classes, formulas):
            for question, result, expected in part(graph, rng):
                counts[question] += 1
                if result != expected:
                    differ[question] += 1
                    if differ[question] <= 3:
                        print(f"seed {seed}: {question}: {graph}\n  {result}\n  {expected}")
    print(f"{graphs} random graphs")
    for question, count in counts.items():
        print(f"{question:66}{count:8} answers{differ[question]:6} differ")


def random_graph(rng: random.Random, hidden: bool) -> CausalGraph:
    names = rng.sample("abcdefgh"[: rng.randint(5, 8)], k=rng.randint(5, 5))
    names += [name for name in "abcdefgh"[: rng.randint(5, 8)] if name not in names]
    density = rng.uniform(0.15, 0.6)
    pairs = list(combinations(names, 2))
    edges = [pair for pair in pairs if rng.random() < density]
    bidirected = [pair for pair in pairs if hidden and rng.random() < 0.15]
    return CausalGraph(edges, nodes=sorted(names), bidirected=bidirected)


def with_latents(graph: CausalGraph) -> nx.DiGraph:
    """The graph with a node for each hidden common cause."""
    dag = nx.DiGraph()
    dag.add_nodes_from(graph.nodes)
    dag.add_edges_from(graph.edges)
    dag.add_edges_from((f"u_{a}{b}", end) for a, b in graph.bidirected for end in (a, b))
    return dag


def y0_graph(graph: CausalGraph) -> NxMixedGraph:
    return NxMixedGraph.from_str_edges(
        nodes=graph.nodes, directed=graph.edges, undirected=graph.bidirected
    )


def separations(graph: CausalGraph, rng: random.Random) -> Answers:
    admg = ADMG(list(graph.edges), list(graph.bidirected))
    admg.add_nodes_from(graph.nodes)
    for _ in range(10):
        x, y, *rest = rng.sample(graph.nodes, len(graph.nodes))
        known = rest[: rng.randint(0, 3)]
        result = graph.d_separated(x, y, known)
        yield (
            "m-separation, its definition, path by path",
            result,
            not connected(graph, x, y, known),
        )
        yield "m-separation, pgmpy", result, admg.is_mseparated(x, y, set(known))
        canonical = nx.is_d_separator(with_latents(graph), {x}, {y}, set(known))
        closed = open_path(graph, x, y, known) is None
        yield "an open path is found, networkx on the canonical graph", closed, canonical
        if not graph.bidirected:  # its moral graph leaves out what districts join
            left, right, *conditions = map(Variable, (x, y, *known))
            judged = are_d_separated(y0_graph(graph), left, right, conditions=conditions)
            yield "d-separation, y0", result, judged.separated
    independencies = implications(graph)
    joined = {frozenset(name for name, _ in pair) for pair in pag(graph)}
    apart = {frozenset(pair) for pair in combinations(graph.nodes, 2)} - joined
    pairs = {frozenset((one.x, one.y)) for one in independencies}
    yield "pairs that can be separated (not adjacent in the PAG), causal-learn", pairs, apart
    for one in independencies:
        separated = admg.is_mseparated(one.x, one.y, set(one.given))
        yield "a statement of the basis is implied, pgmpy", True, separated
    hidden = set(rng.sample(graph.nodes, 2))
    expected = evans_simplify(y0_graph(graph), latents={Variable(name) for name in hidden})
    shown = graph.hide(*hidden)
    arrows = set(shown.edges), set(map(frozenset, shown.bidirected))
    yield "the graph when two variables are hidden, y0", arrows, (
        {(str(a), str(b)) for a, b in expected.directed.edges},
        {frozenset(map(str, pair)) for pair in expected.undirected.edges},
    )  # fmt: skip


def connected(graph: CausalGraph, x: str, y: str, known: list[str]) -> bool:
    """Whether a path is open: every collider on it is, or has an effect, in Z, and nothing else."""
    dag = nx.DiGraph(list(graph.edges))
    dag.add_nodes_from(graph.nodes)
    heads = [(a, False, b, True) for a, b in graph.edges]
    heads += [(a, True, b, True) for a, b in graph.bidirected]
    heads += [(b, right, a, left) for a, left, b, right in heads]

    def goes_on(nodes: list[str], into: bool) -> bool:
        here = nodes[-1]
        for a, leaves_by_head, b, head in heads:
            if a != here or b in nodes:
                continue
            if here == x:
                passes = True
            elif into and leaves_by_head:
                passes = bool(({here} | nx.descendants(dag, here)) & set(known))
            else:
                passes = here not in known
            if passes and (b == y or goes_on([*nodes, b], head)):
                return True
        return False

    return goes_on([x], False)


def adjustments(graph: CausalGraph, rng: random.Random) -> Answers:
    x, y = rng.sample(graph.nodes, 2)
    dag = with_latents(graph)
    sets = graph.adjustment_sets(x, y)
    expected = auto_identifier.identify_generalized_adjustment_set(dag, [x], [y], list(graph.nodes))
    yield "an adjustment set exists, DoWhy", bool(sets), bool(expected)
    if expected:
        yield (
            "its set is among the minimal ones, DoWhy",
            True,
            set(expected[0].get_adjustment_variables()) in sets,
        )
    backdoor = dowhy_graph.get_proper_backdoor_graph(dag, [x], [y])
    causal = dowhy_graph.get_proper_causal_path_nodes(dag, [x], [y])
    forbidden = causal | dowhy_graph.get_descendants(dag, causal)
    others = [name for name in graph.nodes if name not in (x, y)]
    for _ in range(5):
        known = set(rng.sample(others, rng.randint(0, min(4, len(others)))))
        valid = not known & forbidden and dowhy_graph.check_dseparation(backdoor, [x], [y], known)
        yield "a set is valid, DoWhy", graph.is_adjustment_set(x, y, known), bool(valid)
    if not graph.bidirected and graph.ancestors(y) >= {x}:
        try:
            best = EfficientBackdoor(dag, [x], [y], list(graph.nodes)).optimal_minimal_adj_set()
        except nx.NetworkXError:  # it fails where two causal paths share their first arrow
            return
        yield "the minimal set of least variance, DoWhy", graph.minimal_adjustment_set(x, y), best


def doors(graph: CausalGraph, rng: random.Random) -> Answers:
    order = list(graph.order)
    x, y = sorted(rng.sample(order, 2), key=order.index)
    if x not in graph.ancestors(y):
        return
    dag = with_latents(graph)
    latents = {node for node in dag if node not in graph.nodes}
    fronts = graph.front_door_sets(x, y)
    for z in graph.nodes:
        if z not in (x, y):
            model = DAG(list(dag.edges), latents=latents)
            model.add_nodes_from(graph.nodes)
            for role, name in (("exposures", x), ("outcomes", y), ("frontdoor", z)):
                model.with_role(role, {name}, inplace=True)
            expected = Frontdoor().validate(model)
            yield "one variable is a front door, pgmpy", {z} in fronts, expected is not False
    result = {
        one.name
        for one in graph.instruments(x, y)
        if not one.given and one.name in graph.parents(x)
    }
    expected = set(dowhy_graph.get_instruments(dag, [x], [y])) - latents
    yield "causes of x that are instruments, DoWhy", result, expected


def classes(graph: CausalGraph, rng: random.Random) -> Answers:
    plain = CausalGraph(graph.edges, nodes=graph.nodes)
    pattern = equivalence_class(plain)
    cpdag = dag2cpdag(learned(with_latents(plain)))
    directed, undirected = set(), set()
    for edge in cpdag.get_graph_edges():
        a, b = edge.get_node1().get_name(), edge.get_node2().get_name()
        if edge.get_endpoint1() == edge.get_endpoint2() == Endpoint.TAIL:
            undirected.add(frozenset((a, b)))
        else:
            directed.add((a, b) if edge.get_endpoint2() == Endpoint.ARROW else (b, a))
    yield "equivalence class, causal-learn", (pattern.directed, pattern.undirected), (
        directed, undirected,
    )  # fmt: skip
    model = DAG(list(plain.edges))
    model.add_nodes_from(plain.nodes)
    pdag = model.to_pdag()
    yield "equivalence class, pgmpy", (pattern.directed, pattern.undirected), (
        set(pdag.directed_edges), {frozenset(edge) for edge in pdag.undirected_edges},
    )  # fmt: skip
    read_back = DAG.from_dagitty(to_dagitty(plain))
    yield "DAGitty's text, pgmpy", set(plain.edges), set(read_back.edges)
    other = changed(graph, rng)
    if other is not None:
        same = pag(graph) == pag(other)
        yield "two graphs are equivalent (as PAGs), causal-learn", equivalent(graph, other), same


def changed(graph: CausalGraph, rng: random.Random) -> CausalGraph | None:
    """The graph with one arrow turned, or made bidirected or directed."""
    if not graph.edges:
        return None
    edges, hidden = list(graph.edges), list(graph.bidirected)
    if hidden and rng.random() < 0.3:
        edges.append(hidden.pop(rng.randrange(len(hidden))))
    else:
        a, b = edges.pop(rng.randrange(len(edges)))
        if rng.random() < 0.7:
            edges.append((b, a))
        else:
            hidden.append((a, b))
    if not nx.is_directed_acyclic_graph(nx.DiGraph(edges)):
        return None
    return CausalGraph(edges, nodes=graph.nodes, bidirected=hidden)


def learned(dag: nx.DiGraph) -> Dag:
    """A graph as causal-learn holds it."""
    nodes = {name: GraphNode(name) for name in dag}
    ges = Dag(list(nodes.values()))
    for a, b in dag.edges:
        ges.add_directed_edge(nodes[a], nodes[b])
    return ges


def pag(graph: CausalGraph) -> set[tuple[tuple[str, str], ...]]:
    """The partial ancestral graph, as marked pairs."""
    dag = learned(with_latents(graph))
    latents = [node for node in dag.get_nodes() if node.get_name() not in graph.nodes]
    with redirect_stdout(StringIO()):
        result = dag2pag(dag, latents)
    marked = set()
    for edge in result.get_graph_edges():
        ends = [
            (edge.get_node1().get_name(), edge.get_endpoint1().name),
            (edge.get_node2().get_name(), edge.get_endpoint2().name),
        ]
        marked.add(tuple(sorted(ends)))
    return marked


def formulas(graph: CausalGraph, rng: random.Random) -> Answers:
    x, y, z, w = rng.sample(graph.nodes, 4)
    converted = y0_graph(graph)
    for do, given in (([x], []), ([x, w], []), ([x], [z])):
        answer = identify(graph, CausalQuery((y,), tuple(do), tuple(given)))
        sets = [{Variable(name) for name in names} for names in (do, [y], given)]
        try:
            estimand = identify_outcomes(converted, *sets[:2], sets[2] or None)
        except KeyError:  # it loses a variable that surgery leaves without an arrow
            continue
        kind = "P(y | do(x), z)" if given else f"P(y | do({'x' if len(do) == 1 else 'x, w'}))"
        yield f"{kind} is identified, y0", bool(answer), estimand is not None


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
