"""An image mechanism on Morpho-MNIST beside causal-gen's HVAE: speed, and quality in equal time.

Ours is the image mechanism of the study, trained by `rung3.fit` with the study's options. Without
`--rival`, the path of a checkout of causal-gen, our numbers stand alone.

    python benchmarks/bench_hvae.py --rival ../causal-gen
    python benchmarks/bench_hvae.py --rival ../causal-gen --train 600

The first prints images a second, in training and in counterfactuals (abduct, act, predict, eps
kept), at several batch sizes; runs alternate, and ratios are those of medians. Its images are
random: speed does not depend on them. With `--train` each is trained for so many seconds, both at
once in processes of their own (in turn on a GPU), and then test NELBO and skill against the truth
are printed.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from contenders import IMAGE, Contender, autocast, clock_of, contenders, wait
from rung3.data.rows import Rows
from rung3.mechanisms import Mechanism
from rung3.study.study import Study
from skill import imagine, nelbo, questions, scores
from subjects import rows

STUDY = Path(__file__).parents[1] / "studies" / "morphomnist-hvae.yaml"
CAUSES = ("thickness", "intensity")


# Speed -------------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> None:
    """Images a second at each batch size, and of the best."""
    study = Study.load(options.study, options.set)
    mechanisms = {name: make() for name, make in contenders(study, options).items()}
    for name, contender in mechanisms.items():
        mechanism = contender.mechanism
        spelt = ", ".join(f"{k} {v:.4f}" for k, v in gigaflops(mechanism, options).items())
        print(f"{name}: {mechanism.describe()}, {parameters(mechanism):,} parameters")
        print(f"{'':{len(name)}}  GFLOP an image: {spelt}")
    last = f"{'ratio':>9}" if len(mechanisms) == 2 else ""
    for kind, measure in {"training": training, "counterfactuals": counterfactuals}.items():
        print(f"\n{kind}, images/s: median of {options.repeats} (least to most)")
        print(f"{'batch':>7}" + "".join(f"{name:>28}" for name in mechanisms) + last)
        medians: dict[str, list[float]] = {name: [] for name in mechanisms}
        for size in options.batch:
            rates: dict[str, list[float]] = {name: [] for name in mechanisms}
            for _ in range(options.repeats + 1):  # the first warms up
                for name, contender in mechanisms.items():
                    rates[name].append(measure(contender, size, options))
            for name, values in rates.items():
                medians[name].append(statistics.median(values[1:]))
            cells = [
                f"{medians[name][-1]:10,.1f} ({min(values[1:]):,.1f} to {max(values[1:]):,.1f})"
                for name, values in rates.items()
            ]
            now = ratio([values[-1] for values in medians.values()])
            print(f"{size:7}" + "".join(f"{cell:>28}" for cell in cells) + now, flush=True)
        best = [max(values) for values in medians.values()]
        print(f"{'best':>7}" + "".join(f"{each:28,.1f}" for each in best) + ratio(best))


def training(contender: Contender, size: int, options: argparse.Namespace) -> float:
    """Images a second of training."""
    n = max(options.images, 2 * size)
    value, parents, _ = rows(contender.mechanism.variable.shape, n)
    return contender.rate(Rows({IMAGE: value, **parents}), size)


def counterfactuals(contender: Contender, size: int, options: argparse.Namespace) -> float:
    """Images a second of abduction, action and prediction."""
    n, clock, device = max(options.images, size), clock_of(options), torch.device(options.device)
    value, parents, imagined = rows(contender.mechanism.variable.shape, n)
    images = value.to(device).split(size)
    before, after = (_batches(part, size, device) for part in (parents, imagined))
    wait(device)
    start = clock()
    with autocast(options):
        for batch in zip(images, before, after, strict=True):
            imagine(contender.mechanism, *batch)
    wait(device)
    return float(n / (clock() - start))


def _batches(
    columns: Mapping[str, torch.Tensor], size: int, device: torch.device
) -> list[dict[str, torch.Tensor]]:
    parts = zip(*(column.to(device).split(size) for column in columns.values()), strict=True)
    return [dict(zip(columns, part, strict=True)) for part in parts]


def gigaflops(mechanism: Mechanism, options: argparse.Namespace) -> dict[str, float]:
    """1e9 floating-point operations, of convolutions and matrix products, per image."""
    n, device = 8, torch.device(options.device)
    value, parents, imagined = rows(mechanism.variable.shape, n)
    value = value.to(device)
    (before,), (after,) = (_batches(part, n, device) for part in (parents, imagined))
    counted = copy.deepcopy(mechanism)

    def count(run: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops()) / n / 1e9

    return {
        "training": count(lambda: counted.train().loss(value, before).backward()),
        "counterfactual": count(lambda: imagine(counted.eval(), value, before, after)),
    }


def parameters(mechanism: Mechanism) -> int:
    return sum(parameter.numel() for parameter in mechanism.parameters())


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def ratio(pair: list[float]) -> str:
    """The second over the first, if there are two."""
    return f"{pair[1] / pair[0]:9.2f}" if len(pair) == 2 else ""


# Quality for the same time -----------------------------------------------------------------------


def quality(options: argparse.Namespace) -> None:
    """Each trained for the same seconds, then asked about the same test rows."""
    names = list(contenders(Study.load(options.study, options.set), options))
    context = multiprocessing.get_context("spawn")
    at_once = len(names) if options.device == "cpu" else 1
    with ProcessPoolExecutor(at_once, mp_context=context) as pool:
        runs = {name: pool.submit(trained, name, options) for name in names}
        results = {name: run.result() for name, run in runs.items()}
    print(f"\n{'':38}" + "".join(f"{name:>14}" for name in names))
    for key in results[names[0]]:
        values = [result[key] for result in results.values()]
        print(f"{key:38}" + "".join(f"{number(value):>14}" for value in values))


def trained(name: str, options: argparse.Namespace) -> dict[str, float]:
    """What one contender comes to, in a process of its own."""
    torch.set_num_threads(options.threads)
    study = Study.load(options.study, options.set)
    train, _, test, world = study.splits()
    if world is None:
        raise ValueError(f"{options.study}: its truth is not known; set data.mnist")
    contender = contenders(study, options)[name]()
    images, seconds = contender.train(train, options.train)
    by_cause = questions(world, test, IMAGE, CAUSES, torch.device(options.device))
    test = test.to(torch.device(options.device))
    torch.manual_seed(0)
    return {
        "parameters": parameters(contender.mechanism),
        "images seen": images,
        "seconds of training": seconds,
        "test NELBO, nats per dimension": nelbo(contender.mechanism, test),
        **scores(contender.mechanism, test, by_cause),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rival", help="a checkout of causal-gen")
    parser.add_argument("--train", type=float, metavar="SECONDS")
    parser.add_argument("--study", default=STUDY, help="a study of Morpho-MNIST")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a change of the study, such as 'mechanisms.image={kind: VAE, latent: 32}'",
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32, 128])
    parser.add_argument("--images", type=int, default=256, help="in a run, at least")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision",
        choices=["32-true", "bf16-mixed"],
        help="of both, in training and counterfactuals; if not given, the study's own in training",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kind = "processor" if clock_of(options) is time.process_time else "clock"
    print(f"torch {torch.__version__}, {options.device}, threads: {options.threads}")
    print(f"precision: {options.precision or 'as the study says'}; seconds of the {kind}")
    try:
        quality(options) if options.train else speed(options)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
