"""Questions to a causal graph, and its drawing."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call, write

FRONT_DOOR = "x -> m -> y; x <-> y; z -> x"
MERMAID = ["flowchart LR", '    n0["a"]', '    n1["b"]', "    n0 --> n1"]


def test_graph_answers_and_draws(tmp_path: Path) -> None:
    words = ["graph", "size -> treatment; size -> recovery; treatment -> recovery"]
    query = ["--separated", "treatment", "recovery", "--given", "size"]
    result = call(*words, *query, "--adjustment", "treatment", "recovery")
    assert result.stdout.splitlines() == [
        "treatment and recovery d-separated given size: no",
        "adjustment sets for treatment on recovery: {size}",
    ]
    result = call("graph", write(tmp_path), "--out", tmp_path / "graph.png")
    assert "thickness, intensity, digit" in result.stdout
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["u -> {x c}; v -> {c y}", "--adjustment", "x", "y", "--given", "c", "--why"],
            [
                "adjustment sets for x on y: {}",
                "adjusting for c does not give the effect of x on y:",
                "  it opens the path x <- u -> c <- v -> y, by the collider c",
            ],
        ),
        (
            ["a -> c <- b", "--separated", "a", "b", "--given", "c", "--why"],
            [
                "a and b are not separated given c",
                "  open: a -> c <- b, for c (a collider) is given",
            ],
        ),
        (
            [FRONT_DOOR, "--effect", "x", "y"],
            [
                "mediator: m",
                "instrument: z",
                "hidden confounder: x <-> y",
                "front-door sets: {m}",
                "instruments: z",
            ],
        ),
        (
            [FRONT_DOOR, "--identify", "P(y | do(x))"],
            [
                "P(y | do(x)) is identified: front-door (m)",
                "  = Σ_m P(m | x) Σ_x' P(y | x', m) P(x')",
            ],
        ),
        (
            ["x -> m -> y; x <-> y", "--identify", "P(y[x=1]=1 | x=0)"],
            ["P(y[x=1]=1 | x=0) is identified", "  = Σ_m P(y=1 | x=0, m) P(m | x=1)"],
        ),
        ([FRONT_DOOR, "--implied"], ["m ⊥ z | x"]),
        (["a -> b", "--structures", "--equivalent"], ["a -- b"]),
        (["dag { u [latent] u -> {x y} }", "--write", "text"], ["x <-> y"]),
        (["digraph { x -> y [dir=both] }", "--write", "text"], ["x <-> y"]),
        (["a -> b", "--write", "dagitty"], ["dag {", "a", "b", "a -> b", "}"]),
        (["a -> b", "--write", "mermaid"], MERMAID),
    ],
)
def test_graph_says_why(words: list[str], lines: list[str]) -> None:
    assert call("graph", *words).stdout.splitlines() == lines


def test_graph_does_not_answer_about_all_rows_where_some_are_selected() -> None:
    result = call("graph", "dag { x -> s [beta=1] s [selected] }", "--implied")
    assert result.exit_code
    assert "s decides which rows there are" in " ".join(result.stderr.split())


def test_graph_is_tested_against_a_table(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "\n".join(f"{k % 2},{k % 3}" for k in range(60)))
    result = call("graph", "a; b", "--data", table)
    assert result.stdout.startswith("0 of 1 implied independencies are rejected at 0.05 (holm)")
