"""Attribution of changed averages against closed forms."""

from __future__ import annotations

import pytest

from rung3 import SCM, Categorical, fit, worlds
from rung3.effects.attribution import attribute_change
from rung3.evaluation.tasks import changes
from rung3.mechanisms import Equation, Flow, InverseCDF


def test_a_change_is_shared_as_by_hand() -> None:
    """Means move by 2 * 1 through x, by 3 in y, and `(4 - 2) * (0 + 1) / 2` each of the slope."""
    before = SCM(x=Equation("u"), y=Equation("2*x + u"), z=Equation("y + u"))
    after = SCM(x=Equation("u + 1"), y=Equation("4*x + u + 3"), z=Equation("y + u"))
    attribution = attribute_change(before, after, "z", draws=50_000)
    assert attribution.after - attribution.before == pytest.approx(7, abs=0.05)
    assert attribution.shares["x"] == pytest.approx(2 * 1 + (4 - 2) * 1 / 2, abs=0.05)
    assert attribution.shares["y"] == pytest.approx(3 + (4 - 2) * 1 / 2, abs=0.05)
    assert attribution.shares["z"] == 0
    assert str(attribution).startswith("average z: ")


def test_the_mechanism_that_changed_is_found_from_data() -> None:
    world = worlds.lecture()
    moved = SCM(x1=Equation("u + 1"), x2=Equation("3*x1 + u + 2"))
    rows = [dict(m.sample(2_000, seed=s)) for s, m in enumerate((world, moved))]
    changed = [c.variable for c in changes(rows[0], rows[1], world.graph) if c.changed]
    assert changed == ["x2"]
    models = []
    for table in rows:
        linear = {"x2": Flow(splines=0, hidden=())}
        models.append(SCM("x1 -> x2", mechanisms={"x1": Flow(splines=0), **linear}))
        fit(models[-1], table, epochs=8, progress=False)
    attribution = attribute_change(models[0], models[1], "x2", only=changed)
    assert attribution.shares == {"x2": pytest.approx(2, abs=0.2)}


def test_models_that_cannot_be_compared_are_refused() -> None:
    world = worlds.lecture()
    with pytest.raises(ValueError, match="the models differ"):
        attribute_change(world, SCM(x1=Equation("u"), x2=Equation("u")), "x2")
    with pytest.raises(ValueError, match="only: unknown variable 'z'"):
        attribute_change(world, world, "x2", only=["z"])
    three = SCM("y", {"y": Categorical(3)}, {"y": InverseCDF(table=[0.2, 0.3, 0.5])})
    with pytest.raises(ValueError, match="has no average"):
        attribute_change(three, three, "y")
