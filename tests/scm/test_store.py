from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import rung3.scm.store
from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal, fit, load
from rung3.data.files import sealed, unsealed
from rung3.data.variables import Variable
from rung3.mechanisms import VAE, Equation, Flow, GumbelMax, InverseCDF, Mechanism

VARIABLES: dict[str, Variable] = {
    "scan": Image(1, 8, 8),
    "age": Continuous(unit="years", lower=0, missing=True),
    "share": Continuous(lower=0, upper=1),
    "place": Continuous(dim=2),
    "sick": Binary(labels=("no", "yes")),
    "site": Categorical(3, labels=("A", "B", "C")),
    "stage": Ordinal(4),
    "x-ray": Image(2, 8, 9, bits=None),
    "dose": Continuous(unit="µg"),
    "on": Continuous(),
    "no noise": Continuous(),
}


def scm() -> SCM:
    """Every family and every kind of variable, in an order that is not a topological one."""
    graph = """
    age -> scan; {age sick} -> share; age -> place; age -> sick -> site -> stage; site -> x-ray;
    age -> dose; dose -> on; on -> "no noise"
    """
    nodes = dict.fromkeys(["scan", *VARIABLES])
    mechanisms = {
        "age": Equation("20 + u", noise="Gamma(10, 0.5)"),
        "share": Flow(splines=1, bins=4, hidden=(8, 4)),
        "sick": InverseCDF(hidden=(8,)),
        "site": GumbelMax(),
        "dose": Equation("exp(0.01*age + u)", inverse="log(x) - 0.01*age"),
        "on": Equation("dose + 2*u", noise=torch.distributions.Laplace(0.1, 2.0)),
        "no noise": Equation("2*on"),
        "scan": VAE(latent=2, width=2, depth=1),
        "x-ray": VAE(latent=2, width=2, depth=1, likelihood="gaussian", beta=np.float64(2.0)),
    }
    model = SCM(graph, {name: VARIABLES[name] for name in nodes}, mechanisms)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def model() -> SCM:
    return scm()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model's folder."""
    return SCM("a -> b", mechanisms={"a": Equation("u")}).save(tmp_path / "model")


