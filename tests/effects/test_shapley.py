"""Shapley values against their axioms."""

from __future__ import annotations

import pytest
import torch

from rung3.effects.attribution.shapley import shapley


def test_shapley_of_many_players_is_by_random_orders_with_an_error() -> None:
    players = [f"p{k}" for k in range(10)]

    def v(team: frozenset[str]) -> torch.Tensor:
        pair = 5.0 * ({"p0", "p1"} <= team)
        return torch.tensor(sum(float(p[1:]) for p in team) + pair)

    shares, errors = shapley(players, v, seed=0)
    assert sum(s.item() for s in shares.values()) == pytest.approx(45 + 5)
    assert shares["p7"].item() == pytest.approx(7)
    assert shares["p0"].item() == pytest.approx(2.5, abs=4 * errors["p0"].item() + 1e-6)
    assert shares["p1"].item() == pytest.approx(3.5, abs=4 * errors["p1"].item() + 1e-6)
