"""How large a model, and how long a training: from the rows, and from what this machine does.

A step is timed here; as many are proposed as go into the minutes that are given, but no fewer than
make a model and no more than pay. All else follows from the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from rung3.data.variables import Image
from rung3.mechanisms import VAE
from rung3.study.lengths import LEAST_STEPS_PREDICTOR, seconds_of
from rung3.training.oracles.oracles import BATCH as PREDICTOR_BATCH

__all__ = ["LARGE", "SMALL", "Network", "Sizes", "side_that_fits", "size_numbers", "size_picture"]

BATCH_IMAGE = 32
"""Images a step: on a CPU, twice as many take twice as long and teach little more."""

BATCH_NUMBER = 128
"""Rows a step of everything else."""


@dataclass(frozen=True)
class Network:
    """A VAE that is proposed, with a pose: things are seldom in the same place.

    Attributes:
        latent: Length of the latent vector.
        width: Channels at half the image's size.
        depth: Residual blocks at each resolution.
        least: Steps of training that are proposed at least.
        most: Steps beyond which it gains little.
    """

    latent: int
    width: int
    depth: int
    least: int
    most: int


SMALL = Network(16, 8, 2, 10_000, 20_000)
"""For few rows. A step takes half the time of a large one's, and many steps are needed: on 456 made
pictures the loss on rows held out still fell by a tenth in the last quarter of 1,500 steps, and the
answers were worse than doing nothing."""

LARGE = Network(32, 16, 3, 3_000, 6_000)
"""For many rows: the defaults of `VAE`."""

STEPS_NUMBER = 2_000
"""Steps of a number's or category's training: seconds, and more than enough."""

MOST_EPOCHS_NUMBER = 200
"""Passes over a small table, at most: more would learn it by heart."""

SMALLEST = 32
"""Pixels of a longer side below which pictures are not made smaller to save time."""

FEW = 2_000
"""Rows below which the small model is proposed."""

SHARE = 0.7
"""Share of the minutes for the image; the rest is for predictors and evaluation."""


@dataclass(frozen=True)
class Sizes:
    """What is proposed for the training of an image.

    Attributes:
        network: The model.
        epochs: Passes over the rows.
        batch: Rows a step.
        steps: Steps in all.
        minutes: Estimated time of training here.
        predictor_epochs: Passes of the predictors that judge it.
    """

    network: Network
    epochs: int
    batch: int
    steps: int
    minutes: float
    predictor_epochs: int


def size_numbers(n: int) -> tuple[int, int]:
    """Return epochs and batch size for numbers and categories, of `n` training rows.

    Example:
        >>> size_numbers(456), size_numbers(20_000)
        ((200, 65), (13, 128))
    """
    batch = min(BATCH_NUMBER, max(8, n // 7)) if n < 7 * BATCH_NUMBER else BATCH_NUMBER
    return min(MOST_EPOCHS_NUMBER, -(-STEPS_NUMBER // max(1, n // batch))), batch


def side_that_fits(image: Image, n: int, minutes: float) -> int | None:
    """Return a longer side at which the least training fits the minutes, if the image's does not.

    Args:
        image: The image variable.
        n: Number of training rows.
        minutes: For everything.

    Returns:
        Half the longer side, or a quarter, but no less than `SMALLEST`; `None` to keep it.
    """
    longest = side = max(image.height, image.width)
    shape = image
    while side >= 2 * SMALLEST and size_picture(shape, n, minutes).minutes > SHARE * minutes:
        side //= 2
        scale = side / longest
        height, width = (max(1, round(edge * scale)) for edge in (image.height, image.width))
        shape = replace(image, height=height, width=width)
    return side if side < longest else None


def size_picture(image: Image, n: int, minutes: float) -> Sizes:
    """Propose how to train an image on `n` rows within some minutes of this machine.

    Args:
        image: The image variable.
        n: Number of training rows.
        minutes: For everything; the least that makes a model is proposed all the same.
    """
    batch = max(1, min(BATCH_IMAGE, n // 2))
    network = SMALL if n < FEW else LARGE
    seconds = _seconds(image, batch, network)
    room = int(SHARE * minutes * 60 / seconds)
    steps = max(network.least, min(network.most, room))
    per_epoch = max(1, n // batch)
    epochs = -(-steps // per_epoch)
    predictor = max(1, n // PREDICTOR_BATCH)
    return Sizes(
        network,
        epochs,
        batch,
        epochs * per_epoch,
        epochs * per_epoch * seconds / 60,
        max(4, -(-2 * LEAST_STEPS_PREDICTOR // predictor)),
    )


def _seconds(image: Image, batch: int, network: Network) -> float:
    """Return the time of a step of training here, in seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mechanism = VAE(
            network.latent,
            "logistic" if image.bits else "gaussian",
            network.width,
            network.depth,
            pose=True,
        )
        bound = mechanism.bind("image", image, {})
        value = image.nearest(torch.rand(batch, *image.shape))
        bound.calibrate(value, {})
        optimizer = torch.optim.AdamW(bound.parameters(), lr=1e-4)

        def step() -> None:
            optimizer.zero_grad()
            bound.loss(value, {}).backward()
            optimizer.step()

        return seconds_of(step)
