"""Models on disk: a folder of `model.yaml` and `weights.safetensors`, and no pickle.

`model.yaml` holds what a person can read: the graph, the variables, the mechanisms with their
arguments, how they were fitted, the versions that wrote it, and the hash of the weights. Its last
line is the hash of those before it: a description that was changed by hand fits no weights.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from safetensors.torch import save as packed
from torch import Tensor

from rung3 import mechanisms as families
from rung3.interventions import Intervention
from rung3.mechanisms import Mechanism
from rung3.mechanisms.loaded import free
from rung3.scm import SCM
from rung3.variables import from_config

__all__ = ["load", "save"]

FORMAT = 1
MODEL, WEIGHTS = "model.yaml", "weights.safetensors"


def save(model: SCM, folder: str | Path) -> Path:
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
    if other := _other(target):
        raise ValueError(f"{target} is there and is not a model's folder: {other}; choose another")
    said = _describe(model)
    tensors = _tensors(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (draft / WEIGHTS).write_bytes(packed(tensors))
        said["weights"] = {"sha256": _hash(draft / WEIGHTS)}
        text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
        (draft / MODEL).write_bytes(_sealed(text.encode()))
        draft.chmod(0o755)
        _put(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def load(folder: str | Path, mechanisms: Iterable[type[Mechanism]] = ()) -> SCM:
    """Read a model that `save` wrote.

    Args:
        folder: Its folder, or that of a run whose model is fitted.
        mechanisms: Classes of your own that it uses.

    Returns:
        The model, on the CPU, in eval mode; the parameters of what was fitted are frozen.

    Raises:
        ValueError: If the folder is incomplete, altered, of a newer format, or uses an unknown
            mechanism; the message says which.
    """
    place = Path(folder)
    if (place / "study.yaml").is_file() and (place / "model").is_dir():
        place /= "model"
    for name in (MODEL, WEIGHTS):
        if not (place / name).is_file():
            raise ValueError(f"{place} is not a model's folder, or is incomplete: it lacks {name}")
    said = _read(place / MODEL)
    if _hash(place / WEIGHTS) != said["weights"]["sha256"]:
        raise ValueError(
            f"{place / WEIGHTS} is not the file that {MODEL} was written with: truncated or "
            "altered; restore the folder from a copy"
        )
    model = _build(place, said, {kind.__name__: kind for kind in mechanisms})
    _fill(model, load_file(place / WEIGHTS), place)
    modules = _modules(model)
    for name in model.fitted.keys() & modules.keys():
        modules[name].requires_grad_(False)
    return model.eval()


def _describe(model: SCM) -> dict[str, Any]:
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
            name: {"kind": type(free(m)).__name__, **_plain(m.config())}
            for name, m in bound.items()
        },
        "defaults": [name for name in bound if name in model.defaults],
        "fitted": _plain(model.fitted),
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, NumPy's numbers as Python's: what YAML's safe form knows."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _tensors(model: SCM) -> dict[str, Tensor]:
    return {
        f"{index}.{key}": tensor.detach().cpu().contiguous().clone()
        for index, mechanism in enumerate(_modules(model).values())
        for key, tensor in mechanism.state_dict().items()
    }


def _modules(model: SCM) -> dict[str, Mechanism]:
    """What has weights: the mechanisms of the variables, and of hidden causes."""
    return model.mechanisms | model.confounding.mechanisms


def _put(draft: Path, target: Path) -> None:
    """Move the draft to its place; what was there is removed once the new one stands."""
    old = draft.with_name(draft.name + "-old")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(draft, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _other(path: Path) -> str:
    """What is in the way of a model at a path, if anything is."""
    if not path.is_dir():
        return "it is a file" if path.exists() else ""
    other = sorted(entry.name for entry in path.iterdir() if entry.name not in (MODEL, WEIGHTS))
    return f"it holds {', '.join(other[:3])}" if other else ""


def _sealed(text: bytes) -> bytes:
    return text + f"sha256: {hashlib.sha256(text).hexdigest()}\n".encode()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    try:
        said = yaml.safe_load(content.decode())
        found = int(said["format"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is not a model's description: truncated or altered") from None
    if found > FORMAT:
        raise ValueError(
            f"{path} has format {found}, and this rung3 reads up to {FORMAT}: it was written by a "
            f"newer rung3 ({said.get('written_by', {}).get('rung3', 'unknown')}); upgrade to read"
        )
    if content != _sealed(content[: content.rfind(b"\nsha256: ") + 1]):
        raise ValueError(
            f"{path} is truncated or altered: its last line is not the hash of the others; restore "
            "the folder from a copy"
        )
    return dict(said)


def _build(place: Path, said: Mapping[str, Any], own: Mapping[str, type[Mechanism]]) -> SCM:
    variables = {name: from_config(name, fields) for name, fields in said["variables"].items()}
    mechanisms = {name: _mechanism(name, f, own) for name, f in said["mechanisms"].items()}
    try:
        model = SCM(said["graph"], variables, mechanisms, world=said.get("world"))
    except ValueError as error:
        raise ValueError(f"{place / MODEL} is altered: {error}") from None
    model.defaults = frozenset(said.get("defaults", ()))
    model.fitted = dict(said.get("fitted", {}))
    return model


def _mechanism(name: str, said: Mapping[str, Any], own: Mapping[str, type[Mechanism]]) -> Mechanism:
    fields = dict(said)
    kind = fields.pop("kind", None)
    known = {k: getattr(families, k) for k in families.__all__ if k[0].isupper()} | dict(own)
    known.pop("Mechanism", None)
    if kind not in known:
        raise ValueError(
            f"{name}: unknown mechanism {kind!r}; rung3 has {list(known)}; "
            "give classes of your own as load(folder, mechanisms=[...])"
        )
    try:
        made: Mechanism = known[kind](**fields)
    except TypeError as error:
        raise ValueError(f"{name}: {kind}: {error}") from None
    return made


def _fill(model: SCM, tensors: Mapping[str, Tensor], place: Path) -> None:
    for index, (name, mechanism) in enumerate(_modules(model).items()):
        prefix = f"{index}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            with torch.no_grad():
                mechanism.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"{place}: {name}: weights do not fit its mechanism: {error}"
            ) from None
