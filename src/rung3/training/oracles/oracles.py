"""Oracles of a model's images, one for each parent: trained, saved, kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.files import digest, read_tensors, write_tensors
from rung3.data.progress import tracked
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.stored import Stored, pick
from rung3.data.variables import Discrete, Image, Variable, from_config
from rung3.training.oracles.oracle import Oracle

if TYPE_CHECKING:
    from rung3.data.cache import Cache
    from rung3.data.rows import Rows, Values
    from rung3.scm.scm import SCM

__all__ = ["Oracle", "Oracles", "fit_oracles"]

LEARNING_RATE = 3e-3
BATCH = 128
"""Images a step of an oracle's training."""

EPOCHS = 4
"""Passes over the rows, if not given: enough for thousands of images."""

FREE = 0.75
"""Share of the epochs in which images are normalised by their own batch's statistics."""

LAYOUT = "3"
"""Version of the networks and their training, which names files of the cache."""


class Oracles(Mapping[tuple[str, str], Oracle]):
    """Oracles by (image, variable), frozen and in evaluation mode.

    Args:
        oracles: The oracles.
        origin: What they were trained on, as text.
    """

    def __init__(self, oracles: Mapping[tuple[str, str], Oracle], origin: str = "") -> None:
        self._oracles = dict(oracles)
        self.origin = origin
        self.freeze()

    def freeze(self) -> None:
        """Put all in evaluation mode, without gradients."""
        for oracle in self.values():
            oracle.eval().requires_grad_(False)

    def measure(self, model: SCM, rows: Values) -> None:
        """Measure all on rows that none was trained on: only then have they a density."""
        held = _rows_of(model, rows)
        for pair, oracle in self.items():
            oracle.measure(
                *_seen(held, {name: model.variables[name] for name in pair}, model.device)
            )

    def to(self, device: torch.device | str) -> Oracles:
        """Move the oracles to a device."""
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
        tensors: dict[str, Tensor] = {}
        described = []
        for k, ((image, target), oracle) in enumerate(self.items()):
            described.append({"of": [image, target], **oracle.config()})
            tensors |= {f"{k}.{name}": part for name, part in oracle.state_dict().items()}
        write_tensors(path, tensors, "oracles", {"of": described, "origin": self.origin})

    @classmethod
    def load(cls, path: str | Path) -> Oracles:
        """Read what `save` wrote.

        Raises:
            ValueError: If the file is missing or damaged, or is not one of oracles.
        """
        tensors, description = read_tensors(path, "oracles")
        oracles = {}
        for k, entry in enumerate(description["of"]):
            image, target = entry["of"]
            view = from_config(image, entry["image"])
            if not isinstance(view, Image):
                raise ValueError(f"{path}: {image}: expected an Image, got {view}")
            oracle = Oracle(view, from_config(target, entry["target"]), entry["width"])
            state = {n.split(".", 1)[1]: t for n, t in tensors.items() if n.startswith(f"{k}.")}
            try:
                oracle.load_state_dict(state)
            except RuntimeError:
                raise ValueError(
                    f"{path}: its oracle of {image} and {target} has other layers than oracles "
                    "have now; train it again"
                ) from None
            oracles[image, target] = oracle
        return cls(oracles, description["origin"])


def fit_oracles(
    model: SCM,
    train: Values,
    held: Mapping[str, Any] | None = None,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    epochs: int = EPOCHS,
    width: int = 32,
    seed: Seed = 0,
    progress: bool = True,
    origin: str = "",
    cache: Cache | None = None,
) -> Oracles:
    """Train one oracle for each image and each of its parents that is not an image.

    About 7 s an epoch of 20,000 images of 32 x 32, on one CPU core that does other work too.

    Args:
        model: Whose variables and graph are meant; its mechanisms are not used.
        train: Training rows; never those that are evaluated on.
        held: Other training rows, to measure the oracles on: only then have they a density.
        pairs: Images, each with a variable to read off it, instead.
        epochs: Passes over the training rows.
        width: Channels of an oracle's second layer.
        seed: Of the weights and the order of rows.
        progress: Whether to show a progress bar.
        origin: What the rows are, as text, for the report.
        cache: Where oracles of the same rows and settings may have been kept, and are.

    Raises:
        ValueError: If the rows do not fit the variables.
    """
    rows, pairs = _rows_of(model, train), oracle_pairs(model) if pairs is None else pairs
    base = base_seed(seed)
    path = oracles = None
    if cache is not None and pairs:
        settings = [str(pairs), str(epochs), str(width), str(base), str(model.variables)]
        path = cache.path("oracles", [digest(dict(rows)), *settings, LAYOUT])
        oracles = cache.find(path, Oracles.load)
    if oracles is None:
        fitted = {}
        for pair in pairs:
            variables = {name: model.variables[name] for name in pair}
            images, values = _seen(rows, variables, model.device)
            fitted[pair] = _fit(variables, images, values, epochs, width, base, progress)
        oracles = Oracles(fitted, origin or f"{rows.n} training rows, {epochs} epochs")
        if path is not None and cache is not None:
            cache.keep(path, oracles.save)
    oracles.to(model.device)
    if held is not None:
        oracles.measure(model, held)
    return oracles


def oracle_pairs(model: SCM) -> list[tuple[str, str]]:
    """Return each image with each of its parents that is not an image."""
    return [
        (image, parent)
        for image, variable in model.variables.items()
        for parent in model.graph.parents(image)
        if isinstance(variable, Image) and not isinstance(model.variables[parent], Image)
    ]


def _rows_of(model: SCM, values: Values) -> Rows:
    from rung3.data.rows import as_rows

    return as_rows(values, model.variables, torch.device("cpu"))


def _seen(
    rows: Rows, variables: Mapping[str, Variable], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return image and value, of the rows that have both; images that are stored stay so."""
    present = torch.ones(rows.n, dtype=torch.bool)
    for name, variable in variables.items():
        if name not in rows:
            raise ValueError(f"{name}: not in the training rows, which have {list(rows)}")
        present &= ~variable.is_missing(rows[name])
    image, value = (pick(rows[name], present) for name in variables)
    return image if isinstance(image, Stored) else image.to(device), value.to(device)


def _fit(
    variables: Mapping[str, Variable],
    images: Tensor,
    values: Tensor,
    epochs: int,
    width: int,
    seed: int,
    progress: bool,
) -> Oracle:
    name, (image, target) = "/".join(variables), variables.values()
    if not isinstance(image, Image) or len(images) < 2:
        raise ValueError(f"{name}: an oracle needs at least two rows with both, got {len(images)}")
    generator = stream(seed, f"oracle/{name}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(generator.initial_seed())
        oracle = Oracle(image, target, width).to(values.device)
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
        for epoch in tracked(range(epochs), text, progress):
            # A batch's own statistics blur a number's scale: the last quarter has those of all.
            oracle.train(epoch < FREE * epochs)
            order = torch.randperm(len(images), generator=generator).to(values.device)
            for batch in order.chunk(per_epoch):
                optimizer.zero_grad()
                oracle.loss(images[batch].to(values.device), values[batch]).backward()
                optimizer.step()
                schedule.step()
    return oracle
