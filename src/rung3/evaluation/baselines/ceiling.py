"""The ceiling of skill: what a network can see in a factual image, trained on the truth itself.

In a known world the true counterfactual x* of an image x is known, and a network may be trained on
it, with the parents before and after the intervention, pa and pa~:

    x~ = clip(s(pa~) (x / s(pa) e^g + b)),                         s(pa) = exp(w . log pa),

    (g, b) = sum_k tanh|pa~_k - pa_k| (g_k, b_k),        (g_k, b_k) = U-Net(x, x / s(pa); pa, pa~),

    min E |x~ - x*|,

the logarithms and differences being standardised, the former of the parents that are positive
numbers. Rescaling is one weight away: what the parents do to the brightness of the whole image is
learned once, and not again for every change of shape. A parent that does not change says nothing,
so a null intervention changes nothing.

The pairs (x, x*) come from interventions on every cause of the image, to its values in other rows,
which the world propagates. Both images are of one noise, so each pair is asked both ways. No
mechanism is trained like that: in the real world there is no x*. So its skill is about what any
mechanism of this size can reach, and tells what a question leaves open.

The U-Net is a hierarchical VAE's pass up and chain down (`rung3.mechanisms.networks.hierarchy`),
with the posterior's means for latents.

Source: Ronneberger et al. 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from rung3.data.files import read_tensors, write_tensors
from rung3.data.progress import tracked
from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Continuous, Image, Variable, from_config
from rung3.evaluation.plan import plan
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.convolutional import zero
from rung3.mechanisms.networks.encoding import MLP, ParentEncoder, Standardise
from rung3.mechanisms.networks.hierarchy import BottomUp, Latent, TopDown
from rung3.mechanisms.networks.spatial import spread
from rung3.mechanisms.networks.stages import Grid, Stage, preset
from rung3.scm.truth import true_counterfactual

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Ceiling", "fit_ceiling", "shipped_ceiling"]

CEILINGS = Path(__file__).parent / "ceilings"
"""Weights of the ceilings that ship, by the world's name."""

CONTEXT = 48
"""Width of the encoded parents."""

LEARNING_RATE = 2e-3
"""Learning rate of all weights but w."""

POWERS_RATE = 2e-2
"""Learning rate of the weights w, each of which acts on all pixels."""

BATCH = 32
"""Pairs of images in a step of training."""

WARM_UP = 0.11
"""Share of the steps; times a whole number it is never 1, where OneCycleLR divides by zero."""

WIDTH = 40
"""Channels at half the image's size."""

DEEPER = 16
"""Channels that every coarser resolution has more."""

CHUNK_ROWS = 500
"""Rows whose counterfactuals are asked of the world at once."""


