"""Masks: codes, labels, the size of regions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Files

from rung3 import Mask
from rung3.data.distances import distance, unit
from rung3.data.images import read_images
from rung3.data.variables import from_config
from rung3.mechanisms import Segmentation, default_mechanism

TISSUES = Mask(3, 2, 2, labels=("ground", "grey", "white"))


def test_codes_are_held_as_levels_and_come_back() -> None:
    codes = torch.tensor([[[[0, 1], [2, 2]]], [[[1, 1], [1, 0]]]])
    value = TISSUES.validate("tissue", codes)
    assert value.dtype == torch.get_default_dtype()
    assert torch.equal(value, codes / 2)
    assert torch.equal(TISSUES.codes(value), codes[:, 0])
    assert torch.equal(TISSUES.validate("tissue", value), value)
    assert TISSUES.share(value, "white").tolist() == [0.5, 0.0]
    assert TISSUES.share(value, 1).tolist() == [0.25, 0.75]


def test_a_volume_has_regions_too() -> None:
    volume = Mask(2, 2, 2, 2)
    value = volume.validate("lesion", torch.ones(3, 1, 2, 2, 2, dtype=torch.int64))
    assert volume.codes(value).shape == (3, 2, 2, 2)
    assert volume.share(value, 1).tolist() == [1.0, 1.0, 1.0]


def test_masks_differ_by_the_share_of_their_pixels() -> None:
    one, other = (torch.tensor(k).view(1, 1, 2, 2) / 2 for k in ([0, 1, 2, 2], [2, 1, 0, 2]))
    assert distance(TISSUES, one, other).tolist() == [0.5]
    assert unit(TISSUES) == "error rate"


def test_its_description_makes_it_again() -> None:
    assert from_config("tissue", TISSUES.config()) == TISSUES
    assert from_config("tissue", Mask(height=4, width=5).config()) == Mask(2, 4, 5)
    assert isinstance(default_mechanism(TISSUES), Segmentation)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((1, 2, 2), 3), "tissue: a mask of 3 kinds has the codes 0 to 2, got 3 to 3"),
        (torch.full((1, 2, 2), -1), "got -1 to -1"),
        (torch.full((1, 2, 2), 0.3), "such as 0.3, are not kinds"),
        (torch.full((1, 2, 2), 2.0), "outside its support"),
        (torch.full((3, 2, 2), 0.5), "expected shape"),
    ],
)
def test_values_that_are_no_codes_are_refused(value: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TISSUES.validate("tissue", value)


def test_kinds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="classes=1"):
        Mask(1, 4, 4)
    with pytest.raises(ValueError, match="expected 2 different ones"):
        Mask(2, 4, 4, labels=("a", "a"))
    with pytest.raises(ValueError, match="height and width"):
        Mask(2, 4)
    with pytest.raises(ValueError, match="no kind of this mask"):
        TISSUES.share(torch.zeros(1, 1, 2, 2), "bone")


def test_a_file_of_codes_is_enlarged_without_new_kinds(tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    Files.fromarray(np.array([[0, 2], [2, 0]], dtype=np.uint8)).save(file)
    with pytest.warns(UserWarning, match="not 4x4"):
        value = read_images("tissue", [file], Mask(3, 4, 4))
    assert torch.equal(value[0, 0].unique(), torch.tensor([0.0, 1.0]))
