"""Models on disk: a folder of `model.yaml` and `weights.safetensors`, and no pickle.

`model.yaml` holds what a person can read: the graph, the variables, the mechanisms with their
arguments, how they were fitted, the versions that wrote it, and the hash of the weights. Its last
line is the hash of those before it: a description that was changed by hand fits no weights.

A model that replaces another writes weights of another name first, then the description that names
them, and then removes the old weights: a reader finds the one model or the other, at any moment.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed
from torch import Tensor

from rung3 import mechanisms as families
from rung3.data import memory
from rung3.data.files import DRAFTS, MAX_BYTES, parse_yaml, sealed, unsealed, write
from rung3.data.variables import from_config
from rung3.mechanisms import Mechanism
from rung3.scm.districts.loaded import unwrapped
from rung3.scm.interventions import Intervention
from rung3.scm.model import Model
from rung3.scm.zoo import find_model

__all__ = ["load", "obstacle", "save", "written"]

M = TypeVar("M", bound=Model)

FORMAT = 1
"""Version of the layout of a model's folder."""

MODEL = "model.yaml"
"""Name of the description."""

WEIGHTS = "weights.safetensors"
"""Name of the weights, unless they replaced others."""

NAMED = re.compile(r"weights(-[0-9a-f]{8})?\.safetensors")
"""Names of weights: the first, or with letters of their hash those that replaced others."""

SPARE = 1 << 26
"""Bytes that a model may ask for when it is built, beside four times those of its weights."""


def save(model: Model, folder: str | Path) -> Path:
    """Write a model; a model already there is replaced whole, or not at all.

    Args:
        model: The model.
        folder: Where to; made if it is not there.

    Returns:
        The folder.

    Raises:
        ValueError: If a mechanism cannot be saved (a Python function, an intervention), naming the
            variable; nothing is written then. Or if the folder holds something else.
    """
    target = Path(folder)
    if other := obstacle(target):
        raise ValueError(f"{target} is there and is not a model's folder: {other}; choose another")
    description = _describe(model)
    weights = packed(_tensors(model))
    digest = hashlib.sha256(weights).hexdigest()
    before = written(target)
    name = WEIGHTS if target / WEIGHTS not in before else f"weights-{digest[:8]}.safetensors"
    description["weights"] = {"file": name, "sha256": digest}
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    write(target / name, weights)
    try:
        write(target / MODEL, sealed(text.encode()))
    except OSError:
        if target / name not in before:
            (target / name).unlink()
        raise
    for old in before:
        if old.name not in (MODEL, name):
            old.unlink(missing_ok=True)
    return target


def written(folder: Path) -> list[Path]:
    """Return the files of a model in a folder, the description first."""
    weights = [path for path in folder.glob("weights*") if NAMED.fullmatch(path.name)]
    return [path for path in (folder / MODEL, *sorted(weights)) if path.is_file()]


def load(kind: type[M], folder: str | Path, mechanisms: Iterable[type[Mechanism]] = ()) -> M:
    """Read a model that `save` wrote; see `rung3.scm.scm.load`.

    Args:
        kind: Class of the model.
        folder: Its folder, or that of a run whose model is fitted.
        mechanisms: Your own classes that it uses.

    Raises:
        ValueError: If the folder is incomplete, altered, of a newer format, or uses an unknown
            mechanism; the message says which.
    """
    place = find_model(folder)
    if (place / "study.yaml").is_file() and (place / "model").is_dir():
        place /= "model"
    description, weights = _matching(place)
    try:
        tensors = unpacked(weights)
        with memory.Bounded(
            "the model", f"its weights are {len(weights):,} bytes", most=4 * len(weights) + SPARE
        ):
            model = _build(kind, description, {family.__name__: family for family in mechanisms})
        _fill(model, tensors)
    except Exception as error:  # an altered description may fail anywhere
        cause = "" if isinstance(error, ValueError) else f"altered: {type(error).__name__}: "
        raise ValueError(f"{place}: {cause}{error}") from error
    modules = _modules(model)
    for name in model.fitted.keys() & modules.keys():
        modules[name].requires_grad_(False)
    return model.eval()


def _describe(model: Model) -> dict[str, Any]:
    bound = model.mechanisms
    changed = [name for name, mechanism in bound.items() if isinstance(mechanism, Intervention)]
    if changed:
        raise ValueError(
            f"{changed[0]}: set by do(); save the model that do() was called on, not its result"
        )
    return {
        "format": FORMAT,
        "written_by": {name: version(name) for name in ("rung3", "torch", "zuko")},
        "graph": model.graph.to_text(),
        "world": model.world,
        "variables": {
            k: _plain(v.config())
            for k, v in (model.variables | model.confounding.variables).items()
        },
        "mechanisms": {
            name: {"kind": type(unwrapped(m)).__name__, **_plain(m.config())}
            for name, m in bound.items()
        },
        "defaults": [name for name in bound if name in model.defaults],
        "fitted": _plain(model.fitted),
    }


