"""One stream of random numbers a variable, so that worlds share their noise.

The stream of a variable depends on the seed and on the variable's name alone. Two models that are
asked with the same seed therefore give the same noise to the variables they share, whatever was
done to the others: answers before and after an intervention are paired.
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


def base_seed(seed: Seed) -> int:
    """The integer behind a seed; drawn from the generator, or from torch's own, if it is none.

    Raises:
        ValueError: If the seed is neither an int, a `torch.Generator` nor `None`.
    """
    if isinstance(seed, bool) or not (seed is None or isinstance(seed, int | Generator)):
        raise ValueError(f"seed: expected an int, a torch.Generator or None, got {seed!r}")
    if isinstance(seed, int):
        return seed
    device = "cpu" if seed is None else seed.device
    return int(torch.randint(2**62, (), generator=seed, device=device))


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> Generator:
    """The generator of one named stream under a seed.

    Example:
        >>> torch.rand(1, generator=stream(0, "x")) == torch.rand(1, generator=stream(0, "x"))
        tensor([True])
    """
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


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
    own, place = stream(seed, name).initial_seed(), torch.device(device)
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        torch.default_generator.manual_seed(own)
        if place.type == "cuda":
            with torch.cuda.device(place):
                torch.cuda.manual_seed(own)
        yield
