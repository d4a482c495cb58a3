"""The tour of the README: a contract, so that it runs as it is written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rung3 import SCM
from rung3.effects import Mediation
from rung3.evaluation import Report

TOUR = """\
import torch
from rung3 import SCM, CausalGraph, fit, evaluate, load
from rung3 import Continuous, Binary, Categorical, Ordinal, Image          # variables
from rung3.mechanisms import Equation, Flow, GumbelMax, InverseCDF, VAE, HVAE  # mechanisms
from rung3 import effects, worlds

# 1. The lecture's example (section 1.7.1). Parents are read off the argument names.
model = SCM(x1=Equation(lambda u: u + 1), x2=Equation(lambda x1, u: 3 * x1 + u))
model.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})["x2"]          # tensor(13.)

# 2. A graph answers questions before any data is seen.
graph = CausalGraph("size -> treatment; size -> recovery; treatment -> recovery")
graph.d_separated("treatment", "recovery", given=["size"])                  # False
graph.adjustment_sets("treatment", "recovery")                              # [{"size"}]

# 3. A deep SCM: graph, variables, and (optionally) the mechanism of each.
model = SCM(
    graph="thickness -> intensity; {digit thickness intensity} -> image",
    variables={
        "digit": Categorical(10),
        "thickness": Continuous(unit="px", lower=0),
        "intensity": Continuous(unit="grey level", lower=0, upper=255),
        "image": Image(1, 32, 32),
    },
    mechanisms={"image": VAE(latent=16)},     # the rest get the default of their kind, and say which
)
world = worlds.digits()                       # a true SCM that draws digits: its counterfactuals are known
train, test = world.sample(20_000, seed=0), world.sample(1_000, seed=1)   # rows that remember their noise
fit(model, train, epochs=10, seed=0)

# 4. The three verbs of Pearl, and the one line that chains them.
noise = model.abduct(test)                                # 1. abduction   P(U | x)
thicker = model.do(thickness=test["thickness"] + 2)       # 2. action      a new model; `model` is untouched
imagined = thicker.predict(noise)                         # 3. prediction
imagined = model.counterfactual(test, do={"thickness": test["thickness"] + 2})
cloud = model.counterfactual(test, do={"digit": 3}, particles=16)           # leading axis: 16 draws of the noise

# 5. How a change reaches the image: directly, or through a mediator.
effect = effects.mediate(model, test, do={"thickness": 4.0}, outcome="image", through="intensity")
effect.direct, effect.indirect, effect.total              # with a conditional-prior HVAE also through="latent"

# 6. Is the answer any good? The axioms, and (where the world is known) the truth.
report = evaluate(model, test, truth=world, seed=0)
print(report)                                 # composition, effectiveness, reversibility, error against truth
report.save("report/")                        # report.html with pictures, metrics.json

# 7. Keep it. No pickle anywhere: safetensors and YAML.
model.save("digits-model"); model = load("digits-model")
"""

INTRODUCTION, *PARTS = re.split(r"^# (?=\d\. )", TOUR, flags=re.MULTILINE)
FEWER = {"20_000": "200", "1_000": "20", "epochs=10": "epochs=1"}


def run(code: str, names: dict[str, Any]) -> list[Any]:
    """Run code; the values of its bare expressions."""
    values = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), "tour", "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), "tour", "exec"), names)
    return values


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the tour has defined so far; it writes to an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    run(INTRODUCTION, names)
    return names


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small wait for each other's threads on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_readme_shows_this_tour() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    _, tour = readme.read_text("utf-8").split("## The tour\n\n```python\n", 1)
    assert tour.split("```\n", 1)[0] == TOUR


def test_the_lecture_example(names: dict[str, Any]) -> None:
    (answer,) = run("#" + PARTS[0], names)
    assert torch.equal(answer, torch.tensor(13.0))


def test_a_graph_answers_before_any_data_is_seen(names: dict[str, Any]) -> None:
    assert run("#" + PARTS[1], names) == [False, [{"size"}]]


def test_a_deep_scm_says_which_mechanisms_are_defaults(names: dict[str, Any]) -> None:
    model, _, _ = re.split(r"^(?=world|train)", "#" + PARTS[2], flags=re.MULTILINE)
    run(model, names)
    lines = str(names["model"]).splitlines()
    default = {line.split(":")[0].strip() for line in lines if "(default of its kind)" in line}
    assert default == {"digit", "thickness", "intensity"}
    assert names["model"].mechanisms["image"].latent == 16


def follow(
    names: dict[str, Any], n: int, capsys: pytest.CaptureFixture[str], code: list[str]
) -> None:
    """Parts 3 to 7, and what their comments say."""
    model: SCM = names["model"]
    test, world = names["test"], names["world"]
    assert (test.n, test.world, set(test.noise)) == (n, "digits", {*test})

    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    verbs, last = code[0].split("imagined = model.counterfactual", 1)
    run(verbs, names)
    by_hand = names["imagined"]
    run("imagined = model.counterfactual" + last, names)
    assert names["thicker"] is not model
    assert all(torch.equal(before[k], weight) for k, weight in model.state_dict().items())
    thick = test["thickness"] + 2
    for imagined in (by_hand, names["imagined"]):
        assert torch.equal(imagined["thickness"], thick)
        assert torch.equal(imagined["digit"], test["digit"])
        assert imagined["image"].shape == test["image"].shape == (n, 1, 32, 32)
    torch.testing.assert_close(by_hand["intensity"], names["imagined"]["intensity"])
    assert {name: tuple(v.shape[:2]) for name, v in names["cloud"].items()} == dict.fromkeys(
        test, (16, n)
    )
    assert (names["cloud"]["digit"] == 3).all()

    ((direct, indirect, total),) = run(code[1], names)
    assert isinstance(names["effect"], Mediation)
    for effect in (direct, indirect, total):
        assert effect.shape == (n, 1, 32, 32)
    assert not torch.equal(total, direct)

    capsys.readouterr()
    run(code[2], names)
    printed = capsys.readouterr().out
    for word in ("composition", "effectiveness", "reversibility", "truth"):
        assert word in printed.lower(), word
    assert isinstance(names["report"], Report)
    assert {"report.html", "metrics.json"} <= {file.name for file in Path("report").iterdir()}

    run(code[3], names)
    assert {f.name for f in Path("digits-model").iterdir()} == {"model.yaml", "weights.safetensors"}
    assert names["model"] is not model
    do = {"thickness": thick}
    first, answers = (m.counterfactual(test, do=do, seed=0) for m in (model, names["model"]))
    assert all(torch.equal(first[name], answers[name].cpu()) for name in test)
    names["truth"] = world.counterfactual(test, do=do)


def test_the_tour_with_fewer_rows(
    names: dict[str, Any],
    one_thread: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rung3.evaluation.assessment.FRESH", 500)
    code = ["#" + part for part in PARTS[2:]]
    for long, short in FEWER.items():
        assert long in code[0]
        code[0] = code[0].replace(long, short)
    run(code[0], names)
    follow(names, 20, capsys, code[1:])


@pytest.mark.slow
def test_the_tour(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    code = ["#" + part for part in PARTS[2:]]
    run(code[0], names)
    follow(names, 1000, capsys, code[1:])
    truth, imagined, test = names["truth"]["image"], names["imagined"]["image"], names["test"]
    assert (imagined - truth).abs().mean() < 0.3 * (test["image"] - truth).abs().mean()
    assert names["report"].metrics["divergence"]["image"]["z"]["mean"] > 5
