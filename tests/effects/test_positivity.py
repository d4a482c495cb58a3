"""Where positivity fails, the stratum, the region or the column is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rung3 import Categorical, Continuous, effect

RNG = np.random.default_rng(0)
N = 400
AGE = np.arange(N) % 20
Z = RNG.normal(size=N)
COIN = RNG.integers(0, 2, N)


@pytest.mark.filterwarnings("ignore:.*whole numbers:UserWarning")
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": (AGE > 9).astype(int), "age": AGE, "z": Z},
         r"age tells t without error: t is never 1 where age <= 9.5; adjust for less, or declare"),
        ({"t": (Z > 0.5).astype(int), "z": Z, "age": RNG.normal(size=N)},
         r"z tells t without error: t is never 1 where z <= 0\.4"),
        ({"t": (AGE > 9).astype(int), "age": np.array(["old", "young"])[(AGE < 10) * 1], "z": Z},
         r"age tells t without error: t is never [01] where age (!=|=) young"),
        ({"t": (AGE > 9).astype(int), "age": AGE}, "no rows with t = 1 in the stratum age = 0; ad"
         r"just for less.*20 rows there; 10 strata lack one"),
    ],
)  # fmt: skip
def test_the_column_that_tells_the_treatment_is_named(
    columns: dict[str, object], message: str
) -> None:
    table = {**columns, "y": RNG.normal(size=N)}
    with pytest.raises(ValueError, match=message):
        effect(table, "t", "y", adjust=[name for name in columns if name != "t"])


def test_a_region_of_two_columns_is_named() -> None:
    """Neither column alone tells the treatment; together they do where both are high."""
    x, z = RNG.random((2, 3_000))
    corner = (x > 0.5) & (z > 0.5)
    t = np.where(corner, 1, RNG.integers(0, 2, 3_000))
    high = corner.astype(float)
    table = {"x": x, "z": z, "h": high, "t": t, "y": x + RNG.normal(size=3_000)}
    with pytest.raises(ValueError, match=r"no rows with t = 0 where h > 0\.5 \(7\d\d rows\)"):
        effect(table, "t", "y", adjust=["x", "h"])


def test_a_small_probability_is_said_with_its_row() -> None:
    z = RNG.normal(size=3_000)
    t = (RNG.random(3_000) < 1 / (1 + np.exp(2.5 - 2.5 * z))).astype(int)
    table = {"z": z, "t": t, "y": z + t + RNG.normal(size=3_000)}
    estimate = effect(table, "t", "y", adjust=["z"])
    assert estimate.least < 0.01
    assert "positivity is weak: where z = -" in str(estimate)


def test_a_constant_treatment_in_a_group_is_named() -> None:
    arm = np.where(AGE < 10, 0, COIN)
    table = {"t": arm, "g": (AGE < 10).astype(int), "y": Z}
    with pytest.raises(ValueError, match="no rows with t = 1 in the stratum g = 1"):
        effect(table, "t", "y", adjust=[], by="g")
    kinds = {"t": Categorical(labels=("a", "b", "c")), "y": Continuous()}
    named = np.array(["a", "b"])[COIN]
    with pytest.raises(ValueError, match="t: no rows with t = c in the stratum of all rows"):
        effect({"t": named, "y": Z}, "t", "y", do="c", versus="a", adjust=[], variables=kinds)


def test_an_outcome_that_is_told_without_error_is_named() -> None:
    z = RNG.normal(size=N)
    table = {"t": COIN, "z": z, "y": 2 * z + COIN, "sick": (z > 0.3).astype(int)}
    estimate = effect(table, "t", "y", adjust=["z"])
    assert estimate.effect.effect == pytest.approx(1)
    assert "z tells y without error, so that the interval has no width" in str(estimate)
    assert "without error" not in str(effect({**table, "y": Z}, "t", "y", adjust=["z"]))
    table |= {"w": RNG.normal(size=N), "twin": 3 * z, "same": np.ones(N)}
    assert "\n    z tells twin without error" in str(effect(table, "t", "twin", adjust=["w", "z"]))
    table["sum"] = z + table["w"]
    told = effect(table, "t", "sum", adjust=["w", "z"])
    assert "w and z together tell sum without error" in str(told)
    assert (told.effect.low, told.effect.high) == (0, 0)
    assert told.answer.endswith("does not change sum on average; 95% interval 0 to 0.")
    with pytest.raises(
        ValueError, match=r"z tells sick without error: sick is never 1 where z <= "
    ):
        effect(table, "t", "sick", adjust=["z"])


@pytest.mark.parametrize("learner", [None, "trees"])
def test_a_column_that_tells_the_treatment_is_named_whatever_the_method(learner: Any) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(2, 300))
    table = {"z": z, "w": w, "t": (z > 0).astype(int), "y": z + rng.normal(size=300)}
    made = HistGradientBoostingRegressor(max_iter=5) if learner else None
    with pytest.raises(ValueError, match="z tells t without error: t is never 1 where z <= "):
        effect(table, "t", "y", adjust=["w", "z"], learner=made)


def test_conditions_on_one_side_are_said_once() -> None:
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(2, 400))
    table = {"z": z, "w": w, "t": (z + w > 0).astype(int), "y": z}
    with pytest.raises(ValueError, match="no rows with t = ") as caught:
        effect(table, "t", "y", adjust=["z", "w"])
    where = str(caught.value).partition(" where ")[2]
    assert where.count("z >") <= 1
    assert where.count("z <=") <= 1


def strata_of_one_arm() -> dict[str, np.ndarray[Any, Any]]:
    """Stratum a has no treated rows, c none that are not; elsewhere the effect is 1 or 3."""
    place = np.repeat(["a", "b", "c", "d"], [300, 400, 300, 400])
    t = np.where(place == "a", 0, np.where(place == "c", 1, RNG.integers(0, 2, 1_400)))
    t = np.where((place == "d") & (RNG.random(1_400) < 0.5), 1, t)
    y = t * np.where(place == "d", 3.0, 1.0) + (place == "b") + RNG.normal(size=1_400) / 10
    return {"place": place, "t": t, "y": y}


def test_the_treated_need_overlap_with_others_and_the_others_with_the_treated() -> None:
    table = strata_of_one_arm()
    without_c = {name: column[table["place"] != "c"] for name, column in table.items()}
    without_a = {name: column[table["place"] != "a"] for name, column in table.items()}
    for estimand, rows, lacking, arm in (
        ("ATT", without_c, "place = c", 0),
        ("ATU", without_a, "place = a", 1),
    ):
        answer = effect(rows, "t", "y", adjust=["place"], estimand=estimand)  # type: ignore[arg-type]
        who = (rows["t"] != arm) & np.isin(rows["place"], ["b", "d"])
        truth = np.where(rows["place"] == "d", 3.0, 1.0)[who].mean()
        assert answer.effect.low < truth < answer.effect.high
        assert f"300 rows are in strata without t = {1 - arm} and do not count" in str(answer)
        with pytest.raises(ValueError, match=f"no rows with t = {arm} in the stratum {lacking}"):
            effect(table, "t", "y", adjust=["place"], estimand=estimand)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no rows with t = 1 in the stratum place = a"):
        effect(without_c, "t", "y", adjust=["place"])
    with pytest.raises(ValueError, match="no rows with t = 1 in the stratum place = a"):
        effect(without_c, "t", "y", adjust=["place"], by="place", estimand="ATT")


def test_of_amounts_too_only_the_overlap_that_is_needed_is_asked_for() -> None:
    z = RNG.normal(size=4_000)
    t = (RNG.random(4_000) < 0.5 / (1 + np.exp(-6 * z))).astype(int)
    table = {"z": z, "t": t, "y": z + t * (1 + z) + RNG.normal(size=4_000)}
    treated = effect(table, "t", "y", adjust=["z"], estimand="ATT")
    assert "positivity" not in str(treated)
    assert treated.least > 0.02  # of t = 0; that of t = 1 is next to nothing
    assert treated.effect.low < 1 + z[t == 1].mean() < treated.effect.high
    assert "positivity is weak" in str(effect(table, "t", "y", adjust=["z"], estimand="ATU"))
