"""Counterfactuals in bulk: millions of rows, to a folder of shards, by several processes.

    _manifest.json              what was asked: model, query, rows, seed, rows of a shard
    shard-000007-(sha256).parquet   answers, see `rung3.scm.shards`

Rows are answered in groups of G by their numbers: row r has place r mod G of group r // G. Always G
rows are computed at once, on one thread; places that nobody asked about are filled with other rows.
The noise of a group has the seed `base_seed(seed, "rows from gG")`. An answer is therefore a
function of the seed, the row with its number, and the query, bit for bit: whichever rows are asked
beside it, in whatever order, by however many workers.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from rung3.data.cluster import check_ray, spread_on_cluster
from rung3.data.expressions import Expression, value_of
from rung3.data.files import DRAFTS, digest, write_text
from rung3.data.remote import need_local
from rung3.data.rows import Rows, Values, spell_unknown
from rung3.data.seeding import base_seed
from rung3.data.workers import spread
from rung3.mechanisms import Mechanism
from rung3.scm import imputation, reading
from rung3.scm.districts.loaded import unwrapped
from rung3.scm.scm import SCM, load
from rung3.scm.shards import (
    Form,
    answers,
    check_shard,
    find_shards,
    read_shard,
    schema,
    write_shard,
)  # fmt: skip

__all__ = ["answer_part", "generate", "generated", "group_rows", "set_up"]

MANIFEST = "_manifest.json"
"""Name of the manifest; readers of Parquet folders pass over names that begin so."""

GROUP = 2**18
"""Numbers of the largest variable in a group of rows. Do not change it, nor the next: every seed
would give other answers."""

MOST_ROWS = 1024
"""Rows of a group, at most: a few rows take no longer than so many."""

SHARD = 2**24
"""Numbers of the largest variable in a shard, roughly: 64 MiB before they are packed."""


@dataclass(frozen=True)
class Query:
    """What is asked of every row.

    Attributes:
        do: Interventions as text; of targets, one a row, their digest.
        hold: Variables kept at their factual values.
        particles: Number K of draws of the noise; `None` for one.
        seed: Of the draws.
        form: What the shards of answers are.
    """

    do: Mapping[str, str]
    hold: Sequence[str]
    particles: int | None
    seed: int
    form: Form = "parquet"

    def config(self) -> dict[str, Any]:
        """Return it as a manifest has it; of Parquet files, as those of before."""
        given = asdict(self)
        return {k: v for k, v in given.items() if (k, v) != ("form", "parquet")}


@dataclass(frozen=True)
class Part:
    """The rows of a shard.

    Attributes:
        shard: Its number.
        numbers: The numbers of its rows, rising.
        rows: Their values.
        do: Interventions as `SCM.do` takes them; targets are those of these rows.
        read: By variable, a mask of what was read off an image.
    """

    shard: int
    numbers: list[int]
    rows: Rows
    do: Mapping[str, Any]
    read: Mapping[str, Tensor]


def generate(
    model: SCM,
    rows: Values,
    do: Mapping[str, Any],
    out: str | Path,
    *,
    hold: Iterable[str] = (),
    particles: int | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    shard_rows: int | None = None,
    form: Form = "parquet",
    workers: int = 1,
    cluster: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Say what many rows would have been, and write the answers to a folder of shards.

    A call that was killed is made again, and resumes with the shards that are missing; one that is
    truncated or altered is rewritten, with a warning. `pandas.read_parquet(out)` reads all, and
    `rung3.data.table(out)` with the images, of archives too.

    Args:
        model: The model.
        rows: A value of every variable, `(n, ...)`; what is missing must be told by an image.
        do: By variable a number, a label, a text such as `"thickness + 2"`, or targets `(n, ...)`.
        out: The folder; made if it is not there.
        hold: Variables kept at their factual values although something upstream is set.
        particles: Number K of draws of the noise, each of which is written; `None` for one.
        seed: Of the draws.
        numbers: Which rows, by their numbers from 0, rising; all if not given.
        shard_rows: Rows of a shard; such that it has some ten million numbers, if not given.
        form: Shards as Parquet files, or as tar archives in the convention of WebDataset.
        workers: Processes on this machine, each on one thread. With several, the call must stand
            under `if __name__ == "__main__":` in a script, as new processes import it.
        cluster: Whether the workers are actors of Ray Data, on all machines of the cluster that
            `ray.init` has joined; all of them must see the folder. A machine may be lost.
        progress: Whether to show a progress bar.

    Returns:
        The shards, in the order of the rows.

    Raises:
        ValueError: If the folder holds answers to another question, naming what differs; if rows,
            interventions or options do not fit the model.
        OSError: If a shard cannot be written, as where the disk is full.
        ChildProcessError: If a worker died, naming the shards that it may have had.

    Example:
        >>> import tempfile
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = world.sample(100, seed=0)
        ...     shards = generate(world, rows, {"x1": "x1 + 1"}, folder, progress=False)
        ...     sum(table.num_rows for table in generated(folder))
        100
    """
    rows = rows if isinstance(rows, Rows) else model.read(rows)  # others are read shard by shard
    model.check_given(rows)
    if not rows.batched:
        raise ValueError("expected a batch of rows, got one; give it a first axis")
    chosen = _numbers(numbers, rows.n)
    _check_options(model, out, shard_rows, form, workers, cluster)
    size = shard_rows or _shard_rows(model)
    settings, targets = _interventions(model, do, rows.n)
    texts = {name: _text(name, value, settings, targets) for name, value in do.items()}
    query = Query(texts, sorted(hold), particles, base_seed(seed), form)
    _try(model, query, _part(model, rows, settings, targets, 0, chosen[:1]))
    folder = Path(out)
    _claim(folder, _manifest(model, query, rows, chosen, size))
    names = _answered(folder)
    missing = [k for k in range(-(-len(chosen) // size)) if k not in names]
    ask = partial(_part_of, rows, settings, targets, chosen, size)
    with _one_thread():
        if cluster and missing:
            written = _on_cluster(model, ask, missing, query, folder, workers)
        else:
            parts = (ask(model, k) for k in missing)
            written = _run(model, parts, query, folder, workers, len(missing))
        for k, name in _shown(written, len(missing), progress):
            names[k] = folder / name
    _check_seen(names)
    return [names[k] for k in sorted(names)]


def generated(out: str | Path) -> Iterator[pa.Table]:
    """Read the answers that `generate` wrote, shard by shard, each checked before it is read.

    Args:
        out: The folder.

    Raises:
        ValueError: If there is no manifest, a shard is missing, or one is truncated or altered.
    """
    folder = Path(out)
    manifest = _read_manifest(folder)
    shards = find_shards(folder)
    if missing := [k for k in range(manifest["shards"]) if k not in shards]:
        raise ValueError(
            f"{folder}: {len(missing)} of {manifest['shards']} shards are missing, shard "
            f"{missing[0]} first; the call that wrote the others resumes"
        )
    for k in range(manifest["shards"]):
        if not check_shard(shards[k]):
            raise ValueError(f"{_damaged(shards[k])}; the call that wrote it rewrites it")
        yield read_shard(shards[k])


# What is asked -----------------------------------------------------------------------------------


def _check_options(
    model: SCM, out: str | Path, shard_rows: int | None, form: Form, workers: int, cluster: bool
) -> None:
    """Refuse options that cannot be met, before anything is written."""
    if workers < 1 or (shard_rows is not None and shard_rows < 1):
        raise ValueError(f"workers={workers}, shard_rows={shard_rows}: each must be at least 1")
    if form not in get_args(Form):
        raise ValueError(f"form={form!r}: expected one of {', '.join(get_args(Form))}")
    if form == "tar" and (split := [name for name in model.variables if "/" in name]):
        raise ValueError(f"{split[0]}: members of archives are named by variables, without '/'")
    need_local(out, "out")
    if cluster:
        check_ray()


def _check_seen(shards: Mapping[int, Path]) -> None:
    """Refuse shards that another machine wrote where this one does not see them."""
    lacking = [k for k, path in shards.items() if not path.is_file()]
    if lacking:
        raise OSError(
            f"shard {min(lacking)} was written on another machine, and is not here, in "
            f"{shards[min(lacking)].parent}: the folder must lie where all machines see it"
        )


def _numbers(numbers: Sequence[int] | None, n: int) -> Sequence[int]:
    if numbers is None:
        return range(n)
    chosen = numbers if isinstance(numbers, range) else [int(number) for number in numbers]
    at = np.asarray(chosen)
    if not len(at) or at[0] < 0 or at[-1] >= n or (np.diff(at) <= 0).any():
        raise ValueError(
            f"numbers: expected numbers of rows, rising, from 0 to {n - 1}, got "
            f"{list(chosen[:3])} ..."
        )
    return chosen


def _interventions(
    model: SCM, do: Mapping[str, Any], n: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what all rows are set to, and targets of which each row has one, by variable."""
    settings: dict[str, Any] = {}
    targets: dict[str, Tensor] = {}
    if not do:
        raise ValueError("no intervention was given; expected a variable and its value")
    for name, value in do.items():
        if name not in model.variables:
            raise ValueError(f"do: {spell_unknown([name], model.variables)}")
        if isinstance(value, Expression):
            value = value.text
        if callable(value) and not isinstance(value, Tensor):
            raise ValueError(
                f"do({name}=...): a manifest cannot hold {value!r}; write it as text, such as "
                f"'{name} + 2', or as targets, one a row"
            )
        if isinstance(value, str):
            settings[name] = value_of(value, name, model.variables)
            continue
        target = model.variables[name].validate(name, value).cpu()
        if target.ndim > len(model.variables[name].shape):
            if len(target) != n:
                raise ValueError(f"do({name}=...): {len(target)} targets for {n} rows")
            targets[name] = target
        else:
            settings[name] = target
    return settings, targets


def _text(name: str, value: Any, settings: Mapping[str, Any], targets: Mapping[str, Tensor]) -> str:
    """Return what a variable is set to as the manifest has it: as text, or as a digest."""
    if isinstance(value, str | Expression):
        return value.text if isinstance(value, Expression) else value
    given = targets[name] if name in targets else settings[name]
    return digest({name: given}) if given.ndim else repr(given.item())


@torch.no_grad()
def _try(model: SCM, query: Query, part: Part) -> None:
    """Ask about one row, so that what cannot be asked is refused before anything is written."""
    schema(model.variables, query.particles)
    model.counterfactual(
        part.rows, part.do, hold=query.hold, particles=query.particles, seed=query.seed
    )


def group_rows(model: SCM) -> int:
    """Return the number of rows of a group: a power of two."""
    largest = max(torch.Size(variable.shape).numel() for variable in model.variables.values())
    return min(MOST_ROWS, 1 << (max(1, GROUP // largest).bit_length() - 1))


def _shard_rows(model: SCM) -> int:
    group = group_rows(model)
    return max(1, SHARD * group // GROUP // group) * group


def _part_of(
    rows: Rows,
    settings: Mapping[str, Any],
    targets: Mapping[str, Tensor],
    chosen: Sequence[int],
    size: int,
    model: SCM,
    shard: int,
) -> Part:
    """Take the rows of a shard, of all that are asked about."""
    numbers = chosen[shard * size : (shard + 1) * size]
    return _part(model, rows, settings, targets, shard, numbers)


def _part(
    model: SCM,
    rows: Rows,
    settings: Mapping[str, Any],
    targets: Mapping[str, Tensor],
    shard: int,
    numbers: Sequence[int],
) -> Part:
    """Take the rows of a shard; what an image tells of them is filled, one row at a time."""
    at = _index(numbers)
    chosen = rows[at]
    masks = imputation.gaps(model, chosen)
    read: dict[str, Tensor] = {}
    if masks:  # one row at a time, so that its answer depends on that row alone
        gappy = torch.stack(list(masks.values())).any(0)
        filled = [reading.fill(model, chosen[k : k + 1]) for k in gappy.nonzero()[:, 0].tolist()]
        values = {name: value.clone() for name, value in chosen.items()}
        for name in values:
            values[name][gappy] = torch.cat([row[name] for row, _ in filled])
        for name in masks:
            read[name] = torch.zeros(len(numbers), dtype=torch.bool)
            read[name][gappy] = torch.tensor([name in record for _, record in filled])
        chosen = Rows(values)
        if left := imputation.gaps(model, chosen):
            first = next(iter(left))
            number = numbers[int(left[first].nonzero()[0])]
            raise ValueError(
                f"row {number}: {first} is missing, and no predictor reads it off an image; give "
                "it, or leave the row out with numbers="
            )
        chosen = Rows({name: values[name].to(v.dtype) for name, v in model.variables.items()})
    chosen = model.read(chosen)
    do = {**settings, **{name: target[at] for name, target in targets.items()}}
    return Part(shard, list(numbers), chosen, do, read)


def _index(numbers: Sequence[int]) -> slice | Tensor:
    """Return what takes these rows: a slice, which copies nothing, where they follow each other."""
    first, last = numbers[0], numbers[-1]
    if last - first == len(numbers) - 1:  # they rise
        return slice(first, last + 1)
    return torch.tensor(numbers)


# The manifest ------------------------------------------------------------------------------------


def _manifest(
    model: SCM, query: Query, rows: Rows, numbers: Sequence[int], size: int
) -> dict[str, Any]:
    """Return what the folder is the answer to."""
    hashed = hashlib.sha256(repr(numbers).encode())
    for start in range(0, rows.n, size):
        part = rows[start : start + size]
        noise = {f"{k} {j}": v for k, u in (part.noise or {}).items()
                 for j, v in ({"": u} if isinstance(u, Tensor) else u).items()}  # fmt: skip
        hashed.update(digest({**part, **noise}).encode())
    return {
        "format": 1,
        "model": _model_digest(model),
        "query": query.config(),
        "rows": {"n": len(numbers), "digest": hashed.hexdigest()[:12]},
        "shard_rows": size,
        "shards": -(-len(numbers) // size),
    }


def _model_digest(model: SCM) -> str:
    """Return twelve letters that change with graph, variables, mechanisms and weights."""
    described = {
        "graph": model.graph.to_text(),
        "variables": {name: repr(variable) for name, variable in model.variables.items()},
        "mechanisms": {
            name: [type(unwrapped(m)).__name__, repr(m.config())]
            for name, m in model.mechanisms.items()
        },
        "weights": digest({**dict(model.named_parameters()), **dict(model.named_buffers())}),
    }
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]


def _claim(folder: Path, manifest: dict[str, Any]) -> None:
    """Make the folder that of these answers, or refuse one of others."""
    path = folder / MANIFEST
    if path.is_file():
        then = _read_manifest(folder)
        if other := [name for name in manifest if then.get(name) != manifest[name]]:
            parts = ", ".join(f"{k} was {then.get(k)} and is {manifest[k]}" for k in other)
            raise ValueError(
                f"{folder} holds answers to another question ({parts}); choose another folder"
            )
    elif folder.exists() and (not folder.is_dir() or any(map(_is_strange, folder.iterdir()))):
        raise ValueError(f"{folder} is there and holds no answers; choose another folder")
    else:
        body = json.dumps(manifest, indent=1)
        check = hashlib.sha256(body.encode()).hexdigest()
        write_text(path, json.dumps({"sha256": check, "asked": manifest}, indent=1))
    for left in folder.glob(DRAFTS):  # of a call that was killed
        left.unlink(missing_ok=True)


def _is_strange(path: Path) -> bool:
    """Return whether a file is none that a call left that was killed at its start."""
    return not fnmatch(path.name, DRAFTS)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no folder of answers: it has no {MANIFEST}")
    try:
        content = json.loads(path.read_bytes())
        settings: dict[str, Any] = content["asked"]
        whole = hashlib.sha256(json.dumps(settings, indent=1).encode()).hexdigest()
        if content["sha256"] == whole:
            return settings
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is truncated or altered; restore it, or choose another folder")


def _answered(folder: Path) -> dict[int, Path]:
    """Return the shards that are there and whole; remove, with a warning, those that are not."""
    shards = find_shards(folder)
    for k, path in list(shards.items()):
        if not check_shard(path):
            warnings.warn(f"{_damaged(path)}: it is rewritten", stacklevel=3)
            path.unlink()
            del shards[k]
    return shards


def _damaged(path: Path) -> str:
    return f"{path} is truncated or altered: its content is not what its name says"


# The work ----------------------------------------------------------------------------------------


def _run(
    model: SCM,
    parts: Iterator[Part],
    query: Query,
    folder: Path,
    workers: int,
    n: int,
) -> Iterator[tuple[int, str]]:
    """Yield numbers and names of shards, as they are written on this machine."""
    if workers == 1 or n < 2:
        return ((part.shard, answer_part(model, query, folder, part)) for part in parts)
    return _spread(model, parts, query, folder, min(workers, n))


def _shown(written: Iterator[tuple[int, str]], n: int, progress: bool) -> Iterator[tuple[int, str]]:
    from rich.progress import track

    yield from track(written, "shards", total=n, disable=not progress, transient=True)


def _on_cluster(
    model: SCM,
    ask: Callable[[SCM, int], Part],
    shards: Sequence[int],
    query: Query,
    folder: Path,
    workers: int,
) -> Iterator[tuple[int, str]]:
    """Let actors on all machines answer; each takes the rows of its shards by itself."""
    families = [type(unwrapped(m)) for m in model.mechanisms.values()]
    with tempfile.TemporaryDirectory() as place:
        model.save(Path(place))
        files = {file.name: file.read_bytes() for file in Path(place).iterdir()}
    folder = folder.absolute()
    make = partial(_answerer, files, families, str(model.device), query, folder, ask)
    return spread_on_cluster(make, shards, workers)


def _answerer(
    files: Mapping[str, bytes],
    families: list[type[Mechanism]],
    device: str,
    query: Query,
    folder: Path,
    ask: Callable[[SCM, int], Part],
) -> Callable[[int], str]:
    """Return what answers a shard by its number, on another machine."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            (Path(place) / name).write_bytes(content)
        model = load(place, families).to(device)
    return lambda shard: answer_part(model, query, folder, ask(model, shard))


def _spread(
    model: SCM, parts: Iterator[Part], query: Query, folder: Path, workers: int
) -> Iterator[tuple[int, str]]:
    """Let workers answer, each with the model that it loads; two shards a worker are under way."""
    families = [type(unwrapped(m)) for m in model.mechanisms.values()]
    with tempfile.TemporaryDirectory() as place:
        model.save(Path(place) / "model")
        start = partial(set_up, Path(place) / "model", families, str(model.device), query, folder)
        jobs = ((part.shard, _packed(part)) for part in parts)
        yield from spread(_work, jobs, workers, folder, start)


WORKER: dict[str, Any] = {}
"""What a worker process was set up with: the answer to a part."""


def set_up(
    place: Path, families: list[type[Mechanism]], device: str, query: Query, folder: Path
) -> None:
    """Load the model in a worker process, and let it answer parts on one thread."""
    torch.set_num_threads(1)
    model = load(place, families).to(device)
    WORKER["answer"] = partial(answer_part, model, query, folder)


def _work(part: Part) -> str:
    return str(WORKER["answer"](_unpacked(part)))


def _packed(part: Part) -> Part:
    """Return a part whose tensors are arrays: these go to a worker without shared memory."""
    return _with_arrays(part, lambda t: t.detach().cpu().numpy())


def _unpacked(part: Part) -> Part:
    return _with_arrays(part, lambda a: torch.from_numpy(a) if isinstance(a, np.ndarray) else a)


def _with_arrays(part: Part, change: Any) -> Part:
    def whole(value: Any) -> Any:
        return change(value) if isinstance(value, Tensor | np.ndarray) else value

    rows = part.rows
    noise = None if rows.noise is None else {
        k: {j: whole(v) for j, v in u.items()} if isinstance(u, dict) else whole(u)
        for k, u in rows.noise.items()
    }  # fmt: skip
    return Part(
        part.shard,
        part.numbers,
        Rows({k: whole(v) for k, v in rows.items()}, noise=noise, world=rows.world),
        {k: whole(v) for k, v in part.do.items()},
        {k: whole(v) for k, v in part.read.items()},
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on several, sums may be split in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def answer_part(model: SCM, query: Query, folder: Path, part: Part) -> str:
    """Answer the rows of a shard, group by group, write it, and return its name."""
    size, columns = group_rows(model), schema(model.variables, query.particles)
    tables = []
    places = enumerate(part.numbers)
    for group, members in groupby(places, lambda member: member[1] // size):
        at, numbers = (list(column) for column in zip(*members, strict=True))
        tables.append(_answer_group(model, query, part, group * size, at, numbers, columns))
    table = pa.concat_tables(tables).combine_chunks()
    return write_shard(folder, part.shard, table, query.form)


def _answer_group(
    model: SCM, query: Query, part: Part, first: int, at: list[int], numbers: list[int],
    columns: pa.Schema,
) -> pa.Table:  # fmt: skip
    """Answer some rows of a group, each at its place; its first one stands in for the others."""
    places = torch.tensor(numbers) - first
    filled = torch.full((group_rows(model),), at[0])
    filled[places] = torch.tensor(at)
    do = {k: v[filled] if _per_row(model, k, v) else v for k, v in part.do.items()}
    rows = part.rows[filled]
    answer = model.counterfactual(
        Rows(dict(rows), noise=rows.noise, world=rows.world).to(model.device),
        do,
        hold=query.hold,
        particles=query.particles,
        seed=base_seed(query.seed, f"rows from {first}"),
    )
    answer = answer[places.to(model.device)]
    outside = {name: _outside(model, name, answer) for name in model.variables}
    read = {name: mask[torch.tensor(at)] for name, mask in part.read.items()}
    return answers(model.variables, answer, numbers, outside, read, columns)


def _per_row(model: SCM, name: str, value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > len(model.variables[name].shape)


def _outside(model: SCM, name: str, answer: Rows) -> Tensor:
    value = answer[name] if answer.particles is None else answer[name].flatten(0, 1)
    return model.mechanisms[name].out_of_range(value).cpu()
