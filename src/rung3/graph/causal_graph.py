"""Causal graphs: which variable causes which, and what follows from that before any data is seen.

A graph has an arrow ``a -> b`` where a is a parent of b, so that ``b := f(pa(b), u_b)``, and a
bidirected arrow ``a <-> b`` where a hidden common cause makes the noises of a and b dependent.
Without the latter it is Markovian,

    p(x) = prod_k p(x_k | pa_k),        p(x | do(x_j)) = prod_{k != j} p(x_k | pa_k),

and questions about paths, separation and adjustment read off what that factorisation implies.
A bidirected arrow is answered for as a hidden parent of both its ends (an acyclic directed mixed
graph). Everything that has an order follows the order in which names are first mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice

import networkx as nx

from rung3.graph.adjustment import criterion, minimal_adjustments
from rung3.graph.front_door import minimal_front_doors
from rung3.graph.instruments import Instrument, instruments
from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.paths import Path, backdoor_paths, causal_paths, paths
from rung3.graph.roles import Roles, roles
from rung3.graph.text import Names

__all__ = ["CausalGraph"]


class CausalGraph(MixedGraph):
    """An acyclic causal graph, and the questions that it answers before any data is seen.

    It never changes: surgery returns a new one (`rung3.graph.mixed_graph`).

    Args:
        spec: Text in the grammar of `rung3.graph.text`, (cause, effect) pairs, a networkx
            ``DiGraph``, or another graph.
        nodes: Further names, which need no arrow.
        bidirected: Further pairs with a hidden common cause.

    Raises:
        ValueError: If the text cannot be read, a name is not a string, or there is a cycle, which
            the message spells out.

    >>> graph = CausalGraph("size -> treatment; {size treatment} -> recovery")
    >>> graph.parents("recovery"), graph.order
    (('size', 'treatment'), ('size', 'treatment', 'recovery'))
    >>> graph.adjustment_sets("treatment", "recovery")
    [{'size'}]
    """

    def _repr_html_(self) -> str:
        """Return the drawing for a notebook."""
        from rung3.data.pictures import png, uri
        from rung3.graph.drawing import draw_graph

        picture = png(draw_graph(self))
        width = int.from_bytes(picture[16:20], "big") * 2 // 3
        return f'<img width="{width}" alt="{escape(str(self))}" src="{uri(picture)}">'

    # Paths

    def paths(self, x: str, y: str, limit: int | None = None) -> Iterator[Path]:
        """Yield the paths between two variables, however their arrows point, shorter ones first.

        There can be exponentially many; with a limit, the shortest are given.
        """
        return islice(paths(self, x, y), limit)

    def causal_paths(self, x: str, y: str, limit: int | None = None) -> Iterator[Path]:
        """Yield the paths from x to y whose arrows all point forwards, as `paths` does."""
        return islice(causal_paths(self, x, y), limit)

    def backdoor_paths(self, x: str, y: str, limit: int | None = None) -> Iterator[Path]:
        """Yield the paths between x and y whose first arrow points into x, as `paths` does."""
        return islice(backdoor_paths(self, x, y), limit)

    # Effects

    def adjustment_sets(
        self, treatment: Names, outcome: Names, limit: int | None = None
    ) -> list[set[str]]:
        """Return all minimal sets to adjust for, to read a causal effect off observational data.

        Complete: a set is listed if and only if it satisfies the adjustment criterion and none of
        its proper subsets does (see `rung3.graph.adjustment`). There can be exponentially many;
        with a limit, those nearest to the outcome are listed.

        Returns:
            The sets, smaller ones first, then by name; ``[set()]`` if there is nothing to adjust
            for, ``[]`` if no set will do (the effect may be identified by other means).

        Raises:
            ValueError: If a name is unknown, or in both.

        >>> CausalGraph("x -> y; x <-> y").adjustment_sets("x", "y")
        []
        """
        sets = minimal_adjustments(self, *self.disjoint(treatment=treatment, outcome=outcome))
        return _by_size(map(set, islice(sets, limit)))

    def minimal_adjustment_set(self, treatment: Names, outcome: Names) -> set[str] | None:
        """Return a minimal set to adjust for, in polynomial time; `None` if there is none.

        Of all minimal sets it is the nearest to the outcome, which without bidirected arrows is the
        one of least asymptotic variance (see `rung3.graph.adjustment`).
        """
        sets = minimal_adjustments(self, *self.disjoint(treatment=treatment, outcome=outcome))
        return next(map(set[str], sets), None)

    def is_adjustment_set(self, treatment: Names, outcome: Names, given: Names) -> bool:
        """Return whether adjusting for these variables, minimal or not, gives the causal effect.

        `rung3.graph.check_adjustment` says why not.
        """
        cause, effect, known = self.disjoint(treatment=treatment, outcome=outcome, given=given)
        rule = criterion(self, cause, effect)
        blocks = bool(nx.is_d_separator(rule.backdoor, cause, effect, known))
        return blocks and not known & rule.forbidden

    def front_door_sets(
        self, treatment: Names, outcome: Names, limit: int | None = None
    ) -> list[set[str]]:
        """Return all minimal sets by which the front-door criterion gives a causal effect.

        Complete, and given as `adjustment_sets` are; see `rung3.graph.front_door`.

        >>> CausalGraph("smoking -> tar -> cancer; smoking <-> cancer").front_door_sets(
        ...     "smoking", "cancer")
        [{'tar'}]
        """
        sets = minimal_front_doors(self, *self.disjoint(treatment=treatment, outcome=outcome))
        return _by_size(map(set, islice(sets, limit)))

    def instruments(self, treatment: str, outcome: str) -> list[Instrument]:
        """Return the instruments for an effect, each with what to condition on.

        Those whose conditioning set lies among the ancestors of instrument and outcome; see
        `rung3.graph.instruments`.

        >>> CausalGraph("lot -> drug -> cured; drug <-> cured").instruments("drug", "cured")
        [Instrument(name='lot', given=frozenset())]
        """
        self.disjoint(treatment=[treatment], outcome=[outcome])
        return list(instruments(self, treatment, outcome))

    def roles(self, treatment: str, outcome: str) -> Roles:
        """Return what each variable is to a treatment and an outcome (`rung3.graph.roles`)."""
        return roles(self, treatment, outcome)


def _by_size(sets: Iterable[set[str]]) -> list[set[str]]:
    """Sort sets by size, then by name."""
    return sorted(sets, key=lambda one: (len(one), sorted(one)))
