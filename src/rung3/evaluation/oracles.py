"""Pseudo-oracles: small networks that read a parent's value off the image, and see nothing else.

Effectiveness asks whether an image that was told to be something is it (lecture 1.9.2). A
convolutional network answers, `d(x) ~ pa`, trained on real training images, then frozen. It is no
better than its error on real test images, which is therefore reported beside every score.

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

from rung3.evaluation.distances import distance
from rung3.mechanisms.encoding import Standardise
from rung3.seeding import Seed, base_seed, stream
from rung3.variables import Discrete, Image, Variable, from_config

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = ["Oracle", "Oracles", "fit_oracles"]

LEARNING_RATE = 3e-3
BATCH = 128


class Oracle(nn.Module):
    """Reads one variable off an image.

    Args:
        image: The image it sees.
        target: The variable that it reads.
        width: Channels of its second layer; the deepest have twice as many.
    """

    def __init__(self, image: Image, target: Variable, width: int = 32) -> None:
        super().__init__()
        self.image = image
        self.target = target
        self.width = width
        self.standardise = Standardise(target.shape)
        outputs = target.classes if isinstance(target, Discrete) else math.prod(target.shape)
        self.near, self.far, self.head = _layers(image, outputs, width)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(n, classes)`, or the standardised value `(n, *shape)`."""
        near = self.near(2 * images - 1)
        found: Tensor = self.head(torch.cat([self.far(near), near.amax((2, 3))], dim=1))
        if isinstance(self.target, Discrete):
            return found
        return found.reshape(len(images), *self.target.shape)

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
    *,
    epochs: int = 5,
    seed: Seed = 0,
    progress: bool = True,
    origin: str = "",
) -> Oracles:
    """Train one oracle for each image and each of its parents that is not an image.

    About 4 s an epoch of 20,000 images of 32 x 32, on one CPU core.

    Args:
        model: Whose variables and graph are meant; its mechanisms are not used.
        train: Training rows; never those that are evaluated on.
        epochs: Passes over the training rows.
        seed: Of the weights and the order of rows.
        progress: Whether to show a progress bar.
        origin: What the rows are, in words, for the report.

    Raises:
        ValueError: If the rows do not fit the variables.
    """
    from rung3.rows import as_rows

    device = model.device
    rows = as_rows(train, model.variables, torch.device("cpu"))
    pairs = [
        (image, parent)
        for image, variable in model.variables.items()
        for parent in model.graph.parents(image)
        if isinstance(variable, Image) and not isinstance(model.variables[parent], Image)
    ]
    base = base_seed(seed)
    found = {}
    for image, target in pairs:
        lacking = [name for name in (image, target) if name not in rows]
        if lacking:
            raise ValueError(f"{lacking[0]}: not in the training rows, which have {list(rows)}")
        variables = model.variables
        present = ~(
            variables[image].is_missing(rows[image]) | variables[target].is_missing(rows[target])
        )
        images, values = rows[image][present].to(device), rows[target][present].to(device)
        name = f"{image}/{target}"
        found[image, target] = _fit(
            variables[image], variables[target], images, values, epochs, base, name, progress
        )
    return Oracles(found, origin or f"{rows.n} training rows, {epochs} epochs")


def _fit(
    image: Variable,
    target: Variable,
    images: Tensor,
    values: Tensor,
    epochs: int,
    seed: int,
    name: str,
    progress: bool,
) -> Oracle:
    from rich.progress import track

    if not isinstance(image, Image) or len(images) < 2:
        raise ValueError(f"{name}: an oracle needs at least two rows with both, got {len(images)}")
    generator = stream(seed, f"oracle/{name}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(generator.initial_seed())
        oracle = Oracle(image, target).to(images.device)
        if not isinstance(target, Discrete):
            oracle.standardise.calibrate(values)
        per_epoch = max(1, len(images) // BATCH)
        optimizer = torch.optim.AdamW(oracle.parameters(), LEARNING_RATE, weight_decay=1e-2)
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
