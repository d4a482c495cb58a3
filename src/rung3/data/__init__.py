"""Readers of real data: each gives `Rows`, a mapping from variable name to tensor.

Nothing is downloaded, except by `download_mnist` when it is called.
"""

from rung3.data.charig import kidney_stones
from rung3.data.mnist import download_mnist, mnist
from rung3.data.morphomnist import morphomnist
from rung3.data.splits import split
from rung3.data.table import table

__all__ = ["download_mnist", "kidney_stones", "mnist", "morphomnist", "split", "table"]
