"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import halves
import pytest
import torch

from rung3 import Rows
from rung3.evaluation import Oracles, fit_oracles


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums come out the same bit for bit only with the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def rows() -> Rows:
    """Rows of the world of halves."""
    return halves.world().sample(1000, seed=0)


@pytest.fixture(scope="session")
def predictors(rows: Rows) -> Oracles:
    """What reads the causes off its images."""
    return fit_oracles(
        halves.world(), rows[:800], rows[800:], epochs=16, width=8, seed=5, progress=False
    )
