"""One stream of random numbers a purpose and variable, so that worlds share their noise.

The stream of a variable depends on the seed, on what is asked for, and on the variable's name. Two
models that are asked the same with the same seed therefore give the same noise to the variables
they share, whatever was done to the others: answers before and after an intervention are paired.

Whatever else is asked with that seed draws other numbers. A row that was sampled holds its noise;
were its posterior drawn from the same stream, the draw would be that very noise, and every answer
too good. So sampling takes the seed itself, every other verb one derived for its own purpose, and
of verbs in a chain, each of which asks about the answer before, every link a fresh one (`chain`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Generator

Seed: TypeAlias = int | Generator | None
"""An int, a generator (advanced by each call), or `None` to follow torch's own."""


def base_seed(seed: Seed, purpose: str = "") -> int:
    """Return the integer behind a seed, for one purpose.

    Args:
        seed: An int; where it is none, one is drawn from the generator, or from torch's own.
        purpose: What it serves, such as `"abduct"`; the seed itself if not given.

    Raises:
        ValueError: If the seed is neither an int, a `torch.Generator` nor `None`.
    """
    if isinstance(seed, bool) or not (seed is None or isinstance(seed, int | Generator)):
        raise ValueError(f"seed: expected an int, a torch.Generator or None, got {seed!r}")
    if not isinstance(seed, int):
        device = "cpu" if seed is None else seed.device
        seed = int(torch.randint(2**62, (), generator=seed, device=device))
    return number_of(f"{purpose}({seed})") if purpose else seed


def chain(seed: Seed, purpose: str) -> Generator:
    """Return a generator for calls one after another: each takes a fresh seed from it.

    Example:
        >>> links = chain(0, "reversibility")
        >>> base_seed(links) == base_seed(links)
        False
    """
    return torch.Generator().manual_seed(base_seed(seed, purpose))


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> Generator:
    """Return the generator of one named stream under a seed.

    Example:
        >>> torch.rand(1, generator=stream(0, "x")) == torch.rand(1, generator=stream(0, "x"))
        tensor([True])
    """
    return torch.Generator(device).manual_seed(number_of(f"{seed}/{name}"))


@contextmanager
def seeded(seed: int, name: str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Let torch's own random numbers, on the CPU and on a device, be those of one named stream.

    Afterwards torch's state is what it was. `torch.manual_seed` would seed all devices, and keeps a
    note of every call where there is none: too slow for each step of training.

    Example:
        >>> with seeded(0, "x"):
        ...     torch.rand(1) == torch.rand(1, generator=stream(0, "x"))
        tensor([True])
    """
    number, place = stream(seed, name).initial_seed(), torch.device(device)
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        torch.default_generator.manual_seed(number)
        if place.type == "cuda":
            with torch.cuda.device(place):
                torch.cuda.manual_seed(number)
        yield


def number_of(key: str) -> int:
    """Return 63 bits that follow from a key, the same in every process and version."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
