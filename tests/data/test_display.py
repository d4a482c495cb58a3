from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rung3 import SCM, Rows
from rung3.cli.sample import Population
from rung3.cli.whatif import WhatIf
from rung3.data.display import headed, spell, spell_draws
from rung3.data.variables import Categorical, Continuous, Image, Variable
from rung3.evaluation.examples import Example
from rung3.evaluation.report.values import values_table
from rung3.explorer import answers
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.explorer.session import Session
from rung3.mechanisms import Equation
from rung3.study.bulk import Chosen, answer_rows

HOUR = Continuous(lower=0, upper=24, circular=True, unit="h")


@pytest.mark.parametrize(
    ("variable", "value", "bare", "text"),
    [
        (Continuous(unit="px"), [2.0, 4.0], "3", "3 ± 1 px"),
        (Continuous(unit="px"), [2.0, math.nan], "2", "2 px"),
        (Continuous(unit="px"), 2.34567, "2.346", "2.346 px"),
        (Continuous(unit="mm3"), 70512.4, "70512", "70512 mm3"),
        (Continuous(unit="mm3"), 1.23456e9, "1.235e+09", "1.235e+09 mm3"),
        (Continuous(), [0.1] * 3, "0.1", "0.1"),
        (Continuous(), [math.nan], "missing", "missing"),
        (Continuous(lower=0, upper=1, circular=True, unit="turns"), [0.95, 0.07], "0.01",
         "0.01 ± 0.06 turns"),
        (HOUR, 23.5, "23.5", "23.5 h"),
        (Continuous(dim=2, unit="mm"), [[1.0, 2.0], [3.0, 5.0]], "2, 3.5", "2, 3.5 mm"),
        (Continuous(dim=7), list(range(7)), "0, 1, 2, 3, 4, 5, …", "0, 1, 2, 3, 4, 5, …"),
        (Categorical(labels=("a", "b")), [1, 1, 0, 1], "b", "b in 75% of draws"),
        (Categorical(labels=("a", "b")), [1, 1], "b", "b"),
        (Image(1, 4, 6), torch.zeros(1, 4, 6), "1x4x6 image", "1x4x6 image"),
    ],
)  # fmt: skip
def test_a_value_or_its_draws_as_text(variable: Variable, value: Any, bare: str, text: str) -> None:
    assert spell(variable, value) == bare
    assert spell_draws(variable, value) == text


def test_a_csv_file_holds_all_digits_and_numbers_and_no_word_for_a_missing_value() -> None:
    assert spell(Continuous(), 2.345678, full=True) == "2.345678"
    assert spell(Continuous(dim=7), list(range(7)), full=True) == "0, 1, 2, 3, 4, 5, 6"
    assert spell(Continuous(), math.nan, full=True) == ""


def test_tables_report_page_and_csv_file_agree(tmp_path: Path) -> None:
    model = SCM(
        "sex -> dose; sex -> hour",
        {"sex": Categorical(labels=("f", "m")), "hour": HOUR, "dose": Continuous(unit="mg")},
        {"dose": Equation("1234.5678 + sex"), "hour": Equation("23 + 2 * sex")},
    )
    before = Rows({"sex": torch.tensor([0]), "hour": torch.tensor([23.0]),
                   "dose": torch.tensor([1234.5678])})  # fmt: skip
    after = model.counterfactual(before, {"sex": "m"})
    texts = {"sex": ("f", "m"), "hour": ("23 h", "1 h"), "dose": ("1235 mg", "1236 mg")}

    rows = WhatIf(model.variables, before, after, None).table()
    assert {name: tuple(cells) for name, *cells, _ in rows} == texts
    lines = Population(model.variables, before, after).table()
    assert {name: tuple(cells) for name, *cells in lines} == texts
    page = answers.answer(Session([Opened("model", model, before)]), PageState(do={"sex": 1.0}))
    values = page["models"][0]["values"]
    assert {name: (values[name]["old"], values[name]["new"]) for name in texts} == texts

    bare = {name: tuple(text.split()[0] for text in pair) for name, pair in texts.items()}
    table = values_table(Example(before, {"kept": after}, None), model.variables)
    cells = (cell.value for cell in table.rows[0][1])
    assert dict(zip(table.columns[1:], cells, strict=True)) == {
        headed(name, model.variables[name]): " → ".join(pair) for name, pair in bare.items()
    }
    path = answer_rows(model, Chosen(before, ["row 0"], None, {}), ["sex=m"], tmp_path)
    with path.open(encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    pairs = {name: (line[f"{name}, factual"], line[f"{name}, counterfactual"]) for name in texts}
    assert pairs.pop("sex") == ("f", "m")
    assert pairs["dose"] == ("1234.568", "1235.568")
    assert all(
        tuple(spell(model.variables[name], float(number)) for number in pair) == bare[name]
        for name, pair in pairs.items()
    )
