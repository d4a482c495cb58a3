"""Shapley values: what each of several players adds, averaged over the orders in which they join.

    phi_j = sum_{S not holding j} |S|! (d - 1 - |S|)! / d! (v(S + j) - v(S)),
    sum_j phi_j = v(all) - v(none)                                    (Shapley 1953)

Exactly, by all 2^d sets, for up to `EXACT` players; else over random orders, each with its reverse,
and then with the standard error of their mean: as many as bring it below `ENOUGH` of what is
shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rung3.data.seeding import stream

__all__ = ["shapley"]

EXACT, ORDERS, LEAST = 8, 100, 20
"""Most players that are shared among exactly; pairs of orders for more, at most and at least."""

ENOUGH = 0.01
"""Standard error of a share, as a share of `v(all) - v(none)`, at which orders are enough."""


def shapley(
    players: Sequence[str], value: Callable[[frozenset[str]], Tensor], seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Share `v(all) - v(none)` among players.

    Args:
        players: Their names.
        value: v, of any shape; called once for a set.
        seed: Of the random orders, if there are too many players.

    Returns:
        Each player's share, and the standard error that random orders leave, both of v's shape.

    Example:
        >>> worth = {"a": 1.0, "b": 2.0}
        >>> def v(team):
        ...     return torch.tensor(sum(worth[p] for p in team) + 4.0 * (len(team) == 2))
        >>> shapley(["a", "b"], v)[0]
        {'a': tensor(3.), 'b': tensor(4.)}
    """
    known: dict[frozenset[str], Tensor] = {}

    def v(team: frozenset[str]) -> Tensor:
        if team not in known:
            known[team] = value(team)
        return known[team]

    d = len(players)
    zero = torch.zeros_like(v(frozenset()))
    if d <= EXACT:
        shares = dict.fromkeys(players, zero)
        for code in range(2**d):
            team = frozenset(p for k, p in enumerate(players) if code >> k & 1)
            size = len(team)
            for player in team:
                weight = math.factorial(size - 1) * math.factorial(d - size) / math.factorial(d)
                shares[player] = shares[player] + weight * (v(team) - v(team - {player}))
        return shares, dict.fromkeys(players, zero)
    generator = stream(seed, "orders")
    added: dict[str, list[Tensor]] = {player: [] for player in players}
    total = v(frozenset(players)) - v(frozenset())
    for count in range(1, ORDERS + 1):
        order = [players[k] for k in torch.randperm(d, generator=generator).tolist()]
        gains: dict[str, Tensor] = dict.fromkeys(players, zero)
        for way in (order, order[::-1]):
            for k, player in enumerate(way):
                gain = v(frozenset(way[: k + 1])) - v(frozenset(way[:k]))
                gains[player] = gains[player] + gain / 2
        for player in players:
            added[player].append(gains[player])
        if count >= LEAST and count % 10 == 0:
            left = torch.stack([torch.stack(own).std(0) for own in added.values()]) / count**0.5
            if (left.reshape(d, -1).mean(1) <= ENOUGH * total.abs().mean()).all():
                break
    stacked = {player: torch.stack(gains) for player, gains in added.items()}
    return (
        {player: gains.mean(0) for player, gains in stacked.items()},
        {player: gains.std(0) / len(gains) ** 0.5 for player, gains in stacked.items()},
    )