def _plain(value: Any) -> Any:
    """Write tuples as lists, NumPy's numbers as Python's: what YAML's safe form knows."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _tensors(model: Model) -> dict[str, Tensor]:
    return {
        f"{index}.{key}": tensor.detach().cpu().contiguous().clone()
        for index, mechanism in enumerate(_modules(model).values())
        for key, tensor in mechanism.state_dict().items()
    }


def _modules(model: Model) -> dict[str, Mechanism]:
    """Return what has weights: the mechanisms of the variables, and of hidden causes."""
    return {**model.mechanisms, **model.confounding.mechanisms}


def obstacle(path: Path) -> str:
    """Say what prevents a model from being saved at a path; empty if nothing does."""
    if not path.is_dir():
        return "it is a file" if path.exists() else ""
    names = sorted(entry.name for entry in path.iterdir())
    other = [k for k in names if k != MODEL and not NAMED.fullmatch(k) and not fnmatch(k, DRAFTS)]
    return f"it holds {', '.join(other[:3])}" if other else ""


def _matching(place: Path) -> tuple[dict[str, Any], bytes]:
    """Read description and weights that match; again, where a model is just being replaced."""
    before = None
    while True:
        description, text = _read(place / MODEL)
        listed = description["weights"]
        name = str(listed.get("file", WEIGHTS))
        if not NAMED.fullmatch(name):
            raise ValueError(f"{place / MODEL} is altered: its weights are called {name!r}")
        weights = _bytes(place / name)
        if weights is not None and hashlib.sha256(weights).hexdigest() == listed["sha256"]:
            return description, weights
        if text == before:  # nothing is being replaced: what lies there does not fit
            break
        before = text
    if weights is None:
        raise ValueError(f"{place} is not a model's folder, or is incomplete: it lacks {name}")
    raise ValueError(
        f"{place / name} is not the file that {MODEL} was written with: truncated or altered; "
        "restore the folder from a copy"
    )


def _bytes(path: Path, most: int = -1) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return None


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a description, and its bytes; its seal is checked before it is parsed."""
    content = _bytes(path, MAX_BYTES + 1)
    if content is None:
        raise ValueError(
            f"{path.parent} is not a model's folder, or is incomplete: it lacks {path.name}"
        )
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is not a model's description: it has {len(content):,} bytes")
    form = re.match(rb"format: (\d{1,9})\n", content)
    if form is None:
        raise ValueError(f"{path} is not a model's description: truncated or altered")
    if int(form[1]) > FORMAT:
        writer = re.search(rb"\n  rung3: ([\w.+-]{1,40})\n", content)
        raise ValueError(
            f"{path} has format {int(form[1])}, and this rung3 reads up to {FORMAT}: it was "
            f"written by a newer rung3 ({writer[1].decode() if writer else 'unknown'}); upgrade to "
            "read"
        )
    text = unsealed(content)
    if text is None:
        raise ValueError(
            f"{path} is truncated or altered: its last line is not the hash of the others; restore "
            "the folder from a copy"
        )
    description = parse_yaml(text, str(path))
    if not isinstance(description, dict) or not isinstance(description.get("weights"), dict):
        raise ValueError(f"{path} is not a model's description: it says nothing of its weights")
    return description, content


def _build(
    kind: type[M], description: Mapping[str, Any], brought: Mapping[str, type[Mechanism]]
) -> M:
    graph = description["graph"]
    if not isinstance(graph, str):
        raise ValueError(f"its graph is {graph!r}")
    variables = {name: from_config(name, f) for name, f in description["variables"].items()}
    mechanisms = {
        name: _mechanism(name, f, brought) for name, f in description["mechanisms"].items()
    }
    model = kind(graph, variables, mechanisms, world=description.get("world"))
    model.defaults = frozenset(description.get("defaults", ()))
    model.fitted = dict(description.get("fitted", {}))
    return model


def _mechanism(
    name: str, config: Mapping[str, Any], brought: Mapping[str, type[Mechanism]]
) -> Mechanism:
    fields = dict(config)
    kind = fields.pop("kind", None)
    known: dict[str, type[Mechanism]]
    known = {k: getattr(families, k) for k in families.__all__ if k[0].isupper()} | dict(brought)
    known.pop("Mechanism", None)
    if kind not in known:
        raise ValueError(
            f"{name}: unknown mechanism {kind!r}; rung3 has {list(known)}; "
            "give classes of your own as load(folder, mechanisms=[...])"
        )
    try:
        today = known[kind].renamed
        mechanism: Mechanism = known[kind](**{today.get(k, k): v for k, v in fields.items()})
    except TypeError as error:
        raise ValueError(f"{name}: {kind}: {error}") from None
    return mechanism


def _fill(model: Model, tensors: Mapping[str, Tensor]) -> None:
    trained = {
        tensors[key].dtype
        for index, mechanism in enumerate(_modules(model).values())
        for name, _ in mechanism.named_parameters()
        if (key := f"{index}.{name}") in tensors
    }
    if torch.float64 in trained:  # it answers as it did
        model.double()
    for index, (name, mechanism) in enumerate(_modules(model).items()):
        prefix = f"{index}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            with torch.no_grad():
                mechanism.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{name}: weights do not fit its mechanism: {error}") from None
