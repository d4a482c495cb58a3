"""MNIST: 60,000 and 10,000 handwritten digits of 28 x 28 pixels, 8 bit.

It is read from a given folder. `download_mnist` fetches it, only when called.

Source: LeCun, Bottou, Bengio and Haffner 1998, *Gradient-based learning applied to document
recognition*.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Literal, get_args
from urllib.error import URLError
from urllib.request import urlopen

from torch import Tensor
from torch.nn import functional as F

from rung3.data.files import write
from rung3.data.readers.idx import find, read_idx
from rung3.data.rows import Rows
from rung3.data.stored import Held, Stored

__all__ = ["Split", "download_mnist", "file_prefix", "mnist", "raw_mnist", "to_images", "to_stored"]

Split = Literal["train", "test"]

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
"""Where `download_mnist` looks by default."""

FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The files, and the SHA-256 of each when decompressed."""


def mnist(root: str | Path, split: Split = "train", *, size: int = 32) -> Rows:
    """Read MNIST from a folder of IDX files, plain or `.gz`.

    Args:
        root: The folder.
        split: `"train"` or `"test"`.
        size: Height and width that the images are padded to.

    Returns:
        Rows with `digit` `(n,)` and `image` `(n, 1, size, size)` in [0, 1], held as stored.

    Raises:
        ValueError: If a file is missing, truncated or altered, or images and labels differ in
            number.
    """
    images, labels = raw_mnist(root, split)
    return Rows({"digit": labels.long(), "image": to_stored(images, size)})


def raw_mnist(root: str | Path, split: Split = "train") -> tuple[Tensor, Tensor]:
    """Read the images `(n, 28, 28)` and labels `(n,)` of a folder as they are, uint8.

    Raises:
        ValueError: As `mnist`.
    """
    prefix = file_prefix(split)
    image_path = find(root, f"{prefix}-images-idx3-ubyte")
    label_path = find(root, f"{prefix}-labels-idx1-ubyte")
    images, labels = read_idx(image_path, axes=3), read_idx(label_path, axes=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{image_path} has {len(images)} images, but {label_path} has {len(labels)} labels"
        )
    if len(labels) and labels.max() > 9:
        raise ValueError(f"{label_path}: expected digits from 0 to 9, got {int(labels.max())}")
    return images, labels


def to_images(levels: Tensor, size: int) -> Tensor:
    """Turn grey levels `(n, h, w)` into images `(n, 1, size, size)` in [0, 1], padded.

    Raises:
        ValueError: If they do not fit.
    """
    return _padded(levels, size).float() / 255


def to_stored(levels: Tensor, size: int) -> Tensor:
    """Turn grey levels `(n, h, w)`, uint8, into the same images, held as they are stored.

    Raises:
        ValueError: If they do not fit.
    """
    return Stored(Held(_padded(levels, size).numpy()), levels=255)


def _padded(levels: Tensor, size: int) -> Tensor:
    """Return grey levels with an axis of channels, and a margin of zeros up to the size."""
    down, right = size - levels.shape[-2], size - levels.shape[-1]
    if down < 0 or right < 0:
        raise ValueError(f"size={size}: the images are larger, {tuple(levels.shape[-2:])}")
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    return F.pad(levels.unsqueeze(1), padding)


def file_prefix(split: Split) -> str:
    """Return how the file names of a split begin.

    Raises:
        ValueError: If there is no such split.
    """
    if split not in get_args(Split):
        raise ValueError(
            f"split={split!r}: expected 'train' or 'test'; for a validation set use "
            "rung3.data.split on the training rows"
        )
    return "train" if split == "train" else "t10k"


def download_mnist(root: str | Path, *, url: str = MIRROR) -> Path:
    """Download what a folder lacks of MNIST, and check it.

    Args:
        root: The folder; made if it is not there.
        url: Where the four `.gz` files are.

    Returns:
        The folder.

    Raises:
        ValueError: If a file cannot be downloaded or is not the expected one; it is not kept.
    """
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in FILES.items():
        path = folder / f"{name}.gz"
        if not path.exists():
            _download(f"{url.rstrip('/')}/{name}.gz", path, digest)
    return folder


def _download(url: str, path: Path, digest: str) -> None:
    try:
        with urlopen(url, timeout=60) as response:
            content: bytes = response.read()
        actual = hashlib.sha256(gzip.decompress(content)).hexdigest()
    except (URLError, OSError, EOFError) as error:
        raise ValueError(
            f"{url} cannot be downloaded: {error}; put {path.name} into {path.parent} yourself, or "
            "name another place with url="
        ) from None
    if actual != digest:
        raise ValueError(f"{url}: SHA-256 of its content is {actual}, expected {digest}")
    write(path, content)
