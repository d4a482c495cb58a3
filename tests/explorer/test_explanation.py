"""A predictor beside the explorer's models: what it says, why, and what is refused at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from rung3 import SCM, Binary, Rows, explain
from rung3.cli import app
from rung3.explorer import Consulted, Opened, PageState, Session
from rung3.explorer import answers as view
from rung3.mechanisms import Equation

MODEL = SCM(age=Equation("50 + 10*u"), dose=Equation("age/10 + u"), pressure=Equation("dose + u"))


def risk(age: Tensor, dose: Tensor) -> Tensor:
    return torch.sigmoid((age - 50) / 10 + dose - 5)


def opened(predictor: Any = risk, **options: Any) -> Session:
    rows = MODEL.sample(60, seed=0)
    model = Opened("clinic", MODEL, rows, path=Path("runs/clinic"))
    return Session([model], predictor=Consulted("models:risk", predictor, **options))


def test_it_says_what_it_would_have_said() -> None:
    session = opened()
    row = session.rows[3]
    before = risk(row["age"], row["dose"])
    after = risk(torch.tensor(50.0), row["dose"] + 5 - row["age"] / 10)
    query = PageState(row=3, do={"age": 50.0})
    said = view.answer(session, query)["models"][0]["says"]
    decided = [int(p >= 0.5) for p in (before, after)]
    ends = " → ".join(dict.fromkeys(str(code) for code in decided))
    assert said == f"models:risk says {before:.4g} → {after:.4g}; decides for {ends}"
    population = view.answer(session, PageState(rung="doing", do={"age": 90.0}))["models"][0]
    assert population["says"].endswith(", in the mean")
    assert view.schema(session)["predictor"] == "models:risk"
    assert view.answer(Session(session.models), query)["models"][0]["says"] is None


def test_the_page_explains_as_the_library_does() -> None:
    session = opened()
    (model,) = view.explanation(session, PageState(row=3, do={"dose": 1.0}))["models"]
    why = explain(MODEL, risk, session.rows[3], typical=session.rows, seed=0)
    assert [effect["label"] for effect in model["effects"]] == [e.label for e in why.effects]
    for effect, expected in zip(model["effects"], why.effects, strict=True):
        assert effect["total"] == pytest.approx(float(expected.total.effect))
        assert effect["total"] == pytest.approx(sum(part for _, part in effect["parts"])) or (
            not effect["parts"]
        )
        (name,) = expected.do
        assert effect["do"] == {name: pytest.approx(float(expected.do[name]))}
    assert [name for name, *_ in model["causes"]] == list(why.causes)
    assert model["flip"]["text"] == str(why.flip)
    assert model["command"] == (
        "rung3 explain runs/clinic --predictor models:risk --row 3 --particles 16 --seed 0"
    )


def test_a_number_is_explained_without_a_decision() -> None:
    session = opened(lambda age, dose: age + dose, outcome="pressure")
    (model,) = view.explanation(session, PageState(row=1))["models"]
    assert not model["decides"]
    assert model["flip"] is None
    assert "decides" not in view.answer(session, PageState(row=1))["models"][0]["says"]
    assert "--outcome pressure" in model["command"]


def test_an_outcome_lends_its_labels() -> None:
    model = SCM("age -> ill", {"ill": Binary(labels=("well", "ill"))}, {"age": Equation("u")})
    rows = Rows({"age": torch.tensor([2.0, -2.0]), "ill": torch.tensor([1, 0])})
    asked = Consulted("m:f", lambda age: torch.sigmoid(age), outcome="ill")
    session = Session([Opened("m", model, rows)], predictor=asked)
    said = view.answer(session, PageState(do={"age": -1.0}))["models"][0]["says"]
    assert said.endswith("decides for ill → well")


def test_what_fails_on_an_answer_is_said_and_the_answer_stays() -> None:
    session = opened(lambda age: torch.where(age > 80, torch.nan, age / 100))
    (model,) = view.answer(session, PageState(do={"age": 85.0}))["models"]
    assert model["says"].startswith("models:risk gives no answer: predictor: gave NaN")
    assert model["values"]["age"]["new"] == "85"


@pytest.mark.parametrize(
    ("predictor", "options", "message"),
    [
        (lambda age: age[:2], {}, r"gave shape \(2,\) for 4 rows"),
        (lambda age: age, {}, "not a probability"),
        (lambda age: age.mul_(0), {}, "changes its input age in place"),
        (lambda weight: weight, {}, "cannot tell what it reads"),
        (lambda age: age / 100, {"outcome": "weight"}, "weight"),
        (lambda x: x / 100, {"inputs": "weight"}, "inputs: .*weight"),
        (3.0, {}, "expected a callable"),
    ],
)
def test_a_predictor_that_will_not_do_is_refused_at_the_start(
    predictor: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened(predictor, **options)


def test_an_explanation_needs_a_row_and_a_predictor() -> None:
    session = opened()
    with pytest.raises(ValueError, match="choose 'imagine'"):
        view.explanation(session, PageState(rung="seeing"))
    with pytest.raises(ValueError, match="--predictor"):
        view.explanation(Session(session.models), PageState())


def test_a_page_is_not_started_with_a_predictor_that_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("def short(image):\n    return image[:1].mean((1, 2, 3))\n")
    monkeypatch.chdir(tmp_path)
    for arguments, message in [
        (["--predictor", "mine:short"], "gave shape (1,) for 4 rows"),
        (["--predictor", "mine:long"], "mine has no 'long'"),
        (["--predictor", "mine"], "expected module:name"),
        (["--inputs", "image"], "name it with --predictor"),
    ]:
        result = CliRunner().invoke(app, ["explore", "--demo", *arguments])
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.output.split())
