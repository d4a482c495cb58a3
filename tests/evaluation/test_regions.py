"""Volumes of regions, change outside them, and the share of the true effect."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch

from rung3 import SCM, Image, Rows, evaluate, worlds
from rung3.evaluation import Protocol
from rung3.evaluation.measures.regions import volume_error
from rung3.evaluation.measures.true_effect import true_effect
from rung3.evaluation.outside import OutsideMaps, may_change
from rung3.evaluation.report.outside import outside_figure
from rung3.evaluation.report.report import Report
from rung3.training.oracles.oracles import Oracles


def test_the_truth_has_all_of_its_effect_and_nothing_else() -> None:
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    share, rest = true_effect(x, 0.5 * x, 0.5 * x)
    torch.testing.assert_close(share, torch.ones(3))
    torch.testing.assert_close(rest, torch.zeros(3), atol=1e-6, rtol=0)


def test_overshooting_is_effective_beyond_one_and_amplifies_nothing() -> None:
    x, true = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.2)
    share, rest = true_effect(x, 3 * true, true)
    assert share.item() == pytest.approx(3)
    assert rest.item() == pytest.approx(0, abs=1e-6)


def test_change_that_is_not_the_true_one_is_amplification() -> None:
    x, true = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.3, 0.0]]]])
    share, rest = true_effect(x, torch.tensor([[[[0.3, 0.4]]]]), true)
    assert share.item() == pytest.approx(1)
    assert rest.item() == pytest.approx(0.4 / math.sqrt(2))


def test_volume_errors_are_relative_to_the_truth() -> None:
    true, imagined = torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), 0.4)
    true[1] = 0
    error = volume_error(lambda x: x.flatten(1).sum(1), imagined, true)
    assert error[0].item() == pytest.approx(0.2)
    assert error[1].isnan()


def test_pixels_change_with_their_neighbours() -> None:
    x, true = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    true[..., 0, 0] = 0.5
    true[..., 8, 8] = 0.01
    assert int(may_change(x, true).sum()) == 9


def asked(world: SCM, rows: Rows, protocol: Protocol, name: str) -> Report:
    """Evaluate a world by itself, without oracles."""
    return evaluate(
        world, rows, truth=world, interventions=[name], protocol=protocol, oracles=Oracles({}),
        bootstrap=50, progress=False,
    )  # fmt: skip


def test_a_world_is_right_in_every_region_and_doing_nothing_is_not() -> None:
    world = worlds.brain(32, template=False)
    rows = world.sample(6, seed=0)
    protocol = Protocol(measures=frozenset({"regions", "true effect"}))
    report = asked(world, rows, protocol, "ventricle")
    scores = report.metrics
    by_who = scores["regions"]["do(ventricle)"]["ventricle"]
    assert by_who["kept"]["on target"]["mean"] == 0
    assert by_who["doing nothing"]["on target"]["mean"] > 5
    assert scores["regions"]["do(ventricle)"]["brain"]["kept"]["off target"]["mean"] == 0
    effect = scores["true effect"]["do(ventricle)"]["image"]
    assert effect["kept"]["effectiveness"]["mean"] == pytest.approx(1)
    assert effect["doing nothing"]["effectiveness"]["mean"] == 0
    outside = scores["outside"]["do(ventricle)"]["image"]
    assert outside["kept"]["mean"] < 1.5
    assert outside["null intervention"]["mean"] == 0
    maps = report.examples.outside["do(ventricle)"]["image"]
    assert maps["may change"].shape == (1, 32, 32)
    assert maps["may change"][0, 0, 0] < maps["may change"][0, 12:20, 12:20].mean()
    assert maps["null intervention"].nan_to_num().max() == 0


def test_maps_average_the_rows_in_which_a_pixel_stays() -> None:
    maps = OutsideMaps()
    stays = torch.tensor([[True, False, True], [True, True, False]]).view(2, 1, 1, 3)
    change = torch.tensor([[0.1, 0.9, 0.4], [0.3, 0.2, 0.9]]).view(2, 1, 1, 3)
    maps.add(stays[:1], {"kept": change[:1]})  # as batch by batch
    maps.add(stays[1:], {"kept": change[1:]})
    means = maps.means()
    torch.testing.assert_close(means["kept"].flatten(), torch.tensor([0.2, 0.2, 0.4]))
    torch.testing.assert_close(means["may change"].flatten(), torch.tensor([0.0, 0.5, 0.5]))


def test_where_a_picture_may_change_never_sets_the_scale_of_changes() -> None:
    small, everywhere = torch.full((1, 4, 4), 0.1), torch.ones(1, 4, 4)
    pictures = []
    for maps in (  # a file holds them in another order
        {"may change": everywhere, "kept": small},
        {"kept": small, "may change": everywhere},
    ):
        drawn = io.BytesIO()
        outside_figure({"do(a)": maps}, Image(1, 4, 4)).savefig(drawn, format="png")
        pictures.append(drawn.getvalue())
    assert pictures[0] == pictures[1]


def test_a_saved_report_draws_its_maps_again(tmp_path: Path) -> None:
    world = worlds.brain(16, template=False)
    rows = world.sample(3, seed=0)
    protocol = Protocol(measures=frozenset({"regions"}))
    report = asked(world, rows, protocol, "sex")
    assert "outside-do-sex" in report.pictures()
    report.save(tmp_path)
    maps = Report.load(tmp_path).examples.outside
    torch.testing.assert_close(maps, report.examples.outside, equal_nan=True)
    bare = asked(world, rows, Protocol(measures=frozenset()), "sex")
    with pytest.raises(ValueError, match="no maps of the change outside"):
        bare.outside()
