"""What a graph that is drawn on the page tells, before any data is seen."""

from __future__ import annotations

import pytest

from rung3 import SCM, Rows, worlds
from rung3.explorer import Opened, Session
from rung3.explorer.graph_questions import MAX_NAMES, ask_graph, levels
from rung3.graph import CausalGraph, read_dagitty


@pytest.fixture(scope="module")
def session() -> Session:
    world = worlds.lecture()
    return Session([Opened("lecture", world, world.sample(3, seed=0), world)])


def ask(session: Session, text: str, *adjusted: str) -> dict:
    question = {"text": text, "treatment": "x", "outcome": "y", "adjusted": list(adjusted)}
    return ask_graph(session, question)


def kinds(reply: dict) -> dict[str, str]:
    return {path["text"]: path["kind"] for path in reply["paths"]}


def test_paths_are_causal_biasing_or_blocked_by_what_is_adjusted_for(session):
    text = "a -> {x y}; x -> m -> y; x -> c <- y"
    assert kinds(ask(session, text)) == {
        "x <- a -> y": "biasing", "x -> m -> y": "causal", "x -> c <- y": "blocked",
    }  # fmt: skip
    adjusted = ask(session, text, "a", "c")
    assert kinds(adjusted) == {
        "x <- a -> y": "blocked", "x -> m -> y": "causal", "x -> c <- y": "biasing",
    }  # fmt: skip
    assert not adjusted["valid"]
    assert ask(session, text, "a")["valid"]
    assert ask(session, text)["sets"] == [["a"]]
    assert ask(session, text)["roles"] == {"a": "confounder", "m": "mediator", "c": "collider"}


def test_an_arrow_of_both_kinds_of_path_carries_the_effect(session):
    carried = ask(session, "a -> {x m}; x -> m -> y")["carried"]
    assert {tuple(edge[:2]): edge[2] for edge in carried} == {
        ("a", "x"): "biasing", ("a", "m"): "biasing", ("x", "m"): "causal", ("m", "y"): "causal",
    }  # fmt: skip


def test_hidden_causes_front_doors_and_instruments(session):
    reply = ask(session, "z -> x -> m -> y; y <-> x")
    assert (reply["sets"], reply["front"], reply["instruments"]) == ([], [["m"]], ["z"])
    assert reply["hidden"] == [["x", "y"]]
    assert ["x", "y", "biasing"] in reply["carried"]  # as the graph orders the pair


def test_what_is_saved_reads_as_the_same_graph(session):
    text = 'a -> "blood pressure" <-> c; d'
    reply = ask_graph(session, {"text": text})
    assert CausalGraph(reply["text"]) == CausalGraph(text)
    assert read_dagitty(reply["dagitty"]).observed == CausalGraph(text)
    assert reply["study"].startswith("graph:")
    assert "sets" not in reply


def test_a_run_saves_its_study_with_the_new_graph(tmp_path):
    from rung3.study.study import Study

    described = {
        "name": "chain",
        "data": {"kind": "table", "path": str(tmp_path / "rows.csv")},
        "graph": "a -> b; c",
    }
    Study.model_validate(described).save(tmp_path / "study.yaml")
    model = SCM("a -> b; c")
    rows = Rows({name: model.sample(3, seed=0)[name] for name in "abc"})
    session = Session([Opened("chain", model, rows, path=tmp_path)])
    (tmp_path / "new.yaml").write_text(ask_graph(session, {"text": "a -> c -> b"})["study"])
    saved = Study.load(tmp_path / "new.yaml")
    assert (saved.name, CausalGraph(saved.graph)) == ("chain-redrawn", CausalGraph("a -> c -> b"))
    assert ask_graph(session, {"text": "a -> d"})["study"].startswith("graph:")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"text": 7}, "expected a graph"),
        ({"text": "a -> b -> a"}, "cycle"),
        ({"text": "; ".join(f"v{k}" for k in range(MAX_NAMES + 1))}, "the page draws 60 at most"),
        ({"text": "a -> b", "treatment": "a", "outcome": "z"}, "z"),
        ({"text": "a -> b", "treatment": "a", "outcome": "a"}, "a"),
        ({"text": "a -> b", "treatment": "a", "outcome": "b", "adjusted": "c"}, "list of names"),
    ],
)
def test_what_is_no_question_is_refused(session, asked, message):
    with pytest.raises(ValueError, match=message):
        ask_graph(session, asked)


def test_a_dense_graph_is_answered_in_time(session):
    names = [f"v{k}" for k in range(25)]
    text = "; ".join(f"{a} -> {b}" for i, a in enumerate(names) for b in names[i + 1 :])
    reply = ask_graph(session, {"text": text, "treatment": "v3", "outcome": "v22"})
    assert reply["sets"] == [["v0", "v1", "v2"]]
    assert max(levels(CausalGraph(text)).values()) == 24
