"""Skill of an image mechanism alone, in a world whose truth is known.

    skill = 1 - mean |x~ - x*| / mean |x - x*|

with x the factual image, x~ the mechanism's answer and x* the true counterfactual. The mechanism is
handed the true counterfactual values of its parents, and each is set in turn to its values in other
test rows. Skill is given with the noise of observation kept, from the latents alone, and of the
mean of answers to eight draws of the noise, each kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rung3 import SCM
from rung3.data.distances import distance
from rung3.data.rows import Noise, Rows
from rung3.evaluation.plan import plan
from rung3.mechanisms import Mechanism

__all__ = ["Question", "imagine", "nelbo", "questions", "scores"]

KINDS = (("eps kept", True, 1), ("z alone", False, 1), ("mean of eight", True, 8))
"""Of answers: their name, whether the noise of observation is kept, and the draws averaged."""


class Question(NamedTuple):
    """Counterfactual values of an image's parents, and what the image would really have been."""

    parents: Mapping[str, Tensor]
    truth: Tensor


def questions(
    world: SCM,
    test: Rows,
    image: str,
    causes: Iterable[str],
    device: torch.device,
    n: int = 400,
    seed: int = 0,
) -> dict[str, Question]:
    """What to ask of the first `n` test rows, by the name of the intervention."""
    by_cause = {}
    for query in plan(world, test, n, causes, seed):
        true = world.counterfactual(test[:n], query.at(slice(n), world.device)).to(device)
        by_cause[query.label] = Question(
            {p: true[p] for p in world.graph.parents(image)}, true[image]
        )
    return by_cause


@torch.no_grad()
def imagine(
    mechanism: Mechanism,
    value: Tensor,
    parents: Mapping[str, Tensor],
    imagined: Mapping[str, Tensor],
    *,
    keep_eps: bool = True,
) -> Tensor:
    """Abduct, act, predict; without the noise of observation unless `keep_eps`."""
    noise: Noise = mechanism.abduct(value, parents)
    if not keep_eps and isinstance(noise, dict):
        mute = mechanism.observation_noise
        noise = {k: torch.zeros_like(v) if k in mute else v for k, v in noise.items()}
    return mechanism.predict(noise, imagined)


def scores(mechanism: Mechanism, test: Rows, by_cause: Mapping[str, Question]) -> dict[str, float]:
    """Skill by intervention and kind, and the error of reconstructions, in grey levels."""
    n = len(next(iter(by_cause.values())).truth)
    x, parents = test[mechanism.name][:n], {name: test[name][:n] for name in mechanism.parents}

    def error(image: Tensor, true: Tensor) -> float:
        return float(distance(mechanism.variable, image, true).mean())

    results = {}
    for label, question in by_cause.items():
        change = error(x, question.truth)
        for kind, keep_eps, draws in KINDS:
            answers = [
                imagine(mechanism, x, parents, question.parents, keep_eps=keep_eps)
                for _ in range(draws)
            ]
            answer = torch.stack(answers).mean(0)
            results[f"skill, {label}, {kind}"] = 1 - error(answer, question.truth) / change
    unchanged = imagine(mechanism, x, parents, parents, keep_eps=False)
    return results | {"reconstruction from z, grey levels": error(unchanged, x)}


@torch.no_grad()
def nelbo(mechanism: Mechanism, test: Rows, n: int = 2000, batch_size: int = 200) -> float:
    """Bound on `-log p(x | pa)` of the first `n` test rows, in nats per dimension."""
    total = 0.0
    for start in range(0, n, batch_size):
        rows = test[start : min(start + batch_size, n)]
        parents = {name: rows[name] for name in mechanism.parents}
        total -= float(mechanism.log_prob(rows[mechanism.name], parents).sum())
    return total / n / test[mechanism.name][0].numel()