def equal(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        if isinstance(one[name], Tensor):
            assert torch.equal(one[name], other[name]), name
        else:
            equal(one[name], other[name])


# Round trips -------------------------------------------------------------------------------------


def test_every_family_and_variable_answers_as_it_did(model: SCM, tmp_path: Path) -> None:
    loaded = load(model.save(tmp_path / "model"))
    assert loaded.graph.nodes == model.graph.nodes
    assert loaded.graph == model.graph
    assert loaded.variables == model.variables == {n: VARIABLES[n] for n in model.graph.nodes}
    for name, mechanism in model.mechanisms.items():
        assert type(loaded.mechanisms[name]) is type(mechanism)
        assert loaded.mechanisms[name].config() == mechanism.config()
    assert loaded.defaults == model.defaults == {"place", "stage"}

    rows = model.sample(20, seed=0)
    equal(rows, loaded.sample(20, seed=0))
    noise = model.abduct(rows, particles=2, seed=1)
    equal(noise, loaded.abduct(rows, particles=2, seed=1))
    do: dict[str, Any] = {"age": 50.0, "sick": "yes"}
    equal(*(m.counterfactual(rows, do=do, seed=2) for m in (model, loaded)))
    torch.manual_seed(3)
    expected = model.log_probs(rows)
    torch.manual_seed(3)
    equal(expected, loaded.log_probs(rows))


def test_weights_and_ranges_are_the_same_and_it_is_in_evaluation_mode(
    model: SCM, tmp_path: Path
) -> None:
    rows = model.sample(50, seed=0)
    for name, mechanism in model.mechanisms.items():
        mechanism.calibrate(rows[name], {p: rows[p] for p in mechanism.parents})
    loaded = load(model.train().save(tmp_path / "model"))
    assert not loaded.training
    equal(model.state_dict(), loaded.state_dict())
    high = float(rows["age"].max()) + 1
    assert loaded.do(age=high).sample(2, seed=0).explain().outside["age"] == 1.0


def test_a_folder_holds_a_description_and_weights_and_no_pickle(model: SCM, tmp_path: Path) -> None:
    place = model.save(tmp_path / "new" / "model")
    assert sorted(file.name for file in place.iterdir()) == ["model.yaml", "weights.safetensors"]
    assert [file.name for file in place.parent.iterdir()] == ["model"]
    assert len({file.stat().st_mode for file in place.iterdir()}) == 1  # who reads one, reads both
    settings = yaml.safe_load((place / "model.yaml").read_text("utf-8"))
    assert settings["variables"]["dose"] == {"kind": "Continuous", "unit": "µg"}
    assert settings["mechanisms"]["dose"] == {
        "kind": "Equation",
        "function": "exp(0.01*age + u)",
        "inverse": "log(x) - 0.01*age",
    }


def test_how_a_model_was_fitted_is_kept(tmp_path: Path) -> None:
    model = SCM("a -> b", mechanisms={"a": Equation("u"), "b": Flow(splines=0, hidden=())})
    rows, lr = {"a": torch.randn(40), "b": torch.randn(40)}, np.float64(0.01)
    fit(model, rows, epochs=1, lr=lr, progress=False, accelerator="cpu")
    loaded = load(model.save(tmp_path / "model"))
    assert loaded.fitted == model.fitted
    assert loaded.fitted["b"]["rows"] == 36
    assert loaded.fitted["b"]["lr"] == 0.01


def test_the_name_of_a_world_is_kept_and_rows_bring_their_noise(tmp_path: Path) -> None:
    world = SCM(a=Equation("u"), b=Equation("a*u"), world="product")
    loaded = load(world.save(tmp_path / "world"))
    rows = world.sample(5, seed=0)
    equal(loaded.abduct(rows), rows.noise)


class Shift(Equation):
    """A user's own mechanism."""

    def __init__(self, by: float = 1.0) -> None:
        super().__init__(f"u + {by}")
        self.by = by

    def config(self) -> dict[str, Any]:
        return {"by": self.by}


def test_a_mechanism_of_ones_own_is_read_with_its_class(tmp_path: Path) -> None:
    place = SCM(a=Shift(by=5.0)).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"a: unknown mechanism 'Shift'; rung3 has .*'Flow'.*give"):
        load(place)
    assert load(place, mechanisms=[Shift]).abduct({"a": 6.0})["a"] == 1.0


# What cannot be saved ----------------------------------------------------------------------------


def function(a: Tensor, u: Tensor) -> Tensor:
    return a + u


