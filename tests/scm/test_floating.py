"""Precision: a model answers in its own floating type, whatever torch's default is."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal, effects, fit
from rung3.effects.attribution import attribute_anomaly
from rung3.effects.bounds import probabilities_of_causation, sensitivity
from rung3.effects.bounds.sensitivity_analysis import MODELLED
from rung3.mechanisms import VAE, AdditiveNoise, Equation, InverseCDF
from rung3.scm.imputation import complete

F32, F64 = torch.float32, torch.float64


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    yield
    torch.set_default_dtype(F32)


def fitted() -> SCM:
    """A model of its own for every test."""
    return copy.deepcopy(_fitted())


@functools.cache
def _fitted() -> SCM:
    torch.manual_seed(0)
    model = SCM(
        "a -> {k y}; k -> {b o}; {b o} -> y; y -> w; {a k} -> image",
        {
            "a": Continuous(missing=True),
            "k": Categorical(3),
            "b": Binary(),
            "o": Ordinal(3),
            "w": Continuous(lower=0),
            "image": Image(1, 8, 8),
        },
        {"a": Equation("u"), "y": AdditiveNoise(), "image": VAE(latent=2, width=4, depth=1)},
    )
    rows = model.sample(100, seed=5)
    fit(model, rows, epochs=1, progress=False, seed=0, only=["y", "w"])
    return model.eval()


QUERIES: dict[str, Callable[[SCM], Any]] = {
    "sample": lambda m: m.sample(9, seed=0)["w"],
    "log_prob": lambda m: m.log_prob(m.sample(9, seed=0), seed=0),
    "given": lambda m: m.sample(9, given={"y": 0.3}, seed=0)["w"],
    "abduct": lambda m: m.abduct(m.sample(9, seed=0), seed=0)["w"],
    "counterfactual": lambda m: m.counterfactual(
        m.sample(9, seed=0), {"a": 1.0, "k": lambda k: (k + 1) % 3}, particles=2, seed=0
    )["image"],
    "another mechanism": lambda m: m.counterfactual(
        m.sample(9, seed=0), {"k": InverseCDF()}, seed=0
    )["w"],
    "average": lambda m: effects.average(m, {"a": 1.0}, "w", n=9, seed=0).effect,
    "natural": lambda m: effects.natural(m, {"a": 1.0}, "w", "y", n=9, seed=0).total.effect,
    "mediate": lambda m: (
        effects.mediate(m, m.sample(4, seed=0), {"a": 1.0}, "image", "k", seed=0).total
    ),
    "sensitivity": lambda m: sensitivity(
        m, m.sample(4, seed=0), {"a": 1.0}, "w", particles=2
    ).answers[MODELLED],
    "causation": lambda m: torch.tensor(
        probabilities_of_causation(m, "k", "b", n=50, seed=0).both.low, dtype=F32
    ),
    "unusual": lambda m: attribute_anomaly(
        m, m.sample(1, seed=0), "y", draws=200, seed=0
    ).scores.to(F32),
    "complete": lambda m: complete(
        SCM("a -> y", {"a": m.variables["a"]}).to(m.dtype), {"a": [torch.nan], "y": [1.0]}, 4
    ).rows["a"],
}


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_works_in_every_precision(query: str) -> None:
    ask, model = QUERIES[query], fitted()
    before = ask(model)
    assert isinstance(before, Tensor)
    torch.set_default_dtype(F64)
    ask(model)
    torch.set_default_dtype(F32)
    model.double()
    assert model.dtype == F64
    assert ask(model).dtype == F64 or query in ("causation", "unusual")
    assert torch.get_default_dtype() == F32
    model.float()
    after = ask(model)
    assert after.dtype == before.dtype
    if query not in ("another mechanism", "complete"):  # these make networks
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


def test_answers_agree_between_precisions_and_noise_may_be_of_another() -> None:
    model = fitted()
    rows = model.sample(20, seed=0)
    noise, acted = model.abduct(rows, seed=0), model.do(a=1.0, k=1)
    before = acted.predict(noise)
    model.double()
    for after in (acted.predict(noise), model.do(a=1.0, k=1).predict(noise)):
        for name in ("a", "y", "w"):
            assert after[name].dtype == F64
            torch.testing.assert_close(after[name].to(F32), before[name], atol=1e-4, rtol=1e-4)


def test_half_precision_is_refused() -> None:
    model = fitted()
    rows = model.sample(3, seed=0)
    for half in (torch.float16, torch.bfloat16):
        model.to(half)
        message = f"the model's parameters are {half}; queries need float32 or float64: call"
        queries: list[Callable[[], Any]] = [
            lambda: model.sample(3),
            lambda: model.log_prob(rows),
            lambda: model.do(a=1.0),
            lambda: model.abduct(rows),
            lambda: model.counterfactual(rows, {"a": 1.0}),
            lambda: effects.average(model, {"a": 1.0}, "w"),
        ]
        for ask in queries:
            with pytest.raises(ValueError, match=message):
                ask()


def test_the_default_is_put_back_after_an_error() -> None:
    model = fitted().double()
    with pytest.raises(ValueError, match="expected"):
        model.sample(0)
    assert torch.get_default_dtype() == F32
