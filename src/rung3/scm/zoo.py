"""The zoo: fitted models by name or address, each with a digest of all its files.

    rung3/digits                         a model that the wheel holds
    runs/mine                            a folder: of a run, or of `SCM.save`
    https://host/mine.zip#sha256=ab12    a packed folder, fetched once and checked

What comes from elsewhere is refused unless its digest is the one that was asked for. Models are
safetensors and YAML: to read one runs none of its code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rung3.data.cache import user_cache
from rung3.data.files import draft, sha256
from rung3.data.spelling import suggest

__all__ = ["PREFIX", "ZooModel", "digest_of", "find_model", "models"]

PREFIX = "rung3/"
"""Start of the names of models that the wheel holds."""

SHELF = Path(__file__).parents[1] / "models"
"""Folder of those models, with their list."""

ADDRESS = re.compile(r"(https?|file):/+")
"""Start of an address; a `Path` of one has lost slashes."""

LARGEST = 2**31
"""Bytes of a packed model, at most."""

SECONDS = 60
"""Seconds that a server may stay silent."""


@dataclass(frozen=True)
class ZooModel:
    """A model that the wheel holds.

    Attributes:
        name: Such as `rung3/digits`.
        title: What it is.
        digest: Of all its files, as `digest_of` gives it.
        path: Folder of its run.
    """

    name: str
    title: str
    digest: str
    path: Path

    @property
    def bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in _files(self.path))


def models() -> dict[str, ZooModel]:
    """Return the models that the wheel holds, by name."""
    listed = json.loads((SHELF / "models.json").read_text("utf-8"))
    return {
        PREFIX + name: ZooModel(PREFIX + name, entry["title"], entry["digest"], SHELF / name)
        for name, entry in listed.items()
    }


def digest_of(folder: Path) -> str:
    """Return a digest of all files of a folder: SHA-256 over their names and contents."""
    digest = hashlib.sha256()
    for file in _files(folder):
        digest.update(f"{file.relative_to(folder).as_posix()}\n{sha256(file)}\n".encode())
    return digest.hexdigest()


def find_model(address: str | Path) -> Path:
    """Return the folder of a model.

    Args:
        address: A folder; or if there is none of that name, a model of the wheel, `rung3/NAME`; or
            an address of a packed folder with its digest.

    Raises:
        ValueError: If there is no such model, it is altered, or an address has no digest.
    """
    text = str(address)
    if start := ADDRESS.match(text):
        root = "/" if start[1] == "file" else ""
        return _fetched(f"{start[1]}://{root}{text[start.end() :]}")
    if Path(address).exists() or not text.startswith(PREFIX):
        return Path(address)
    known = models()
    if text not in known:
        raise ValueError(f"{text}: no such model; {suggest(text, known, 'the models')}")
    model = known[text]
    if digest_of(model.path) != model.digest:
        raise ValueError(f"{text}: its files in {model.path} are altered; install rung3 again")
    return model.path


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "lock")


def _fetched(address: str) -> Path:
    """Return the folder of a packed model, fetched if it is not in the user's cache."""
    url, _, fragment = address.partition("#")
    digest = fragment.removeprefix("sha256=").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(
            f"{url}: give the digest that it must have, {url}#sha256=...; `sha256sum FILE` tells it"
        )
    place = user_cache().folder / "models" / digest
    if not place.is_dir():
        packed = place.with_suffix(".zip")
        _download(url, packed)
        if (actual := sha256(packed)) != digest:
            packed.unlink()
            raise ValueError(f"{url}: its digest is {actual}, not the one that was asked for")
        _unpack(packed, place)
        packed.unlink()
    inner = [part for part in place.iterdir() if part.is_dir()]
    alone = len(inner) == 1 and not any(part.is_file() for part in place.iterdir())
    return inner[0] if alone and inner[0].name != "model" else place


def _download(url: str, target: Path) -> None:
    try:
        with (
            urllib.request.urlopen(url, timeout=SECONDS) as answer,
            draft(target) as path,
            path.open("wb") as file,
        ):
            while chunk := answer.read(2**20):
                file.write(chunk)
                if file.tell() > LARGEST:
                    raise ValueError(f"{url} has more than {LARGEST:,} bytes")
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(f"{url} cannot be fetched: {error}") from None


def _unpack(packed: Path, place: Path) -> None:
    """Unpack a file to a folder that is there only once it is whole."""
    beside = place.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with zipfile.ZipFile(packed) as archive:
            if sum(info.file_size for info in archive.infolist()) > LARGEST:
                raise ValueError(f"{packed}: holds more than {LARGEST:,} bytes")
            archive.extractall(beside)  # names that lead out of it are cut
    except zipfile.BadZipFile:
        raise ValueError(f"{packed}: no zip file of a model's folder") from None
    beside.replace(place)
