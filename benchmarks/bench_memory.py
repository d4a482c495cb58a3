"""Memory of an image mechanism at 192x192: a training step, and a counterfactual.

Each figure is from a fresh process: the peak of its resident memory, less that before the first
step, when weights and rows are there; a training step includes AdamW's two moments. Activations are
the tensors that are alive between the forward and the backward pass because of it, each storage
counted once; under gradient checkpointing, what is recomputed later is not among them.

    python benchmarks/bench_memory.py
    python benchmarks/bench_memory.py --mechanism '{kind: VAE, width: 32}' '{kind: HVAE}'
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rung3.mechanisms import Mechanism

# torch is imported in the children alone: on Linux a child's peak begins at its parent's.

MEBI = 2**20
MECHANISMS = ["{kind: VAE}", "{kind: HVAE}", "{kind: HVAE, checkpointing: true}"]
KINDS = ("training step", "activations", "counterfactual")


def measure(text: str, kind: str, size: int, batch: int) -> dict[str, float]:
    """One figure, in MiB, and the number of parameters."""
    import torch

    from subjects import bound

    torch.set_num_threads(1)
    if kind != "activations":
        step(bound(text, 32), kind, 1)  # libraries and their buffers are then there
    mechanism = bound(text, size)
    if kind == "activations":
        measured = activations(mechanism, batch)
    else:
        measured = step(mechanism, kind, batch)
    return {kind: measured, "parameters": sum(p.numel() for p in mechanism.parameters())}


def step(mechanism: Mechanism, kind: str, batch: int) -> float:
    """What a training step or a counterfactual adds to the peak of resident memory, in MiB."""
    import torch

    from skill import imagine
    from subjects import rows, training_step

    value, parents, imagined = rows(mechanism.variable.shape, batch)
    optimizer = torch.optim.AdamW(mechanism.parameters())
    before = peak()
    if kind == "training step":
        training_step(mechanism, optimizer, batch)
    else:
        imagine(mechanism, value, parents, imagined)
    return peak() - before


def activations(mechanism: Mechanism, batch: int) -> float:
    """What the forward pass of a training step leaves to the backward pass, in MiB."""
    import torch

    from subjects import rows

    value, parents, _ = rows(mechanism.variable.shape, batch)
    mechanism.train()
    before = storages()
    # The hook makes what autograd holds visible to the collector, and changes nothing.
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        loss = mechanism.loss(value, parents)
    after = storages()
    del loss
    return sum(size for at, size in after.items() if at not in before) / MEBI


def storages() -> dict[int, int]:
    """The bytes of all tensors that are alive, by their place in memory."""
    import torch

    alive = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}


def peak() -> float:
    """Peak of this process's resident memory, in MiB (macOS counts it in bytes, Linux in KiB)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (MEBI if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--mechanism",
        nargs="+",
        default=MECHANISMS,
        help="kind and fields, as in a study: '{kind: VAE, latent: 32}'",
    )
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--one", choices=KINDS, help="one figure, in this process, as JSON")
    options = parser.parse_args()
    if options.one:
        results = measure(options.mechanism[0], options.one, options.size, options.batch)
        print(json.dumps(results))
        return
    print(f"MiB, {options.size}x{options.size}, batch {options.batch}, one thread")
    print(f"{'':40}{'parameters':>12}" + "".join(f"{kind:>16}" for kind in KINDS))
    for text in options.mechanism:
        results = {}
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", kind, "--mechanism", text]
            command += ["--size", str(options.size), "--batch", str(options.batch)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            results |= json.loads(answer.stdout)
        figures = "".join(f"{results[kind]:16,.0f}" for kind in KINDS)
        print(f"{text:40}{results['parameters']:12,}{figures}", flush=True)


if __name__ == "__main__":
    main()
