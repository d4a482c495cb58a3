"""Pseudo-oracles: small networks that read a parent's value off the image, and see nothing else.

Effectiveness asks whether an image that was told to be something is it (lecture 1.9.2). A
convolutional network answers, `d(x) ~ pa`, trained on real training images, then frozen. It is no
better than its error on real test images, which is therefore reported beside every score.

With rows that it was not trained on an oracle is measured, and then it has a density: `q(pa | x)`
is its softmax for categories, and `N(d(x), s^2)` for numbers, s the residual on those rows. The
counterfactual objective trains against such a density, never against the oracles that judge it.

Source: Monteiro et al. 2023 (arXiv 2303.01274), section 4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.digests import digest
from rung3.evaluation.distances import distance
from rung3.mechanisms.encoding import coding
from rung3.seeding import Seed, base_seed, stream
from rung3.variables import Discrete, Image, Variable, from_config

if TYPE_CHECKING:
    from rung3.rows import Rows
    from rung3.scm import SCM

__all__ = ["Oracle", "Oracles", "fit_oracles"]

LEARNING_RATE = 3e-3
BATCH = 128

FINEST = 0.01
"""Least residual, in standard deviations of the variable: a smaller one would outweigh all else."""

AT_ONCE = 512
"""Rows at once when an oracle is measured."""


class Oracle(nn.Module):
    """Reads one variable off an image.

    Args:
        image: The image it sees.
        target: The variable that it reads.
        width: Channels of its second layer; the deepest have twice as many.

    Attributes:
        residual: Root mean square of what it misses on rows held out, standardised; NaN before
            `measure`, and for categories.
        explained: Share of the variable's uncertainty that it explains on those rows: of the
            variance for numbers, of the entropy for categories; NaN before `measure`.
    """

    residual: Tensor
    explained: Tensor

    def __init__(self, image: Image, target: Variable, width: int = 32) -> None:
        super().__init__()
        self.image = image
        self.target = target
        self.width = width
        self.standardise = coding(target)
        outputs = target.classes if isinstance(target, Discrete) else math.prod(self.shape)
        self.near, self.far, self.head = _layers(image, outputs, width)
        # As the images: on a CPU that takes a fifth less time.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("residual", torch.full(self.shape, torch.nan))
        self.register_buffer("explained", torch.tensor(torch.nan))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target as it is coded: `(2,)` for a point of a circle."""
        return self.standardise.shape

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(n, classes)`, or the standardised value `(n, *shape)`; on a circle, arrows."""
        near = self.near((2 * images - 1).contiguous(memory_format=torch.channels_last))
        found: Tensor = self.head(torch.cat([self.far(near), near.amax((2, 3))], dim=1))
        if isinstance(self.target, Discrete):
            return found
        return found.reshape(len(images), *self.shape)

    def read(self, images: Tensor) -> Tensor:
        """The variable's value in its own unit, `(n, *shape)`, off images `(n, C, H, W)`."""
        found = self(images)
        if isinstance(self.target, Discrete):
            codes: Tensor = found.argmax(1)
            return codes
        value: Tensor = self.standardise.inverse(found)
        return value

    def loss(self, images: Tensor, values: Tensor) -> Tensor:
        """Cross-entropy for categories; Huber's loss of the standardised value for numbers."""
        found = self(images)
        if isinstance(self.target, Discrete):
            return F.cross_entropy(found, values.long())
        return F.smooth_l1_loss(found, self.standardise(values), beta=0.1)

    def expected(self, images: Tensor) -> Tensor:
        """What it expects of images: probabilities `(n, classes)`, or the standardised value."""
        found: Tensor = self(images).to(self.explained.dtype)
        return found.softmax(1) if isinstance(self.target, Discrete) else found

    def told(self, values: Tensor) -> Tensor:
        """Values as `log_loss` takes them: class codes, or standardised."""
        if isinstance(self.target, Discrete):
            return values.long()
        standard: Tensor = self.standardise(values)
        return standard

    def log_loss(self, images: Tensor, sought: Tensor) -> Tensor:
        """`-log q(sought | images)` of each row, `(n,)`, in nats, once the oracle is measured.

        Args:
            images: Images `(n, C, H, W)`; gradients reach them.
            sought: What they should show: from `told`, or from `expected` of other images, and then
                it is the cross-entropy of what is expected of the two (but for a constant).
        """
        found: Tensor = self(images).to(self.explained.dtype)
        if isinstance(self.target, Discrete):
            return F.cross_entropy(found, sought, reduction="none")
        missed = ((found - sought) / self.residual).square()
        nats: Tensor = 0.5 * missed + self.residual.log() + 0.5 * math.log(2 * math.pi)
        return nats.reshape(len(images), -1).sum(1)

    @torch.no_grad()
    def measure(self, images: Tensor, values: Tensor) -> None:
        """Take the residual, and the share explained, from rows that it was not trained on."""
        found = torch.cat([self(part) for part in images.split(AT_ONCE)])
        if isinstance(self.target, Discrete):
            shares = torch.bincount(values.long(), minlength=self.target.classes) / len(values)
            guessing = torch.special.entr(shares).sum()
            missed = F.cross_entropy(found, values.long())
        else:
            sought = self.standardise(values)
            squares = (found - sought).square()
            self.residual.copy_(squares.mean(0).sqrt().clamp_min(FINEST))
            missed, guessing = squares.mean(), (sought - sought.mean(0)).square().mean()
        self.explained.copy_((1 - missed / guessing).nan_to_num(0, 0, 0))

    def digest(self) -> str:
        """A few letters that change if any weight does; measuring it does not change them."""
        measured = ("residual", "explained")
        weights = {k: part.float() for k, part in self.state_dict().items() if k not in measured}
        return digest(weights)

    def error(self, images: Tensor, values: Tensor) -> Tensor:
        """Error of each row, `(n,)`: absolute, in the variable's unit; 0 or 1 for categories."""
        return distance(self.target, self.read(images), values)

    def config(self) -> dict[str, Any]:
        """What `Oracles.save` stores beside the weights."""
        return {
            "image": self.image.config(),
            "target": self.target.config(),
            "width": self.width,
        }


class Oracles(Mapping[tuple[str, str], Oracle]):
    """Oracles by (image, variable), frozen and in evaluation mode.

    Args:
        oracles: The oracles.
        origin: What they were trained on, in words.
    """

    def __init__(self, oracles: Mapping[tuple[str, str], Oracle], origin: str = "") -> None:
        self._oracles = dict(oracles)
        self.origin = origin
        self.freeze()

    def freeze(self) -> None:
        """Put all in evaluation mode, without gradients."""
        for oracle in self.values():
            oracle.eval().requires_grad_(False)

    def measure(self, model: SCM, rows: Mapping[str, Any]) -> None:
        """Measure all on rows that none was trained on: only then have they a density."""
        held = _rows_of(model, rows)
        for pair, oracle in self.items():
            oracle.measure(
                *_seen(held, {name: model.variables[name] for name in pair}, model.device)
            )

    def to(self, device: torch.device | str) -> Oracles:
        """The same oracles, moved to a device."""
        for oracle in self.values():
            oracle.to(device)
        return self

    def __getitem__(self, key: tuple[str, str]) -> Oracle:
        return self._oracles[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._oracles)

    def __len__(self) -> int:
        return len(self._oracles)

    def save(self, path: str | Path) -> None:
        """Write weights and description to one safetensors file."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        described = []
        for k, ((image, target), oracle) in enumerate(self.items()):
            described.append({"of": [image, target], **oracle.config()})
            tensors |= {f"{k}.{name}": part for name, part in oracle.state_dict().items()}
        metadata = {"oracles": json.dumps(described), "origin": self.origin}
        save_file({k: t.contiguous().cpu() for k, t in tensors.items()}, str(path), metadata)

    @classmethod
    def load(cls, path: str | Path) -> Oracles:
        """Read what `save` wrote.

        Raises:
            ValueError: If the file is missing, or is not one of oracles.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path}: cannot read oracles from it: {error}") from None
        if "oracles" not in metadata:
            raise ValueError(f"{path}: holds no oracles; expected a file written by Oracles.save")
        found = {}
        for k, entry in enumerate(json.loads(metadata["oracles"])):
            image, target = entry["of"]
            view = from_config(image, entry["image"])
            if not isinstance(view, Image):
                raise ValueError(f"{path}: {image}: expected an Image, got {view}")
            oracle = Oracle(view, from_config(target, entry["target"]), entry["width"])
            own = {n.split(".", 1)[1]: t for n, t in tensors.items() if n.startswith(f"{k}.")}
            oracle.load_state_dict(own)
            found[image, target] = oracle
        return cls(found, metadata.get("origin", ""))


def fit_oracles(
    model: SCM,
    train: Mapping[str, Any],
    held: Mapping[str, Any] | None = None,
    *,
    epochs: int = 5,
    width: int = 32,
    seed: Seed = 0,
    progress: bool = True,
    origin: str = "",
) -> Oracles:
    """Train one oracle for each image and each of its parents that is not an image.

    About 4 s an epoch of 20,000 images of 32 x 32, on one CPU core.

    Args:
        model: Whose variables and graph are meant; its mechanisms are not used.
        train: Training rows; never those that are evaluated on.
        held: Other training rows, to measure the oracles on: only then have they a density.
        epochs: Passes over the training rows.
        width: Channels of an oracle's second layer.
        seed: Of the weights and the order of rows.
        progress: Whether to show a progress bar.
        origin: What the rows are, in words, for the report.

    Raises:
        ValueError: If the rows do not fit the variables.
    """
    rows = _rows_of(model, train)
    pairs = [
        (image, parent)
        for image, variable in model.variables.items()
        for parent in model.graph.parents(image)
        if isinstance(variable, Image) and not isinstance(model.variables[parent], Image)
    ]
    base = base_seed(seed)
    found = {}
    for pair in pairs:
        variables = {name: model.variables[name] for name in pair}
        images, values = _seen(rows, variables, model.device)
        found[pair] = _fit(variables, images, values, epochs, width, base, progress)
    oracles = Oracles(found, origin or f"{rows.n} training rows, {epochs} epochs")
    if held is not None:
        oracles.measure(model, held)
    return oracles


def _rows_of(model: SCM, values: Mapping[str, Any]) -> Rows:
    from rung3.rows import as_rows

    return as_rows(values, model.variables, torch.device("cpu"))


def _seen(
    rows: Rows, variables: Mapping[str, Variable], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Image and value, of the rows that have both."""
    present = torch.ones(rows.n, dtype=torch.bool)
    for name, variable in variables.items():
        if name not in rows:
            raise ValueError(f"{name}: not in the training rows, which have {list(rows)}")
        present &= ~variable.is_missing(rows[name])
    image, value = (rows[name][present].to(device) for name in variables)
    return image, value


def _fit(
    variables: Mapping[str, Variable],
    images: Tensor,
    values: Tensor,
    epochs: int,
    width: int,
    seed: int,
    progress: bool,
) -> Oracle:
    from rich.progress import track

    name, (image, target) = "/".join(variables), variables.values()
    if not isinstance(image, Image) or len(images) < 2:
        raise ValueError(f"{name}: an oracle needs at least two rows with both, got {len(images)}")
    generator = stream(seed, f"oracle/{name}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(generator.initial_seed())
        oracle = Oracle(image, target, width).to(images.device)
        if not isinstance(target, Discrete):
            oracle.standardise.calibrate(values)
        per_epoch = max(1, len(images) // BATCH)
        optimizer = torch.optim.AdamW(
            oracle.parameters(), LEARNING_RATE, weight_decay=1e-2, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=epochs * per_epoch, pct_start=0.2
        )
        text = f"oracle of {name}"
        for _ in track(range(epochs), text, disable=not progress, transient=True):
            order = torch.randperm(len(images), generator=generator).to(images.device)
            for batch in order.chunk(per_epoch):
                optimizer.zero_grad()
                oracle.loss(images[batch], values[batch]).backward()
                optimizer.step()
                schedule.step()
    return oracle


def _layers(image: Image, outputs: int, width: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Layers at half the image's size; halvings until its shorter side is at most 4; a head.

    The head also sees the greatest value of each channel of the first layers, wherever it is.
    """

    def layer(inputs: int, outputs: int, stride: int, size: int = 3) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
        ]

    near = layer(image.channels, width // 2, 2, 5) + layer(width // 2, width, 1)
    far: list[nn.Module] = []
    height, breadth, channels = math.ceil(image.height / 2), math.ceil(image.width / 2), width
    while min(height, breadth) > 4:
        far += layer(channels, 2 * width, 2)
        channels = 2 * width
        height, breadth = math.ceil(height / 2), math.ceil(breadth / 2)
    features = channels * height * breadth + width
    head = [nn.Linear(features, 64), nn.SiLU(), nn.Linear(64, outputs)]
    return nn.Sequential(*near), nn.Sequential(*far, nn.Flatten()), nn.Sequential(*head)
