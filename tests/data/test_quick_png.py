"""PNG files written quickly: read back by Pillow, level for level."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rung3.data.quick_png import quick_png


def levels(kind: Any, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)


@pytest.mark.parametrize("image", [levels("uint8", 5, 7), levels("uint8", 6, 3, 3),
                                   levels("uint16", 4, 9), levels("uint8", 1, 1)])  # fmt: skip
def test_levels_come_back(image: Any) -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(quick_png(image)))), image)


def test_colours_of_16_bits_have_their_bytes_in_order() -> None:
    """Pillow reads them as 8 bits: the higher byte of each."""
    image = levels("uint16", 2, 4, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(quick_png(image)))), image >> 8)


@pytest.mark.parametrize("noise", [0, 20])
def test_files_are_not_much_larger_than_with_a_search_for_filters(noise: int) -> None:
    rows, columns = np.mgrid[:96, :96] / 96
    smooth = 200 * np.sin(rows * columns) + noise * np.random.default_rng(0).random((96, 96))
    image, file = smooth.astype(np.uint8), io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    assert len(quick_png(image)) < 1.7 * len(file.getvalue())


@pytest.mark.parametrize("image", [levels("uint8", 4), levels("uint8", 2, 2, 4),
                                   np.zeros((2, 2))])  # fmt: skip
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="expected levels"):
        quick_png(image)
