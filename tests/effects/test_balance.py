"""Balance: standardised differences before and after weighting, and overlap."""

from __future__ import annotations

import numpy as np
import pytest

from rung3.effects.tables.balance import balance
from rung3.effects.tables.sample import Sample


def sample(n: int = 3_000) -> Sample:
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    sex = np.array(["f", "m"])[(rng.random(n) < 0.5) * 1]
    t = (rng.random(n) < 1 / (1 + np.exp(-z - (sex == "m")))).astype(int)
    return Sample.read({"z": z, "sex": sex, "t": t, "y": z + t}, None, "t", "y", ["z", "sex"])


def test_weighting_balances_what_it_should() -> None:
    rows = sample()
    comparison = balance(rows, ["z", "sex"], 1, 0)
    assert list(comparison.before) == ["z", "sex = m"]
    z, t = rows.rows["z"], rows.rows["t"] == 1
    spread = ((z[t].var(correction=0) + z[~t].var(correction=0)) / 2) ** 0.5
    assert comparison.before["z"] == pytest.approx(float((z[t].mean() - z[~t].mean()) / spread))
    assert comparison.before["z"] > 0.5
    assert comparison.balanced
    assert "after weighting" in str(comparison)


def test_the_pictures_name_columns_and_arms() -> None:
    comparison = balance(sample(300), ["z", "sex"], 1, 0)
    (axes,) = comparison.love_plot().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sex = m", "z"]
    (axes,) = comparison.overlap_plot().axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["t = 1", "t = 0"]
    with pytest.raises(ValueError, match="nothing is adjusted for"):
        balance(sample(300), [], 1, 0)
