"""Readers of real data: each gives `Rows`, a mapping from variable name to tensor.

Nothing is downloaded, except by `download_mnist` when it is called.
"""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.data.readers.kidney_stones import kidney_stones
    from rung3.data.readers.mnist import download_mnist, mnist
    from rung3.data.readers.morphomnist import morphomnist
    from rung3.data.readers.table import column, table
    from rung3.data.splits import split
    from rung3.data.streaming import Streamed, streamed

__all__ = [
    "Streamed",
    "column",
    "download_mnist",
    "kidney_stones",
    "mnist",
    "morphomnist",
    "split",
    "streamed",
    "table",
]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
