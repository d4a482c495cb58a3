"""Seeding: a stream is a pure function of seed and name, and streams know nothing of each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Generator

from rung3.data.seeding import base_seed, seeded, stream


def test_a_stream_follows_from_seed_and_name_alone() -> None:
    first = torch.rand(5, generator=stream(3, "x"))
    torch.rand(100)
    torch.rand(100, generator=stream(3, "y"))
    assert torch.equal(torch.rand(5, generator=stream(3, "x")), first)


def test_a_stream_is_the_same_in_every_process_and_version() -> None:
    """Saved results name a seed: the hash behind it must never change."""
    assert stream(0, "x").initial_seed() == 1722735162115266773
    assert stream(-1, "größe").initial_seed() == 2826349059719079431


def test_streams_of_other_seeds_and_names_differ() -> None:
    pairs = [(seed, name) for seed in (-1, 0, 1, 10, 11) for name in ("", "x", "y", "1/x", "0/x")]
    assert len({stream(*pair).initial_seed() for pair in pairs}) == len(pairs)


def test_streams_of_one_seed_are_uncorrelated() -> None:
    n = 100_000
    draws = torch.stack([torch.randn(n, generator=stream(0, name)) for name in "abcdef"])
    off_diagonal = torch.corrcoef(draws) - torch.eye(6)
    assert off_diagonal.abs().max() < 4.5 / n**0.5
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 1e-3


def test_torch_is_lent_a_stream_and_gets_its_own_numbers_back() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = torch.rand(1)
    with seeded(3, "x"):
        drawn = torch.rand(5)
    assert torch.equal(drawn, torch.rand(5, generator=stream(3, "x")))
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_is_lent_the_stream_too_and_gets_its_own_numbers_back() -> None:
    before = torch.cuda.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(3, "x", "cuda"):
            drawn.append(torch.rand(5, device="cuda"))
    assert torch.equal(*drawn)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_an_int_is_its_own_base_seed_and_torch_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    assert [base_seed(seed) for seed in (7, 0, -3, 2**70)] == [7, 0, -3, 2**70]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_generator_gives_another_base_seed_at_each_call() -> None:
    generator = Generator().manual_seed(5)
    drawn = [base_seed(generator), base_seed(generator)]
    assert drawn[0] != drawn[1]
    generator.manual_seed(5)
    assert [base_seed(generator), base_seed(generator)] == drawn


def test_no_seed_follows_torch() -> None:
    torch.manual_seed(1)
    drawn = [base_seed(None), base_seed(None)]
    torch.manual_seed(1)
    assert [base_seed(None), base_seed(None)] == drawn
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("seed", [True, 1.0, "1", torch.tensor(1)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    message = f"seed: expected an int, a torch.Generator or None, got {seed!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        base_seed(seed)
