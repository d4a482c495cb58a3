"""Causal graphs, and what follows from them before any data is seen.

The methods of a `CausalGraph` give plain answers: true or false, names, sets. The functions here
give answers with their reasons.
"""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.graph.adjustment import Adjustment, check_adjustment
    from rung3.graph.ancestral import AncestralClass, ancestral_class, read_ancestral
    from rung3.graph.causal_graph import CausalGraph
    from rung3.graph.dagitty import Dagitty, read_dagitty, to_dagitty
    from rung3.graph.drawing import draw_graph, to_mermaid
    from rung3.graph.equivalence import (
        EquivalenceClass,
        equivalence_class,
        equivalent,
        read_class,
    )
    from rung3.graph.falsification import Falsification, falsify
    from rung3.graph.formats import from_adjacency, read_dot, read_gml
    from rung3.graph.identification.ancestral_effects import (
        AncestralEffect,
        identify_in_ancestral_class,
    )
    from rung3.graph.identification.class_effects import ClassEffect, identify_in_class
    from rung3.graph.identification.counterfactuals import (
        Estimand,
        counterfactual_graph,
        identify_counterfactual,
    )
    from rung3.graph.identification.estimand import Formula, evaluate
    from rung3.graph.identification.events import CounterfactualQuery, read_counterfactual
    from rung3.graph.identification.path_effects import identify_path_effect, identify_treated
    from rung3.graph.identification.query import CausalQuery, read_query
    from rung3.graph.identification.sources import Source
    from rung3.graph.identification.transport import recover, transport
    from rung3.graph.instruments import Instrument
    from rung3.graph.local_markov import Independence, implications
    from rung3.graph.m_separation import Separation, separation
    from rung3.graph.path_structures import Structure, structures
    from rung3.graph.paths import Path
    from rung3.graph.roles import Roles

__all__ = [
    "CausalGraph",
    "Path",
    "Roles",
    "Instrument",
    "Separation",
    "separation",
    "Structure",
    "structures",
    "Adjustment",
    "check_adjustment",
    "Independence",
    "implications",
    "Falsification",
    "falsify",
    "EquivalenceClass",
    "equivalence_class",
    "equivalent",
    "read_class",
    "ClassEffect",
    "identify_in_class",
    "AncestralClass",
    "ancestral_class",
    "read_ancestral",
    "AncestralEffect",
    "identify_in_ancestral_class",
    "CausalQuery",
    "read_query",
    "Formula",
    "evaluate",
    "CounterfactualQuery",
    "read_counterfactual",
    "Estimand",
    "Source",
    "identify_counterfactual",
    "counterfactual_graph",
    "identify_path_effect",
    "identify_treated",
    "transport",
    "recover",
    "Dagitty",
    "read_dagitty",
    "to_dagitty",
    "read_dot",
    "read_gml",
    "from_adjacency",
    "draw_graph",
    "to_mermaid",
]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
