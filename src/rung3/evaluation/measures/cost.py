"""Cost of a counterfactual: time, network evaluations, arithmetic, memory, parameters.

One call on a batch is repeated: timed, with every network's calls and multiplications counted,
and with every allocation of torch's recorded, whose running sum has the peak

    max_t sum_{s <= t} (bytes taken - bytes given back at s),     beyond what was held before.

What libraries allocate for themselves (threads, Python objects) is not in it. On a GPU it is the
allocator's own peak.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import Examination, Measure, Section, or_why
from rung3.scm.query import Query

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["COST", "cost", "evaluations", "peak_memory"]

MEBI = 2**20
"""Bytes of a MiB."""

BATCH = 64
"""Rows of the batch whose cost is taken."""


@torch.no_grad()
def cost(
    model: SCM, rows: Rows, do: Mapping[str, Any], *, repeats: int = 5, seed: Seed = None
) -> dict[str, Any]:
    """Measure what one counterfactual of a batch costs.

    Args:
        model: The model.
        rows: A batch; figures are for its size.
        do: The intervention, as `SCM.do` takes it.
        repeats: Timed calls, after one that is not; their median counts.
        seed: Of abduction.

    Returns:
        `parameters`; `rows per second`; `evaluations`, by network (`image.decoder`) how often it is
        called; `gflop per row`, of matrix products and convolutions, a multiplication and an
        addition being two; `peak MiB`; and the number of `rows`.

    Raises:
        ValueError: If there are no repeats.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> found = cost(world, world.sample(8, seed=0), {"x1": 0.0})
        >>> found["parameters"], found["evaluations"], found["rows per second"] > 0
        (0, {}, True)
    """
    from torch.utils.flop_counter import FlopCounterMode

    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    base = base_seed(seed, "cost")
    # Rows that a model drew may carry gradients, which the counter would follow.
    plain = {name: value.detach() for name, value in rows.items()}
    factual = Rows(plain, noise=rows.noise, world=rows.world)

    def ask() -> None:
        model.counterfactual(factual, do, seed=base)

    calls = evaluations(model, ask)
    with FlopCounterMode(display=False) as counter:
        ask()
    seconds = statistics.median(_seconds(ask, model.device) for _ in range(repeats))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "rows per second": rows.n / seconds,
        "evaluations": calls,
        "gflop per row": counter.get_total_flops() / rows.n / 1e9,
        "peak MiB": peak_memory(ask, model.device) / MEBI,
        "rows": rows.n,
    }


def evaluations(model: SCM, call: Callable[[], Any]) -> dict[str, int]:
    """Count how often a call runs each network of a model: encoders, decoders, a flow's.

    Args:
        model: The model.
        call: Asks it something.

    Returns:
        By `variable.network`, the number of runs, of the modules with parameters that a mechanism
        holds; those that are not run are not listed.
    """
    calls: Counter[str] = Counter()
    hooks = [
        network.register_forward_pre_hook(lambda *_, key=f"{name}.{part}": calls.update([key]))
        for name, mechanism in model.mechanisms.items()
        for part, network in mechanism.named_children()
        if any(True for _ in network.parameters())
    ]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return dict(calls)


def peak_memory(call: Callable[[], Any], device: torch.device | None = None) -> int:
    """Return the most bytes that a call holds at once, beyond what was held before it.

    Args:
        call: What is looked at.
        device: Where it runs, the CPU or a CUDA GPU; the CPU if not given.

    Example:
        >>> peak_memory(lambda: torch.zeros(1000) + torch.zeros(1000))
        12000
    """
    if device is not None and device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    events: Any = profile.profiler
    changes = [
        (event.start_ns(), event.nbytes())
        for event in events.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = peak = 0
    for _, change in sorted(changes):
        held += change
        peak = max(peak, held)
    return peak


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def _compute(
    exam: Examination, rows: Rows, queries: Sequence[Query], known: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    if not queries:
        return {}
    batch = rows[: min(known, BATCH)].to(exam.model.device)
    do = queries[0].at(slice(0, batch.n), exam.model.device)
    return {"cost": or_why(lambda: cost(exam.model, batch, do, seed=exam.seed))}


COST = Measure(
    name="cost",
    about="images a second, network evaluations, peak memory, parameters",
    sections=(
        Section(
            "cost",
            "Cost of a counterfactual",
            "Of one batch on the device of the settings.",
            plain=True,
        ),
    ),
    compute=_compute,
)
