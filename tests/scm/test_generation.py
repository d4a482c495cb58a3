"""Counterfactuals in bulk: the same bytes whatever the work, and faults that are named."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as Pictures

from rung3 import SCM, Categorical, Continuous, Image, Rows, data, worlds
from rung3.mechanisms import VAE, Equation
from rung3.scm import generation
from rung3.scm.generation import MANIFEST, generate, generated
from rung3.scm.shards import find_shards

N = 300
"""Rows: more than one group of 32 x 32 images (256), and no multiple of one."""


@pytest.fixture(scope="module")
def model() -> SCM:
    torch.manual_seed(0)
    kinds = {"image": Image(1, 32, 32), "kind": Categorical(labels=("thin", "bold"))}
    mechanisms = {
        "image": VAE(latent=2, width=2, depth=1),
        "t": Equation("u"),
        "w": Equation("2*t + u"),
    }
    return SCM("t -> w -> image <- kind", kinds, mechanisms).eval()


@pytest.fixture(scope="module")
def rows() -> Rows:
    generator = torch.Generator().manual_seed(1)
    t, w = torch.randn(2, N, generator=generator)
    image = torch.randint(256, (N, 1, 32, 32), generator=generator) / 255
    kind = torch.randint(2, (N,), generator=generator)
    return Rows({"t": t, "w": w, "kind": kind, "image": image})


def written(folder: Path) -> dict[int, str]:
    return {k: path.name for k, path in find_shards(folder).items()}


def answers(folder: Path) -> pa.Table:
    return pa.concat_tables(generated(folder))


def write(model: SCM, rows: Rows, folder: Path, **options: Any) -> list[Path]:
    return generate(model, rows, {"t": "t + 1"}, folder, **{"progress": False, **options})


def test_answers_are_those_of_the_model(model: SCM, rows: Rows, tmp_path: Path) -> None:
    write(model, rows, tmp_path)
    table = answers(tmp_path)
    assert table["row"].to_pylist() == list(range(N))
    assert table["t"].to_pylist() == pytest.approx((rows["t"] + 1).tolist(), abs=1e-5)
    assert table["w"].to_pylist() == pytest.approx((rows["w"] + 2).tolist(), abs=1e-5)
    assert table["kind"].to_pylist() == [("thin", "bold")[k] for k in rows["kind"].tolist()]
    provenance = json.loads(table["provenance"][0].as_py())
    assert provenance["status"] == {
        "t": "intervened", "w": "propagated", "kind": "observed", "image": "propagated"
    }  # fmt: skip
    assert provenance["rung"] == "imagining"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_machine_loses_no_answer(
    model: SCM, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    alone = write(model, rows, tmp_path / "alone", shard_rows=5)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine never starts them
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    other = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    died = threading.Event()

    def kill() -> None:
        while len(list((tmp_path / "many").glob("shard-*"))) < 6:
            time.sleep(0.02)
        cluster.remove_node(other, allow_graceful=False)
        died.set()

    try:
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        many = write(model, rows, tmp_path / "many", shard_rows=5, workers=2, cluster=True)
        killer.join(60)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert died.is_set()
    assert [path.name for path in many] == [path.name for path in alone]
    assert [path.read_bytes() for path in many] == [path.read_bytes() for path in alone]
    assert answers(tmp_path / "many")["row"].to_pylist() == list(range(N))


def test_a_cluster_needs_ray(
    model: SCM, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rung3.data.cluster.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed; pip install 'rung3\[cluster\]'"):
        write(model, rows, tmp_path / "many", cluster=True)
    assert not (tmp_path / "many").exists()


def test_archives_hold_the_same_and_are_read_as_a_table(
    model: SCM, rows: Rows, tmp_path: Path
) -> None:
    draws: dict[str, Any] = {"particles": 2, "numbers": [3, 4, 290], "shard_rows": 2}
    write(model, rows, tmp_path / "parquet", **draws)
    shards = write(model, rows, tmp_path / "tar", form="tar", **draws)
    with tarfile.open(shards[0]) as archive:
        names = archive.getnames()
    assert names[:3] == ["000000003-000.json", "000000003-000.image.png", "000000003-001.json"]
    assert answers(tmp_path / "tar").to_pylist() == answers(tmp_path / "parquet").to_pylist()
    again = write(model, rows, tmp_path / "again", form="tar", workers=1, **draws)
    assert [shard.name for shard in again] == [shard.name for shard in shards]
    read = [
        data.table(tmp_path / form, variables={"t": Continuous(), "image": Image(1, 32, 32)})
        for form in ("tar", "parquet")
    ]
    assert torch.equal(read[0]["t"], read[1]["t"])
    assert torch.equal(read[0]["image"], read[1]["image"])
    with pytest.raises(ValueError, match=r"query was .* and is .*'form': 'tar'"):
        write(model, rows, tmp_path / "parquet", form="tar", **draws)
    with pytest.raises(ValueError, match="form='zip': expected one of parquet, tar"):
        write(model, rows, tmp_path / "zip", form="zip")


def test_images_are_pngs_of_the_answer(model: SCM, rows: Rows, tmp_path: Path) -> None:
    """Held images are the factual ones, on their levels, to the bit."""
    write(model, rows, tmp_path, hold=["image"])
    for k in (0, 99, 299):
        content = answers(tmp_path)["image"][k].as_py()
        with Pictures.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            levels = torch.from_numpy(np.array(picture))
        assert torch.equal(levels, (rows["image"][k, 0] * 255).round().byte())


def test_bytes_do_not_depend_on_workers_shards_or_other_rows(
    model: SCM, rows: Rows, tmp_path: Path
) -> None:
    write(model, rows, tmp_path / "one", shard_rows=100)
    write(model, rows, tmp_path / "two", shard_rows=100, workers=2)
    assert written(tmp_path / "one") == written(tmp_path / "two")
    whole = answers(tmp_path / "one")
    write(model, rows, tmp_path / "sizes", shard_rows=77)
    assert answers(tmp_path / "sizes").equals(whole)
    numbers = [3, 100, 255, 256, 299]
    write(model, rows, tmp_path / "few", numbers=numbers)
    assert answers(tmp_path / "few").equals(whole.take(numbers))
    write(model, rows[:120], tmp_path / "first")
    assert answers(tmp_path / "first").equals(whole.slice(0, 120))
    write(model, rows, tmp_path / "seed", seed=1)
    assert not answers(tmp_path / "seed")["image"].equals(whole["image"])


def test_noise_of_groups_is_independent(model: SCM, rows: Rows, tmp_path: Path) -> None:
    """A row at the same place of another group draws other noise."""
    twice = rows[torch.zeros(N, dtype=torch.long)]
    write(model, twice, tmp_path)
    images = answers(tmp_path)["image"].to_pylist()
    assert len(set(images)) == N


def test_several_draws_are_lines_of_their_own(model: SCM, rows: Rows, tmp_path: Path) -> None:
    write(model, rows[:5], tmp_path, particles=3)
    table = answers(tmp_path)
    assert table["row"].to_pylist() == [k for k in range(5) for _ in range(3)]
    assert table["draw"].to_pylist() == [0, 1, 2] * 5
    t = (rows["t"][:5] + 1).repeat_interleave(3)
    assert table["t"].to_pylist() == pytest.approx(t.tolist(), abs=1e-5)
    assert len(set(table["image"].to_pylist())) == 15


def test_targets_may_be_one_a_row(model: SCM, rows: Rows, tmp_path: Path) -> None:
    targets = torch.arange(float(N))
    generate(model, rows, {"t": targets, "kind": "bold"}, tmp_path, shard_rows=70, progress=False)
    table = answers(tmp_path)
    assert table["t"].to_pylist() == targets.tolist()
    assert set(table["kind"].to_pylist()) == {"bold"}


def test_a_killed_call_goes_on_with_what_is_missing(
    model: SCM, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(model, rows, tmp_path / "whole", shard_rows=100)
    answer = generation.answer_part

    def killed(model: Any, query: Any, folder: Path, part: Any) -> str:
        if part.shard == 1:
            (folder / ".rung3-0123.part").write_bytes(b"half a sh")
            raise KeyboardInterrupt
        return answer(model, query, folder, part)

    monkeypatch.setattr(generation, "answer_part", killed)
    with pytest.raises(KeyboardInterrupt):
        write(model, rows, tmp_path / "on", shard_rows=100)
    assert list(written(tmp_path / "on")) == [0]
    with pytest.raises(ValueError, match="2 of 3 shards are missing, shard 1 first"):
        list(generated(tmp_path / "on"))
    answered = []

    def watched(model: Any, query: Any, folder: Path, part: Any) -> str:
        answered.append(part.shard)
        return answer(model, query, folder, part)

    monkeypatch.setattr(generation, "answer_part", watched)
    write(model, rows, tmp_path / "on", shard_rows=100)
    assert answered == [1, 2]
    assert written(tmp_path / "on") == written(tmp_path / "whole")
    assert not list((tmp_path / "on").glob(".rung3-*"))


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_shard_is_named_and_written_anew(
    model: SCM, rows: Rows, tmp_path: Path, damage: str
) -> None:
    paths = write(model, rows[:50], tmp_path, shard_rows=20)
    before = paths[1].read_bytes()
    changed = before[:-9] if damage == "truncated" else before[:50] + b"!" + before[51:]
    paths[1].write_bytes(changed)
    with pytest.raises(ValueError, match=f"{paths[1].name} is truncated or altered"):
        list(generated(tmp_path))
    with pytest.warns(UserWarning, match=f"{paths[1].name} is truncated or altered"):
        write(model, rows[:50], tmp_path, shard_rows=20)
    assert paths[1].read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "query was"),
        ({"hold": ["w"]}, "query was"),
        ({"particles": 2}, "query was"),
        ({"shard_rows": 10}, "shard_rows was"),
        ({"numbers": [1, 2]}, "rows was"),
    ],
)
def test_answers_to_another_question_are_refused(
    model: SCM, rows: Rows, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    write(model, rows[:4], tmp_path)
    with pytest.raises(ValueError, match=rf"holds answers to another question \({named}"):
        write(model, rows[:4], tmp_path, **changed)


def test_another_model_or_other_rows_are_refused(rows: Rows, tmp_path: Path) -> None:
    def linear(slope: int) -> SCM:
        return SCM("t -> w", mechanisms={"t": Equation("u"), "w": Equation(f"{slope}*t + u")})

    head = Rows({name: rows[name][:4] for name in ("t", "w")})
    write(linear(2), head, tmp_path)
    with pytest.raises(ValueError, match=r"another question \(model was"):
        write(linear(3), head, tmp_path)
    with pytest.raises(ValueError, match=r"another question \(rows was"):
        write(linear(2), Rows({**head, "t": head["t"] + 1}), tmp_path)


def test_a_target_that_is_an_image_is_told_apart(model: SCM, rows: Rows, tmp_path: Path) -> None:
    """Two images that differ in one pixel are two questions."""
    image = torch.zeros(1, 32, 32)
    generate(model, rows[:3], {"image": image}, tmp_path, progress=False)
    image[0, 16, 16] = 1.0
    with pytest.raises(ValueError, match=r"another question \(query was"):
        generate(model, rows[:3], {"image": image}, tmp_path, progress=False)


def test_a_call_killed_at_its_start_leaves_a_folder_that_can_be_used(
    model: SCM, rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / ".rung3-0123.part").write_bytes(b"{")
    assert len(write(model, rows[:3], tmp_path)) == 1
    assert not list(tmp_path.glob(".rung3-*"))


def test_a_changed_manifest_and_other_folders_are_refused(
    model: SCM, rows: Rows, tmp_path: Path
) -> None:
    write(model, rows[:4], tmp_path / "a")
    path = tmp_path / "a" / MANIFEST
    path.write_text(path.read_text().replace('"n": 4', '"n": 5'))
    with pytest.raises(ValueError, match=f"{MANIFEST} is truncated or altered"):
        write(model, rows[:4], tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no answers"):
        write(model, rows[:4], tmp_path / "b")
    with pytest.raises(ValueError, match=f"has no {MANIFEST}"):
        list(generated(tmp_path / "b"))


def test_a_full_disk_is_named_and_leaves_no_half_shard(
    model: SCM, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if len(content) > 3000:
            write_bytes(path, content[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"shard 0 of .* cannot be written: No space left"):
            write(model, rows[:8], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    assert len(write(model, rows[:8], tmp_path)) == 1


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_named(
    model: SCM, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "set_up", _die)
    with pytest.raises(ChildProcessError, match=r"a worker died .* while shards 0, 1"):
        write(model, rows[:40], tmp_path, shard_rows=20, workers=2)
    assert not written(tmp_path)


@pytest.mark.parametrize(
    ("do", "options", "message"),
    [
        ({}, {}, "no intervention was given"),
        ({"x": 1}, {}, "unknown variable 'x'"),
        ({"t": lambda t: t + 1}, {}, r"a manifest cannot hold .*; write it as text"),
        ({"t": [1.0, 2.0]}, {}, "2 targets for 300 rows"),
        ({"t": 1}, {"numbers": [4, 2]}, "expected numbers of rows, rising, from 0 to 299"),
        ({"t": 1}, {"numbers": [300]}, "expected numbers of rows, rising, from 0 to 299"),
        ({"t": 1}, {"workers": 0}, "workers=0"),
        ({"t": 1}, {"hold": ["x"]}, "'x'"),
        ({"t": 1}, {"hold": ["t"]}, "t: cannot both be set and held"),
        ({"t": "image + 1"}, {}, "image"),
        ({"t": 1}, {"particles": 0}, "particles"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_work_starts(
    model: SCM, rows: Rows, tmp_path: Path, do: Any, options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model, rows, do, tmp_path / "out", progress=False, **options)
    assert not (tmp_path / "out").exists()


def test_a_world_answers_from_the_noise_that_it_knows(tmp_path: Path) -> None:
    world = worlds.lecture()
    rows = world.sample(50, seed=0)
    generate(world, rows, {"x1": 1.0}, tmp_path, progress=False)
    expected = world.counterfactual(rows, {"x1": 1.0})["x2"]
    assert answers(tmp_path)["x2"].to_pylist() == pytest.approx(expected.tolist())
