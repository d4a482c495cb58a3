"""Files: written whole or not at all, sealed where damage would pass unseen.

A kill or a full disk leaves the file that was there, or the new one, never a part of it. What is
not text that a person edits carries its own digest, which is checked before anything else is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from rung3.data.stored import blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "DRAFTS", "digest", "draft", "finished", "listed", "packed", "parse_yaml", "publish",
    "read_tensors", "save_figure", "sealed", "sha256", "unsealed", "write", "write_json",
    "write_tensors", "write_text",
]  # fmt: skip

DRAFTS = ".rung3-*.part"
"""Names of files that are being written; one that a kill left may be removed."""

LIST = "files.json"
"""Name of the file that lists what `publish` wrote in a folder, with digests."""

SEAL = b"sha256: "
"""Start of the last line of a sealed text; the digest follows."""

MAX_DEPTH = 50
"""Levels of a YAML text, at most: few enough for a recursive parser."""

MAX_ALIASES = 100
"""References in a YAML text: each may multiply what it stands for."""

MAX_BYTES = 1 << 24
"""Bytes of a YAML text, 16 MiB: descriptions take some kilobytes."""


# Writing -----------------------------------------------------------------------------------------


@contextmanager
def draft(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which takes the target's place once all is written.

    Args:
        path: The target; its folder is made if it is not there.

    Raises:
        OSError: If it cannot be written, naming the target.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(DRAFTS.replace("*", secrets.token_hex(8)))
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:  # of a full disk no file is named, or the one beside
        if error.errno and error.filename in (None, str(beside)):
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)
    with suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with draft(path) as beside:
        beside.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, as `write` does."""
    write(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write what JSON can hold, as `write` does."""
    write_text(path, _json(value))


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], what: str, metadata: Any = None
) -> None:
    """Write tensors by name, with metadata and a digest, as `write` does."""
    write(path, packed(tensors, what, metadata))


def save_figure(figure: Figure, path: str | Path, **options: Any) -> None:
    """Write a figure in the format that the path's ending names, as `write` does."""
    kind = Path(path).suffix.removeprefix(".") or "png"
    with draft(path) as beside:
        figure.savefig(beside, format=kind, **options)


# Lists of what was written -----------------------------------------------------------------------


def publish(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files, and last of all the list of them, which says that all are there.

    Files of an earlier list that are not among them are removed.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    before = listed(folder)
    write_json(folder / LIST, {"finished": False, "files": {**before, **digests}})
    for name, content in contents.items():
        write(folder / name, content)
    for name in before.keys() - digests.keys():
        (folder / name).unlink(missing_ok=True)
    write_json(folder / LIST, {"finished": True, "files": digests})


def finished(folder: Path) -> bool:
    """Return whether all that `publish` wrote is there, unchanged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        done = json.loads((folder / LIST).read_bytes())["finished"] is True
        return done and all(sha256(folder / k) == v for k, v in listed(folder).items())
    return False


def listed(folder: Path) -> dict[str, str]:
    """Return the digests, by name, of what `publish` wrote in a folder, or began to write."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        digests = json.loads((folder / LIST).read_bytes())["files"]
        return {
            name: str(value)
            for name, value in digests.items()
            if Path(name).name == name not in ("", "..")
        }
    return {}


# Digests and seals -------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in 64 letters."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return twelve letters that change if any name, value or order does.

    Example:
        >>> import torch
        >>> digest({"x": torch.zeros(2)}) == digest({"x": torch.zeros(2)})
        True
    """
    return _digest(tensors)[:12]


def _digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    hashed = hashlib.sha256(text.encode())
    for name, value in tensors.items():
        hashed.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        for block in blocks(value):
            flat = block.detach().cpu().contiguous().reshape(-1)
            hashed.update(flat.view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def sealed(content: bytes) -> bytes:
    """Return the content with a last line that is the digest of all before it."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n"


def unsealed(content: bytes) -> bytes | None:
    """Return what `sealed` was given; `None` if it is truncated or altered.

    Example:
        >>> unsealed(sealed(b"all")), unsealed(sealed(b"all")[1:])
        (b'all', None)
    """
    body = content[: -len(SEAL) - 65]
    return body if content == sealed(body) else None


# Reading -----------------------------------------------------------------------------------------


def packed(tensors: Mapping[str, Tensor], what: str, metadata: Any = None) -> bytes:
    """Return a safetensors file that holds its own digest, and anything that JSON can hold."""
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in sorted(tensors.items())}
    text = _json({what: metadata})
    return save(plain, {"said": text, "sha256": _digest(plain, text)})


def read_tensors(path: str | Path, what: str) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote: tensors in the order of their names, and metadata.

    Raises:
        ValueError: If the file cannot be read, is not whole, was altered, or holds something else.
            Files of version 0.1.0 have no digest, and are read unchecked.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated, or no file of tensors: cannot read {what}: {error}"
        ) from None
    if "sha256" not in metadata and (before := _without_seal(metadata, what)) is not None:
        return tensors, before
    if not {"said", "sha256"} <= metadata.keys():
        raise ValueError(
            f"{path}: holds no {what} that are sealed: another program, or an older rung3, wrote it"
        )
    if _digest(tensors, metadata["said"]) != metadata["sha256"]:
        raise ValueError(f"{path} is damaged: cannot read {what}: it is not what was written")
    content = json.loads(metadata["said"])
    if what not in content:
        raise ValueError(f"{path}: holds no {what}, but {', '.join(content)}")
    return tensors, content[what]


def _without_seal(metadata: Mapping[str, str], what: str) -> Any:
    """Return what else a file of version 0.1.0 says; `None` for any other file.

    Such a file has no seal. It holds one entry `said`, or one of the name of what it holds.
    """
    try:
        if metadata.keys() == {"said"}:
            entry = json.loads(metadata["said"])
            removed = isinstance(entry, dict) and what in entry  # a seal was removed
            return None if removed else entry
        if what in metadata:
            entry = json.loads(metadata[what])
            others = {key: text for key, text in metadata.items() if key != what}
            return {"of": entry, **others} if others else entry
    except ValueError:
        pass
    return None


def parse_yaml(text: bytes, name: str) -> Any:
    """Parse YAML of bounded size, depth and references, and so in bounded time and memory.

    Raises:
        ValueError: If it is not YAML, or beyond these bounds.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{name}: {len(text):,} bytes of YAML; expected at most {MAX_BYTES:,}")
    depth = aliases = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 0
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if depth > MAX_DEPTH or aliases > MAX_ALIASES:
                raise ValueError(
                    f"{name}:{line}: expected YAML of at most {MAX_DEPTH} "
                    f"levels and {MAX_ALIASES} references"
                )
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not YAML: {error}") from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
