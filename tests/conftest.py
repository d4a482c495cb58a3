from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from shapes import install

# Every shape written in a signature of rung3 is checked while the tests run.
install("rung3")

hypothesis.settings.register_profile("rung3", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("rung3")


def pytest_configure() -> None:
    """One torch thread a worker, so that parallel workers do not compete for the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave the modules and the thousands of tests, which stay, to no garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What studies keep in the user's cache goes to a folder of the tests."""
    os.environ["RUNG3_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may draw from the global state
    torch.manual_seed(0)


def folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"no {path.name} data: {path} is not a folder (set RUNG3_DATA to its parent)")
    return path


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Where the real data sets lie: RUNG3_DATA, or ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RUNG3_DATA", beside))


@pytest.fixture(scope="session")
def mnist_root(data_root: Path) -> Path:
    return folder(data_root / "mnist")


@pytest.fixture(scope="session")
def morphomnist_root(data_root: Path) -> Path:
    return folder(data_root / "morphomnist-ti")