class Ceiling(nn.Module):
    """A baseline: an image from the factual one, its parents, and their counterfactual values.

    Args:
        image: The image.
        parents: Its parents, by name.
        width: Channels at half the image's size; `DEEPER` more at every coarser one.
        skipped: Interventions that it was not trained on, and why.

    Attributes:
        powers: The weights w of the parents that are positive numbers.

    Example:
        >>> ceiling = Ceiling(Image(1, 8, 8), {"s": Continuous(lower=0)}, width=8)
        >>> x, s = torch.randint(256, (2, 1, 8, 8)) / 255, {"s": torch.ones(2)}
        >>> torch.equal(ceiling(x, s, s), x)
        True
    """

    def __init__(
        self,
        image: Image,
        parents: Mapping[str, Variable],
        width: int = WIDTH,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.image, self.parents, self.width = image, dict(parents), width
        self.skipped = dict(skipped or {})
        self.positive = [name for name, variable in parents.items() if _positive(variable)]
        self.encoders = nn.ModuleList(ParentEncoder({k: v}) for k, v in parents.items())
        self.logs = Standardise((len(self.positive),))
        inputs = 2 * ParentEncoder(parents).width + len(self.positive)
        self.context = nn.Sequential(MLP(inputs, CONTEXT), nn.SiLU())
        stages = [
            Stage(stage.resolution, wide, 2 if level else 3, wide // 2, 1 if level else 2)
            for level, stage in enumerate(preset(image))
            for wide in [width + level * DEEPER]
        ]
        grid = Grid("image", image, stages)
        self.up = BottomUp(grid, stages, 2 * image.channels, CONTEXT)
        outputs = len(self.parents) * 2 * image.channels
        self.down = TopDown(grid, stages, outputs, CONTEXT, learned=False)
        zero(self.down.out)
        self.powers = nn.Parameter(torch.zeros(len(self.positive)))

    def forward(self, image: Tensor, before: Parents, after: Parents) -> Tensor:
        """Return the counterfactual image `(n, C, H, W)`, in [0, 1]; of whole levels if x is."""
        return self.image.nearest(self.unclipped(image, before, after).clamp(0, 1))

    def unclipped(self, image: Tensor, before: Parents, after: Parents) -> Tensor:
        """Return the same before it is clipped to [0, 1] and rounded."""
        n = len(image)
        old, new = (self.logs(self._logs(parents)) for parents in (before, after))
        encoded = [[encoder(p, n) for encoder in self.encoders] for p in (before, after)]
        moves = [(b - a).norm(dim=1) for a, b in zip(*encoded, strict=True)]
        change = torch.stack(moves, 1).tanh()
        ratios = (new - old).expand(n, -1)
        context = self.context(torch.cat([*encoded[0], *encoded[1], ratios], dim=1))
        # Sums of products, not products of matrices: those would be rounded to bfloat16.
        s, wanted = (
            spread(logs.mul(self.powers).sum(1, keepdim=True).exp(), image) for logs in (old, new)
        )
        canonical = image / s
        features = self.up(torch.cat([image, canonical], dim=1), context)

        def skip(latent: Latent, h: Tensor) -> Tensor:
            joined = torch.cat([h, features[latent.index]], dim=1).relu()
            mean: Tensor = latent.mean(joined)
            return mean

        outputs = self.down(context, skip).unflatten(1, (len(self.parents), -1))
        gate, shift = (spread(change, outputs[:, 0])[:, :, None] * outputs).sum(1).chunk(2, dim=1)
        counterfactual: Tensor = wanted * (canonical * gate.clamp_max(6).exp() + shift)
        return counterfactual

    def calibrate(self, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        for encoder in cast(Iterable[ParentEncoder], self.encoders):
            encoder.calibrate(parents)
        if self.positive:
            self.logs.calibrate(self._logs(parents))

    def _logs(self, parents: Parents) -> Tensor:
        """Return the logarithms of the positive parents, `(n, k)`."""
        parts = [parents[name].clamp_min(1e-6).log() for name in self.positive]
        return torch.stack(parts, 1) if parts else self.powers.new_zeros(1, 0)

    def loss(self, image: Tensor, before: Parents, after: Parents, true: Tensor) -> Tensor:
        """Return `E |x~ - x*|`; its gradient passes the clipping wherever x~ is not x* after it."""
        answer = self.unclipped(image, before, after)
        return ((answer - true).abs() * (answer.clamp(0, 1) != true)).mean()

    def save(self, path: str | Path) -> None:
        """Write description and weights, in half precision, to one safetensors file."""
        description = {
            "image": self.image.config(),
            "parents": {name: variable.config() for name, variable in self.parents.items()},
            "width": self.width,
            "skipped": self.skipped,
        }
        weights = dict(self.named_parameters())
        tensors = {
            name: part.half() if name in weights else part
            for name, part in self.state_dict().items()
        }
        write_tensors(path, tensors, "ceiling", description)

    @classmethod
    def load(cls, path: str | Path) -> Ceiling:
        """Read what `save` wrote, ready to answer.

        Raises:
            ValueError: If the file is missing or damaged, or is not one of a ceiling.
        """
        tensors, description = read_tensors(path, "ceiling")
        image = from_config("image", description["image"])
        if not isinstance(image, Image):
            raise ValueError(f"{path}: expected an Image, got {image}")
        configs = description["parents"]
        parents = {name: from_config(name, config) for name, config in configs.items()}
        with torch.random.fork_rng(devices=[]):
            ceiling = cls(image, parents, description["width"], description["skipped"])
        ceiling.load_state_dict(tensors)
        return ceiling.eval().requires_grad_(False)


class Pairs(NamedTuple):
    """Factual images and what they would have been.

    Attributes:
        row: Which factual row each pair belongs to, `(m,)`.
        after: The image's counterfactual parents, `(m,)` each.
        true: The counterfactual images, `(m, C, H, W)`.
        skipped: Interventions whose truth the world does not know, and its reasons.
    """

    row: Tensor
    after: dict[str, Tensor]
    true: Tensor
    skipped: dict[str, str]


@lru_cache
def shipped_ceiling(world: str | None) -> Ceiling | None:
    """Return the ceiling that ships for a world of this name, if there is one.

    Example:
        >>> sorted(shipped_ceiling("digits").parents), shipped_ceiling("lecture")
        (['digit', 'intensity', 'thickness'], None)
    """
    weights = CEILINGS / f"{world}.safetensors"
    return Ceiling.load(weights) if weights.is_file() else None


def fit_ceiling(
    world: SCM,
    image: str,
    *,
    n: int = 20_000,
    epochs: int = 2,
    width: int = WIDTH,
    bfloat16: bool = False,
    seed: Seed = 0,
    progress: bool = True,
) -> Ceiling:
    """Train a network on a world's true counterfactuals, for `evaluate(..., baselines=)`.

    Args:
        world: The world.
        image: The image.
        n: Rows that are drawn from it; each is asked one intervention on each cause.
        epochs: Passes over all the answers, each asked one way or back, at random.
        width: Channels at half the image's size.
        bfloat16: Whether to train in bfloat16, where the processor computes with it.
        seed: Of the rows, the targets, the weights and the order.
        progress: Whether to show a progress bar.

    Returns:
        The ceiling, frozen; its `skipped` says which interventions the world refused.

    Raises:
        ValueError: If the model is not a world, `image` no image with causes, n too small, or the
            world knows the truth of no intervention.
    """
    variable = _check(world, image, n, epochs)
    base = base_seed(seed)
    rows = world.sample(n, seed=stream(base, "ceiling/rows"))
    pairs = _ask(world, rows, image, base)
    parents = world.mechanisms[image].parents
    before = {name: rows[name] for name in parents}
    generator = stream(base, "ceiling/training")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(generator.initial_seed())
        ceiling = Ceiling(variable, parents, width, pairs.skipped).to(world.device)
        ceiling.calibrate(before)
        _train(ceiling, rows[image], before, pairs, epochs, generator, bfloat16, progress)
    return ceiling.eval().requires_grad_(False)


def _train(
    ceiling: Ceiling,
    images: Tensor,
    parents: Parents,
    pairs: Pairs,
    epochs: int,
    generator: torch.Generator,
    bfloat16: bool,
    progress: bool,
) -> None:
    steps = max(1, len(pairs.row) // BATCH)
    optimizer, schedule = _optimizer(ceiling, epochs * steps)
    for step in tracked(range(epochs * steps), "ceiling", progress):
        if step % steps == 0:
            order = torch.randperm(len(pairs.row), generator=generator).tensor_split(steps)
        batch = _either_way(images, parents, pairs, order[step % steps], generator)
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            loss = ceiling.loss(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(ceiling.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _optimizer(
    ceiling: Ceiling, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return the optimiser and its schedule over so many steps."""
    rest = [weight for name, weight in ceiling.named_parameters() if name != "powers"]
    groups: list[dict[str, Any]] = [
        {"params": rest},
        {"params": [ceiling.powers], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.99))
    rates = [LEARNING_RATE, POWERS_RATE]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=steps, pct_start=WARM_UP
    )
    return optimizer, schedule


def _either_way(
    images: Tensor, parents: Parents, pairs: Pairs, at: Tensor, generator: torch.Generator
) -> tuple[Tensor, Parents, Parents, Tensor]:
    """Return image, parents before and after, and truth of pairs, each one way or back."""
    at = at.to(images.device)
    back = (torch.rand(len(at), generator=generator) < 0.5).to(images.device)
    row = pairs.row[at]

    def ends(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        turn = back.view(-1, *(1 for _ in one.shape[1:]))
        return torch.where(turn, other, one), torch.where(turn, one, other)

    both = {name: ends(value[row], pairs.after[name][at]) for name, value in parents.items()}
    before, after = ({name: pair[k] for name, pair in both.items()} for k in (0, 1))
    image, true = ends(images[row], pairs.true[at])
    return image, before, after, true


def _ask(world: SCM, rows: Rows, image: str, seed: int) -> Pairs:
    """Ask for the image with each cause in turn set to its values in other rows."""
    causes = [name for name in world.graph.order if name in world.graph.ancestors(image)]
    parts = [slice(k, min(k + CHUNK_ROWS, rows.n)) for k in range(0, rows.n, CHUNK_ROWS)]
    answers: list[Rows] = []
    places: list[Tensor] = []
    skipped = {}
    for query in plan(world, rows, rows.n, causes, seed):
        for at in parts:
            do = query.at(at, world.device)
            true = true_counterfactual(world, rows[at], do, world.device)
            if isinstance(true, str):
                skipped[query.label] = true
                break
            answers.append(true)
            places.append(torch.arange(at.start, at.stop, device=world.device))
    if not answers:
        raise ValueError(f"world: it knows the truth of no intervention on {image}: {skipped}")
    return Pairs(
        torch.cat(places),
        {name: torch.cat([a[name] for a in answers]) for name in world.graph.parents(image)},
        torch.cat([answer[image] for answer in answers]),
        skipped,
    )


def _check(world: SCM, image: str, n: int, epochs: int) -> Image:
    if world.world is None:
        raise ValueError(
            "world: expected a world, whose rows carry their noise, such as worlds.digits(); what "
            "a model answers is not the truth"
        )
    variable = world.variables.get(image)
    if not isinstance(variable, Image) or not world.graph.parents(image):
        raise ValueError(f"image={image!r}: expected an image with causes, one of {world.graph}")
    if n < 2 or epochs < 1:
        raise ValueError(f"n={n} must be at least 2, and epochs={epochs} at least 1")
    return variable


def _positive(variable: Variable) -> bool:
    return isinstance(variable, Continuous) and variable.dim is None and variable.lower >= 0