@pytest.mark.parametrize(
    "mechanism", [Equation(function), Equation("a + u", inverse=lambda b, a: b - a)]
)
def test_a_python_function_is_refused_and_nothing_is_written(
    tmp_path: Path, mechanism: Equation
) -> None:
    model = SCM(a=Equation("u"), b=mechanism)
    with pytest.raises(ValueError, match="b: its equation is a Python function, which cannot be"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_do_returned_is_refused(folder: Path) -> None:
    before = (folder / "model.yaml").read_bytes()
    with pytest.raises(
        ValueError, match=r"b: set by do\(\); save the model that do\(\) was called"
    ):
        load(folder).do(b=1.0).save(folder)
    assert (folder / "model.yaml").read_bytes() == before


# Where it may be written -------------------------------------------------------------------------


def test_a_model_that_is_there_is_replaced(folder: Path) -> None:
    SCM(c=Equation("u")).save(folder)
    assert list(load(folder).variables) == ["c"]
    assert [file.name for file in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("broken", ["packed", "sealed", "replace", "fsync"])
@pytest.mark.parametrize("which", ["weights", "model.yaml"])
def test_when_writing_fails_what_was_there_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str, which: str
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    calls, real = [], getattr(os, broken, None)

    def full(*arguments: Any) -> Any:
        calls.append(arguments)
        if (
            real is None
            or len(calls) == {"weights": 1, "model.yaml": 2 + (broken == "fsync")}[which]
        ):
            raise OSError("no space left on device")
        return real(*arguments)

    where = rung3.scm.store if real is None else os
    with monkeypatch.context() as patch:
        patch.setattr(where, broken, full)
        with pytest.raises(OSError, match="no space left"):
            SCM(c=Equation("u")).save(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("with_model", [True, False])
def test_a_folder_with_other_things_in_it_is_left_alone(folder: Path, with_model: bool) -> None:
    (folder / "notes.txt").write_text("mine")
    if not with_model:
        (folder / "model.yaml").unlink()
    with pytest.raises(ValueError, match=r"not a model's folder: it holds notes.txt; choose anoth"):
        SCM(c=Equation("u")).save(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="not a model's folder: it is a file; choose another"):
        SCM(c=Equation("u")).save(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert list(load(SCM(c=Equation("u")).save(tmp_path)).variables) == ["c"]


# What is not read --------------------------------------------------------------------------------


def edit(old: bytes, new: bytes, name: str = "model.yaml") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert content.count(old) == 1
        (folder / name).write_bytes(content.replace(old, new))

    return change


def cut(name: str, keep: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    return change


def flip(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def swap(folder: Path) -> None:
    other = SCM("a -> b", mechanisms={"a": Equation("u")}).save(folder.parent / "other")
    shutil.copy(other / "weights.safetensors", folder)


NOT_A_FOLDER = "model is not a model's folder, or is incomplete: it lacks "
ALTERED = "weights.safetensors is not the file that model.yaml was written with: truncated or alte"
DESCRIPTION = "model.yaml is (not a model's description: )?truncated or altered"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, NOT_A_FOLDER + "model.yaml"),
        (lambda folder: (folder / "model.yaml").unlink(), NOT_A_FOLDER + "model.yaml"),
        (
            lambda folder: (folder / "weights.safetensors").unlink(),
            NOT_A_FOLDER + "weights.safetensors",
        ),
        (cut("weights.safetensors", -1), ALTERED),
        (cut("weights.safetensors", 0), ALTERED),
        (flip, ALTERED),
        (swap, ALTERED),
        (cut("model.yaml", 0), "model.yaml is not a model's description: truncated or altered"),
        (cut("model.yaml", 60), DESCRIPTION),
        (cut("model.yaml", -1), DESCRIPTION),
        (cut("model.yaml", -73), DESCRIPTION),
        (edit(b"kind: Flow", b"kind: Flow\n    splines: 3"), DESCRIPTION),
        (edit(b"function: u", b"function: u + 1"), DESCRIPTION),
        (edit(b"graph: a -> b", b"graph: a <- b"), DESCRIPTION),
        (edit(b"format: 1", b"format: one"), "model.yaml is not a model's description"),
        (edit(b"format: 1", b"format: [1"), "model.yaml is not a model's description"),
        (edit(b"format: 1", b"\xff\xfe"), "model.yaml is not a model's description"),
        (
            edit(b"format: 1", b"format: 2"),
            r"model.yaml has format 2, and this rung3 reads up to 1: it was written by a newer "
            r"rung3 \(.+\); upgrade to read",
        ),
    ],
)
def test_a_folder_that_is_incomplete_altered_or_newer_is_refused(
    folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize("kind", [None, True, 10**13, 1e308, "x", [], {"a": 1}])
@pytest.mark.parametrize("at", ["graph", "variables", "mechanisms", "world", "fitted", "defaults"])
def test_a_description_that_was_sealed_anew_is_one_error_or_none(
    folder: Path, at: str, kind: Any
) -> None:
    text = unsealed((folder / "model.yaml").read_bytes())
    settings = yaml.safe_load(text or b"") | {at: kind}
    (folder / "model.yaml").write_bytes(sealed(yaml.safe_dump(settings, sort_keys=False).encode()))
    try:
        load(folder)
    except ValueError as error:
        assert str(folder) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("mechanism", "field", "size"),
    [
        (VAE(latent=2, width=2, depth=1), "latent", 10**10),
        (VAE(latent=2, width=2, depth=1), "width", 10**6),
        (Flow(splines=1, hidden=(4,)), "splines", 10**9),
        (Flow(splines=1, hidden=(4,)), "hidden", [10**6, 10**6]),
        (Flow(splines=1, hidden=(4,)), "bins", 10**9),
    ],
)
def test_a_field_that_asks_for_more_than_there_are_weights_is_refused_at_once(
    tmp_path: Path, mechanism: Mechanism, field: str, size: Any
) -> None:
    variable = {"a": Image(1, 8, 8)} if isinstance(mechanism, VAE) else {}
    place = SCM("b -> a", variable, {"a": mechanism, "b": Equation("u")}).save(tmp_path / "model")
    settings = yaml.safe_load(unsealed((place / "model.yaml").read_bytes()) or b"")
    settings["mechanisms"]["a"][field] = size
    (place / "model.yaml").write_bytes(sealed(yaml.safe_dump(settings, sort_keys=False).encode()))
    began = time.monotonic()
    with pytest.raises(
        ValueError, match=rf"{place}: it asks for more than \d+ MiB, and its weights"
    ):
        load(place)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["../weights.safetensors", "/etc/passwd", "model.yaml"])
def test_weights_elsewhere_are_not_read(folder: Path, name: str) -> None:
    settings = yaml.safe_load(unsealed((folder / "model.yaml").read_bytes()) or b"")
    settings["weights"]["file"] = name
    (folder / "model.yaml").write_bytes(sealed(yaml.safe_dump(settings, sort_keys=False).encode()))
    with pytest.raises(ValueError, match="its weights are called"):
        load(folder)


def test_a_model_of_an_older_version_is_read(folder: Path) -> None:
    settings = yaml.safe_load(unsealed((folder / "model.yaml").read_bytes()) or b"")
    del settings["weights"]["file"]
    (folder / "model.yaml").write_bytes(sealed(yaml.safe_dump(settings, sort_keys=False).encode()))
    assert list(load(folder).variables) == ["a", "b"]


def test_a_model_is_there_at_every_moment_of_its_replacement(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, unlink, seen = os.replace, Path.unlink, []

    def watch(*arguments: Any, **options: Any) -> None:
        seen.append([*load(folder).variables])
        (replace if len(arguments) == 2 else unlink)(*arguments, **options)
        seen.append([*load(folder).variables])

    monkeypatch.setattr(os, "replace", watch)
    monkeypatch.setattr(Path, "unlink", watch)
    SCM(c=Equation("u")).save(folder)
    monkeypatch.undo()
    assert len(seen) >= 6
    assert (
        sorted(seen) == seen == [["a", "b"]] * seen.count(["a", "b"]) + [["c"]] * seen.count(["c"])
    )
    for k in range(3):
        SCM(mechanisms={f"m{k}": Equation("u")}).save(folder)
        assert len(list(folder.iterdir())) == 2


class Wider(Flow):
    """A class that has changed since its weights were written."""

    def build(self) -> None:
        super().build()
        self.more = torch.nn.Linear(1, 1)


def test_weights_that_do_not_fit_the_class_are_refused(tmp_path: Path) -> None:
    place = SCM("a", mechanisms={"a": Wider()}).save(tmp_path / "model")
    Older = type("Wider", (Flow,), {})
    with pytest.raises(ValueError, match=r"(?s)model: a: weights do not fit its mechanism: .*more"):
        load(place, mechanisms=[Older])


def test_a_model_in_double_is_loaded_in_double(tmp_path):
    model = SCM("a -> b", mechanisms={"b": Flow(hidden=(4,))}).double()
    loaded = load(model.save(tmp_path / "model"))
    assert loaded.dtype == torch.float64
    assert torch.equal(loaded.sample(5, seed=0)["b"], model.sample(5, seed=0)["b"])
