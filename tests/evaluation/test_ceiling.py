"""The supervised ceiling: it learns from a world's truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import halves
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Image, worlds
from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation import Ceiling, fit_ceiling
from rung3.evaluation.baselines.ceiling import CEILINGS, shipped_ceiling
from rung3.mechanisms import Equation

CAUSES = ("left", "right")


@pytest.fixture(scope="module")
def ceiling() -> Ceiling:
    return fit_ceiling(halves.world(), "image", n=2000, epochs=3, width=16, progress=False)


def interventions_of(world: SCM, n: int, cause: str) -> tuple[Rows, Rows]:
    """Rows that nothing was trained on, and what they would have been."""
    rows = world.sample(n, seed=1234)
    return rows, world.counterfactual(rows, {cause: rows[cause].roll(1)})


def parents(rows: Rows) -> dict[str, Tensor]:
    return {name: rows[name] for name in rows if name != "image"}


def skill(answer: Tensor, rows: Rows, true: Rows) -> float:
    image = Image(1, *answer.shape[-2:])
    error, nothing = (distance(image, x, true["image"]).mean() for x in (answer, rows["image"]))
    return 1 - float(error / nothing)


@pytest.mark.parametrize("cause", CAUSES)
def test_it_beats_rescaling(ceiling: Ceiling, cause: str) -> None:
    rows, true = interventions_of(halves.world(), 200, cause)
    before, after = parents(rows), parents(true)
    factor = torch.stack([*after.values()]).sum(0) / torch.stack([*before.values()]).sum(0)
    rescaled = (rows["image"] * factor[:, None, None, None]).clamp(0, 1)
    score = skill(ceiling(rows["image"], before, after), rows, true)
    assert score > skill(rescaled, rows, true) + 0.1
    assert score > 0.7


def knows(world: SCM, *known: str) -> SCM:
    """The same world, which knows the truth of some interventions only."""
    ask = world.counterfactual

    def counterfactual(values: Rows, do: dict[str, Any], **more: Any) -> Rows:
        if unknown := [name for name in do if name not in known]:
            raise ValueError(f"image: nobody knows what {unknown[0]} would have done")
        return ask(values, do, **more)

    world.counterfactual = counterfactual  # type: ignore[method-assign, assignment]
    return world


def test_interventions_without_truth_are_skipped_with_the_reason() -> None:
    world = knows(halves.world(), "left")
    fitted = fit_ceiling(world, "image", n=8, epochs=1, width=8, progress=False)
    assert fitted.skipped == {"do(right)": "image: nobody knows what right would have done"}


def test_a_world_that_knows_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"it knows the truth of no intervention on image.*nobody"):
        fit_ceiling(knows(halves.world()), "image", n=8, progress=False)


def test_it_starts_as_the_identity() -> None:
    world = halves.world()
    rows, true = interventions_of(world, 8, "left")
    fresh = Ceiling(Image(1, 8, 8), world.mechanisms["image"].parents, width=8)
    assert torch.equal(fresh(rows["image"], parents(rows), parents(true)), rows["image"])


def test_a_null_intervention_changes_nothing(ceiling: Ceiling) -> None:
    rows, _ = interventions_of(halves.world(), 20, "left")
    assert torch.equal(ceiling(rows["image"], parents(rows), parents(rows)), rows["image"])


def test_what_is_saved_answers_alike(ceiling: Ceiling, tmp_path: Path) -> None:
    rows, true = interventions_of(halves.world(), 20, "left")
    ceiling.save(tmp_path / "c.safetensors")
    loaded = Ceiling.load(tmp_path / "c.safetensors")
    ask = rows["image"], parents(rows), parents(true)
    torch.testing.assert_close(loaded(*ask), ceiling(*ask), atol=0.01, rtol=0)
    assert loaded.skipped == ceiling.skipped == {}


def test_it_is_determined_by_its_seed() -> None:
    one, other, third = (
        fit_ceiling(halves.world(), "image", n=64, epochs=1, width=8, seed=s, progress=False)
        for s in (0, 0, 1)
    )
    pairs = list(zip(one.parameters(), other.parameters(), third.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_training_in_bfloat16_goes_nearly_the_same_way() -> None:
    world = halves.world()
    rows, true = interventions_of(world, 20, "left")
    ask = rows["image"], parents(rows), parents(true)
    options: dict[str, Any] = {"n": 256, "epochs": 2, "width": 8, "progress": False}
    full, half = (fit_ceiling(world, "image", bfloat16=b, **options) for b in (False, True))
    assert not torch.equal(full.powers, half.powers) or not torch.equal(full(*ask), half(*ask))
    torch.testing.assert_close(half(*ask), full(*ask), atol=0.1, rtol=0)


def test_morphomnist_has_no_truth_under_do_digit(mnist_root: Path) -> None:
    world = worlds.morphomnist(mnist_root, "train")
    fitted = fit_ceiling(world, "image", n=4, epochs=1, width=8, progress=False)
    assert list(fitted.skipped) == ["do(digit)"]
    assert "no true counterfactual under do(digit)" in fitted.skipped["do(digit)"]


def test_a_model_is_no_world() -> None:
    with pytest.raises(ValueError, match="what a model answers is not the truth"):
        fit_ceiling(halves.scm(Equation(halves.render)), "image")


def test_it_is_for_images_with_causes() -> None:
    with pytest.raises(ValueError, match="image='left': expected an image with causes"):
        fit_ceiling(halves.world(), "left")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match="cannot read ceiling"):
        Ceiling.load(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no ceiling"):
        Ceiling.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("cause", ["thickness", "intensity", "digit"])
def test_the_ceiling_that_ships_is_above_the_other_baselines(cause: str) -> None:
    world = worlds.digits()
    rows = world.sample(48, seed=4321)
    true = world.counterfactual(rows, {cause: rows[cause].roll(1)})
    ask = rows["image"], parents(rows), parents(true)
    scores = {name: skill(edit(*ask), rows, true) for name, edit in world.baselines.items()}
    shipped = shipped_ceiling("digits")
    assert shipped is not None
    ceiling = skill(shipped(*ask), rows, true)
    assert ceiling > max(scores.values(), default=0.0)


def test_the_files_that_ship_are_small_and_readable() -> None:
    files = list(CEILINGS.glob("*.safetensors"))
    assert files
    for path in files:
        assert path.stat().st_size < 2e6
        assert path.stat().st_mode & 0o444 == 0o444
