"""Shapley values: what each of several players adds, averaged over the orders in which they join.

    phi_j = sum_{S not holding j} |S|! (d - 1 - |S|)! / d! (v(S + j) - v(S)),
    sum_j phi_j = v(all) - v(none)                                    (Shapley 1953)

They are exact, from all 2^d sets, for up to `MAX_EXACT` players. For more they are averages over
random orders, each with its reverse, and come with a standard error: orders are added until it is
below `RELATIVE_ERROR` of what is shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from rung3.data.seeding import stream

__all__ = ["shapley"]

Value: TypeAlias = Callable[[frozenset[str]], Tensor]

MAX_EXACT = 8
"""Players at most whose 2^d sets are all computed: 256 values of v."""

MAX_ORDERS = 100
"""Pairs of random orders at most, for more players."""

MIN_ORDERS = 20
"""Pairs of random orders at least, before their standard error is relied on."""

RELATIVE_ERROR = 0.01
"""Standard error of a share, relative to `v(all) - v(none)`, at which the orders end."""


def shapley(
    players: Sequence[str], value: Value, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Share `v(all) - v(none)` among players.

    Args:
        players: Their names.
        value: The function v, of any shape; called once a set.
        seed: Seed of the random orders, if there are too many players.

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

    return _exact(players, v) if len(players) <= MAX_EXACT else _sampled(players, v, seed)


def _exact(players: Sequence[str], v: Value) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sum over all sets of players."""
    d, zero = len(players), torch.zeros_like(v(frozenset()))
    shares = dict.fromkeys(players, zero)
    for code in range(2**d):
        team = frozenset(p for k, p in enumerate(players) if code >> k & 1)
        size = len(team)
        for player in team:
            weight = math.factorial(size - 1) * math.factorial(d - size) / math.factorial(d)
            shares[player] = shares[player] + weight * (v(team) - v(team - {player}))
    return shares, dict.fromkeys(players, zero)


def _sampled(
    players: Sequence[str], v: Value, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Average over random orders, each with its reverse, until the standard error is small."""
    d, zero = len(players), torch.zeros_like(v(frozenset()))
    generator = stream(seed, "orders")
    added: dict[str, list[Tensor]] = {player: [] for player in players}
    total = v(frozenset(players)) - v(frozenset())
    for count in range(1, MAX_ORDERS + 1):
        order = [players[k] for k in torch.randperm(d, generator=generator).tolist()]
        gains: dict[str, Tensor] = dict.fromkeys(players, zero)
        for way in (order, order[::-1]):
            for k, player in enumerate(way):
                gain = v(frozenset(way[: k + 1])) - v(frozenset(way[:k]))
                gains[player] = gains[player] + gain / 2
        for player in players:
            added[player].append(gains[player])
        if count >= MIN_ORDERS and count % 10 == 0:
            left = torch.stack([torch.stack(gains).std(0) for gains in added.values()]) / count**0.5
            if (left.reshape(d, -1).mean(1) <= RELATIVE_ERROR * total.abs().mean()).all():
                break
    stacked = {player: torch.stack(gains) for player, gains in added.items()}
    return (
        {player: gains.mean(0) for player, gains in stacked.items()},
        {player: gains.std(0) / len(gains) ** 0.5 for player, gains in stacked.items()},
    )
