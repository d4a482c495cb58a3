"""The picture of a what-if."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rung3.data.pictures import (
    DIVERGING,
    SEQUENTIAL,
    Sheet,
    by_channel,
    image_png,
    picture,
    planar,
    signed,
)


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_the_difference_is_on_a_scale_with_zero_in_its_middle() -> None:
    factual, imagined = torch.zeros(1, 6, 5), torch.zeros(1, 6, 5)
    imagined[0, 2, 3], imagined[0, 1, 1] = 0.75, 0.25
    drawn = panels(picture(factual, imagined))["difference"].images[0]
    assert drawn.get_clim() == (-1, 1)  # of every picture: a small change looks small
    np.testing.assert_array_equal(drawn.get_array(), (imagined - factual)[0].numpy())


@pytest.mark.parametrize(
    ("levels", "ends", "unit"),
    [(255, ["-255", "0", "255"], "grey levels"), (1, ["-1", "0", "1"], "of the range")],
)
def test_its_scale_is_in_grey_levels_where_there_are_any(levels, ends, unit) -> None:
    figure = picture(torch.zeros(1, 6, 5), torch.ones(1, 6, 5), levels=levels)
    bar = next(axes for axes in figure.axes if axes.get_ylabel())
    assert [label.get_text() for label in bar.get_yticklabels()] == ends
    assert bar.get_ylabel() == unit


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [(0, 4 / 3, ["0", "1.33"]), (-255, 255, ["-255", "0", "+255"]), (0, 65535, ["0", "65535"])],
)
def test_a_bar_names_its_ends_in_three_digits(low: float, high: float, ends: list[str]) -> None:
    sheet = Sheet(3, 2)
    sheet.bar(0, 0, 1, "grey levels", DIVERGING if low < 0 else SEQUENTIAL, low, high)
    labels = sheet.figure.axes[-1].get_yticklabels()
    assert [label.get_text() for label in labels] == ends


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_panels(channels: int) -> None:
    factual, draws = torch.rand(channels, 6, 5), torch.rand(4, channels, 6, 5)
    shown = panels(picture(factual, draws[0], truth=draws[1], title="row 3"))
    assert list(shown) == ["factual", "counterfactual", "truth", "difference"]
    shown = panels(picture(factual, draws))
    assert list(shown) == ["factual", "counterfactual (4)", "difference", "spread (s.d.)"]
    spread = shown["spread (s.d.)"].images[0].get_array()
    np.testing.assert_allclose(spread, draws.std(0).mean(0), rtol=1e-6)


def test_a_change_of_hue_is_seen_channel_by_channel() -> None:
    factual = torch.zeros(3, 4, 5)
    imagined = torch.stack([torch.full((4, 5), 0.5), torch.zeros(4, 5), torch.zeros(4, 5)])
    factual[1] = 0.5  # green becomes red: the mean of the channels is the same
    axes = panels(picture(factual, imagined))["difference"]
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (4, 15)
    assert shown[0, ::5].tolist() == [0.5, -0.5, 0.0]


def test_command_report_and_page_have_one_scale_of_differences() -> None:
    from matplotlib import colormaps
    from PIL import Image as Pictures

    from rung3.explorer.png import signed_png

    for size in (0.01, -0.01, 0.4, -0.4):
        change = torch.full((1, 2, 2), size)
        expected = np.array(colormaps["RdBu_r"]((size + 1) / 2)[:3])
        drawn = panels(picture(torch.zeros(1, 2, 2), change))["difference"].images[0]
        report = signed(by_channel(change[None]))
        page = np.asarray(Pictures.open(io.BytesIO(signed_png(change)))) / 255
        for colour in (drawn.to_rgba(drawn.get_array())[0, 0, :3], report[0, 0, 0], page[0, 0]):
            np.testing.assert_allclose(colour, expected, atol=0.01)


def test_the_what_if_that_the_readme_shows_first_changes_something() -> None:
    from pathlib import Path

    from rung3.study.study import Study

    root = Path(__file__).resolve().parents[2]
    assert "--row 4 --do thickness=4  # a thin 6 of 2.0 px and grey level 115" in (
        root / "README.md"
    ).read_text("utf-8")
    study = Study.load(root / "studies" / "digits.yaml")
    row, world = study.data.test_rows(study.declared(), study.seed)[4], study.data.truth()
    assert world is not None
    imagined = world.counterfactual(row, {"thickness": 4.0})
    assert int(row["digit"]) == 6
    assert float(row["thickness"]) == pytest.approx(2.0, abs=0.05)
    assert float(row["intensity"]) == pytest.approx(115, abs=0.5)
    assert float((imagined["image"] - row["image"]).abs().mean()) > 20 / 255


def test_a_volume_is_written_as_three_slices() -> None:
    volume = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    with Image.open(io.BytesIO(image_png(volume))) as written:
        levels = torch.from_numpy(np.array(written))
    assert torch.equal(levels, (planar(volume)[0] * 255).round().byte())
