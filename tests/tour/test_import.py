from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import rung3

HEAVY = ["lightning", "matplotlib", "pandas", "torchmetrics", "typer", "zuko"]

STATE = """
import random, sys
import numpy as np, torch
before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
import rung3
assert torch.equal(torch.get_rng_state(), before[0]), "torch's random state"
assert (random.getstate(), str(np.random.get_state())) == before[1:], "random states"
assert torch.get_default_dtype() == torch.float32, "default dtype"
assert torch.is_grad_enabled() and not torch.are_deterministic_algorithms_enabled()
"""


def python(code: str) -> str:
    """What a fresh Python says, on either stream."""
    arguments = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_importing_says_nothing_and_changes_nothing() -> None:
    assert python(STATE) == ""


def test_importing_loads_nothing_heavy_and_neither_do_graphs_and_equations() -> None:
    used = "from rung3 import SCM, CausalGraph, fit, load, worlds; worlds.lecture().sample(2)"
    loaded = python(f"import rung3\n{used}\nimport sys; print(*sys.modules)").split()
    assert "rung3.worlds" in loaded
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("name", [*rung3.__all__, "__version__"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rung3, name) is not None
    assert name in dir(rung3)


def test_a_star_import_gives_the_public_names() -> None:
    names = python("from rung3 import *; print(*[n for n in dir() if n[0] != '_'])").split()
    assert set(names) == set(rung3.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rung3' has no attribute 'fitt'"):
        _ = getattr(rung3, "fitt")  # noqa: B009


def test_no_module_of_a_lazy_package_has_the_name_of_what_it_hands_on() -> None:
    """Importing such a module would put it where the function should be."""
    for info in pkgutil.iter_modules(rung3.__path__, "rung3."):
        package = importlib.import_module(info.name)
        if info.ispkg and hasattr(package, "__getattr__"):
            modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
            for name in modules.intersection(package.__all__):
                assert isinstance(getattr(package, name), ModuleType), f"{info.name}.{name}"
