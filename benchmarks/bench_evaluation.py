"""What an evaluation costs beside the model's own passes and the first rendering of truths.

Four interventions on real Morpho-MNIST test rows, with everything that a protocol can ask for: the
learned oracles' metrics on all rows, truth and morphometry on the first of them. CPU time of this
process, in seconds: of the model's mechanisms, of the world's, and of the rest. The second pass
finds the truths in the cache. The model takes next to no time (an image is rescaled, and the finest
grey levels are its noise of observation), or is a small VAE that is not trained.

    python benchmarks/bench_evaluation.py --rows 10000 --truths 1000
    python benchmarks/bench_evaluation.py --rows 1000 --truths 100 --vae
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3 import SCM, worlds
from rung3.data import morphomnist
from rung3.evaluation import Cache, Protocol, evaluate, fit_oracles
from rung3.mechanisms import VAE, Equation
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.rows import Noise

DATA = Path(os.environ.get("RUNG3_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
GREY = 16


class Rescaled(Mechanism):
    """`x = i z + eps`: z the image in coarse grey levels over its intensity, eps the rest."""

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "images differ in intensity alone"
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)

    def build(self) -> None:
        """Nothing is learned."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape = (n, *self.variable.shape)
        return {"z": torch.zeros(shape), "eps": torch.zeros(shape)}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Mapping)
        intensity = parents["intensity"][:, None, None, None] / 255
        return (noise["z"] * intensity + noise["eps"]).clamp(0, 1)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        intensity = parents["intensity"][:, None, None, None] / 255
        coarse = (value * GREY).round() / GREY
        return repeat_noise({"z": coarse / intensity, "eps": value - coarse}, particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return torch.zeros(len(value))


@contextmanager
def timed(model: SCM) -> Iterator[list[float]]:
    """CPU seconds in the image's mechanism of a model: calls within calls count once."""
    spent, depth = [0.0], [0]
    kind = type(model.mechanisms["image"])
    names = [name for name in ("abduct", "predict", "log_prob", "infer") if hasattr(kind, name)]
    own = {name: getattr(kind, name) for name in names}

    def wrapped(name: str) -> Any:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            start, depth[0] = time.process_time(), depth[0] + 1
            try:
                return own[name](self, *args, **options)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    spent[0] += time.process_time() - start

        return call

    for name in names:
        setattr(kind, name, wrapped(name))
    try:
        yield spent
    finally:
        for name in names:
            setattr(kind, name, own[name])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--truths", type=int, default=1_000)
    parser.add_argument("--vae", action="store_true", help="a small VAE that is not trained")
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = worlds.morphomnist(DATA / "mnist", "test")
    test = morphomnist(DATA / "morphomnist-ti", "test", mnist=DATA / "mnist")[: options.rows]
    train = morphomnist(DATA / "morphomnist-ti")[: options.rows]
    image: Mechanism = VAE(latent=16, width=8, depth=1) if options.vae else Rescaled()
    known = {name: world.mechanisms[name] for name in ("thickness", "intensity")}
    causes = {name: m for name, m in known.items() if isinstance(m, Equation)}
    model = SCM(world.graph, world.variables, {**causes, "image": image})
    oracles = fit_oracles(model, train[:1000], epochs=1, progress=False)  # as slow as good ones
    both = {name: test[name].flip(0) for name in ("thickness", "intensity")}
    asked = {name: test[name].flip(0) for name in ("thickness", "intensity", "digit")}
    protocol = Protocol.complete(
        interventions={**asked, "both": both}, n=options.rows, truth_n=options.truths
    )
    print(f"{options.rows} rows, {options.truths} truths; CPU seconds, one thread")
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.passes):
            with timed(model) as passes, timed(world) as rendering:
                start = time.process_time()
                evaluate(
                    model, test, world, train, protocol=protocol, oracles=oracles,
                    cache=Cache(folder), progress=False,
                )  # fmt: skip
                total = time.process_time() - start
            rest = total - passes[0] - rendering[0]
            print(
                f"pass {k + 1}: {total:7.1f} in all, {passes[0]:7.1f} the model, "
                f"{rendering[0]:7.1f} the world, {rest:7.1f} the rest",
                flush=True,
            )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak of resident memory: {most:,.0f} MiB")


if __name__ == "__main__":
    main()
