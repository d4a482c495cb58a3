"""Rows some at a time: the same answers whatever the memory, and no more memory than stated."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal, Rows
from rung3.evaluation.measures.cost import peak_memory
from rung3.mechanisms import VAE, AdditiveNoise, Equation, GumbelMax
from rung3.scm import parts

N = 200


@pytest.fixture(scope="module")
def model() -> SCM:
    """One variable of every kind."""
    torch.manual_seed(0)
    scm = SCM(
        "a -> {k b y image}; k -> {o w}; y -> w",
        {
            "k": Categorical(3),
            "b": Binary(),
            "o": Ordinal(4),
            "w": Continuous(lower=0, dim=2),
            "image": Image(1, 8, 8),
        },
        {"a": Equation("u"), "y": AdditiveNoise(), "image": VAE(latent=2, width=4, depth=1)},
    )
    for parameter in scm.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return scm.requires_grad_(False).eval()


def answers(model: SCM, rows: Rows) -> dict[str, Tensor]:
    """Every kind of query, seeded, by the query and the variable."""
    delta = torch.linspace(0, 1, rows.n)
    by_verb: dict[str, Any] = {
        "sample": model.sample(rows.n, seed=0),
        "log_prob": model.log_probs(rows, seed=0),
        "counterfactual": model.counterfactual(rows, {"a": 1.0}, seed=0),
        "particles": model.counterfactual(rows, {"a": delta}, particles=2, seed=0),
        "function": model.counterfactual(rows, {"a": lambda a: a + delta}, seed=0),
        "anew": model.counterfactual(rows, {"y": Equation("a + u", noise="Gumbel(0, 1)")}, seed=0),
        "policy": model.do(image=lambda image, u: image).predict(model.abduct(rows, seed=0)),
        "cold": model.predict(model.abduct(rows, seed=0), 0.0, ["image"]),
    }
    return {f"{query} {k}": v for query, answer in by_verb.items() for k, v in answer.items()}


def test_answers_are_the_same_whatever_the_memory(
    model: SCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = model.sample(N, seed=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = answers(model, rows)
        for memory in (1, 10 * parts.GRAIN * parts.ROW_BYTES):
            monkeypatch.setattr(parts, "MEMORY", memory)
            assert parts.rows_at_once(()) < N / 2 or memory > 1
            for name, part in answers(model, rows).items():
                assert torch.equal(part, whole[name]), name
    finally:
        torch.set_num_threads(threads)


def test_parts_are_whole_grains_and_lose_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MEMORY", 1)
    mechanism = Equation("u").bind("x", Continuous(), {})
    for n in (0, 1, 63, 64, 127, 128, 191, 192, 300):
        sizes: list[int] = []

        def count(noise: Tensor, parents: Any, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(noise))
            return noise

        given = torch.arange(n)
        assert torch.equal(parts.in_parts(mechanism, count, given, {}), given)
        assert all(size % parts.GRAIN == 0 for size in sizes[:-1])
        assert n < parts.GRAIN or min(sizes) >= parts.GRAIN
        assert max(sizes) < 2 * parts.GRAIN or n < 2 * parts.GRAIN


def test_what_is_drawn_hangs_on_blocks_that_memory_does_not_change() -> None:
    """Blocks are part of what a seed means, and must never change."""
    assert parts.BLOCK == 2**18
    assert [at.stop - at.start for at in parts.blocks((), 150_000)] == [65536, 65536, 18928]
    assert [at.stop - at.start for at in parts.blocks((1, 32, 32), 600)] == [256, 256, 88]
    many = [at.stop - at.start for at in itertools.islice(parts.blocks((3, 512, 512), 9), 3)]
    assert many == [1, 1, 1]


def test_blocks_draw_from_streams_of_their_own() -> None:
    variables = {"k": Categorical(3)}
    mechanism = GumbelMax(table=[[0.2, 0.3, 0.5]] * 3)
    roots = {"k": GumbelMax(table=[0.2, 0.3, 0.5]), "l": mechanism}
    model = SCM("k -> l", variables | {"l": Categorical(3)}, roots)
    n = 2 * 65536
    rows = {"k": torch.zeros(n).long(), "l": torch.ones(n).long()}
    noise = model.abduct(rows, seed=0)["l"]
    assert isinstance(noise, Tensor)
    first, second = noise[:65536, 0], noise[65536:, 0]
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 5 / 256
    alone = model.abduct({k: v[:100] for k, v in rows.items()}, seed=0)["l"]
    assert isinstance(alone, Tensor)
    assert alone.shape == (100, 3)


def test_an_impossible_row_is_named_in_later_blocks_too() -> None:
    model = SCM(c=Equation("u"), x=Equation("c"))
    c = torch.zeros(70_000)
    x = c.clone()
    x[68_000] = 3.0
    for particles in (None, 2):
        with pytest.raises(ValueError, match="x: evidence has probability zero in row 68000: 3 is"):
            model.counterfactual({"c": c, "x": x}, {"c": 1.0}, particles=particles)


def test_images_with_particles_hold_little_more_than_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mechanism = VAE(latent=2, width=16)
    model = SCM("x -> s", {"s": Image(1, 16, 16)}, {"x": Equation("u"), "s": mechanism})
    model.requires_grad_(False).eval()
    rows = Rows(dict(model.sample(16, seed=0)))

    def held() -> int:
        return peak_memory(lambda: model.counterfactual(rows, {"x": 1.0}, particles=64, seed=0))

    whole = held()
    monkeypatch.setattr(parts, "MEMORY", 2**22)
    answer = 4 * 64 * 16 * 256
    assert held() < min(whole / 2, 8 * answer + 2 * 2**22 + 256 * 256 * 170)
