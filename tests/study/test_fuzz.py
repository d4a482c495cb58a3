"""Study files that are mutated at random end in one clear error, or are valid; never otherwise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rung3.study.study import Study

TEXT = (Path(__file__).resolve().parents[2] / "studies" / "digits.yaml").read_text("utf-8")

PARTS = [
    "\x07", "\x00", "\t", ": ", "- ", "? ", "[", "]", "{", "}", "&a ", "*a", "!!int ", "!!set ",
    "<<: ", "| ", "> ", "\'", '"', "#", "---\n", "%YAML 9", "null", ".nan", "1e999", "2020-13-45",
    "9" * 30, "-1", "true", "[" * 99, "{a: " * 99, "\ud7ff", "${HOME", "${NOT_SET}", "@", "`", ",",
]  # fmt: skip


def mutated(text: str, chance: random.Random) -> str:
    """The text with a few letters, lines or words of YAML changed."""
    for _ in range(chance.randint(1, 3)):
        lines = text.splitlines(keepends=True) or [""]
        at, k = chance.randrange(len(text) + 1), chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                text = text[:at] + chance.choice(PARTS) + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randint(1, 20) :]
            case 2:
                text = "".join([*lines[:k], lines[k], *lines[k:]])
            case 3:
                line = lines[k].partition(":")
                lines[k] = f"{line[0]}: {chance.choice(PARTS)}\n"
                text = "".join(lines)
            case _:
                chance.shuffle(lines)
                text = "".join(lines)
    return text


def outcome(folder: Path, text: str) -> str:
    """What is said about a study; empty if it is valid."""
    path = folder / "study.yaml"
    path.write_text(text, "utf-8", errors="surrogatepass")
    try:
        Study.load(path)
    except ValueError as error:
        return str(error)
    return ""


def check(folder: Path, seed: int) -> None:
    message = outcome(folder, mutated(TEXT, random.Random(seed)))
    assert not message or message.startswith(str(folder / "study.yaml")), f"seed {seed}: {message}"


def test_forty_mutated_studies(tmp_path: Path) -> None:
    for seed in range(40):
        check(tmp_path, seed)


@pytest.mark.slow
def test_three_thousand_mutated_studies(tmp_path: Path) -> None:
    for seed in range(1000, 4000):
        check(tmp_path, seed)


def bomb(first: str, link: str, times: int) -> str:
    lines = [f"a0: &a0 {first}"]
    lines += [
        f"a{k}: &a{k} {link.format(', '.join([f'*a{k - 1}'] * 9), k)}" for k in range(1, times)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("[x]", "[{0}]", 30), ":6: not YAML: .*50,000 values, with its aliases"),
        (bomb("{x: 1}", "{{<<: [{0}], y{1}: 1}}", 30), "not YAML: .*50,000 values"),
        (bomb("[x]", "[*a{1}]", 2), ":2: not YAML: an alias leads to what holds it"),
        ("a: &a {b: *a}", ":1: not YAML: an alias leads to what holds it"),
        ("\n" + "[" * 5000, ":2: not YAML: nested more than 50 levels deep"),
        ("a: " + "{b: " * 2000, ":1: not YAML: nested more than 50 levels deep"),
        ("x: 1\n? [a]\n: 1", ":2: not YAML: a key must be a word"),
        ("x: 1\ny: a\x07b", r":2: not YAML: the character .* is not allowed"),
        ("x: !!int one", ":1: not YAML: 'one' is not a whole number"),
        ("x: " + "9" * 5000, ":1: not YAML: .* is not a whole number"),
        ("x" * 2**20 + "y", "has more than 1,048,576 bytes"),
    ],
)
def test_what_would_make_the_reader_hang_or_stumble(
    tmp_path: Path, text: str, message: str
) -> None:
    import re

    result = outcome(tmp_path, text)
    assert re.search(message, result), result[:200]


def test_a_date_is_text(tmp_path: Path) -> None:
    from rung3.study.parser import read

    path = tmp_path / "study.yaml"
    path.write_text("label: 2020-01-31\nother: 2020-13-45\n")
    assert read(path).values == {"label": "2020-01-31", "other": "2020-13-45"}
