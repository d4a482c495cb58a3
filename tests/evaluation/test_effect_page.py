"""The report of an effect: the answer leads, and everything that it rests on is on the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from effect_studies import INSTRUMENT, binary, dose, instrument

from rung3.evaluation import effect_report

GRAPH = "z -> t; {z t} -> y"


def test_a_page_leads_with_the_answer(tmp_path: Path) -> None:
    report = effect_report(
        binary(np.random.default_rng(0), 400), "t", "y", graph=GRAPH, by="z", repeats=2
    )
    page = report.save(tmp_path).read_text("utf-8")
    assert page.index(report.effect.answer) < page.index("adjusted for z") < page.index("<img")
    for part in ("placebo treatment", "E-value", "Can the arms be compared", "odds ratio"):
        assert part in page
    pictures = {"graph", "balance", "overlap", "groups", "hidden"}
    assert {path.stem for path in tmp_path.glob("*.png")} == pictures
    assert page.count("<img") == len(pictures)
    numbers = json.loads((tmp_path / "effect.json").read_text("utf-8"))
    assert numbers["estimates"]["effect"]["value"] == report.effect.effect.effect
    assert numbers["checks"]["subset"]["passed"]
    assert report.effect.answer in report._repr_html_()
    assert str(report).startswith(report.effect.answer)


def test_a_dose_and_an_instrument_have_what_they_have(tmp_path: Path) -> None:
    curve = effect_report(dose(np.random.default_rng(0), 300), "t", "y", graph=GRAPH, repeats=2)
    assert set(curve.pictures()) == {"graph", "curve", "hidden"}
    rows = instrument(0.02)(np.random.default_rng(0), 300)
    weak = effect_report(rows, "t", "y", **INSTRUMENT, repeats=2)
    page = weak.save(tmp_path).read_text("utf-8")
    assert "the instrument is weak" in page
    assert "first-stage F" in page


def test_what_was_not_tested_is_said() -> None:
    rows = binary(np.random.default_rng(0), 400)
    alone = effect_report(rows, "t", "y", adjust=["z"], repeats=2)
    assert "No graph was given" in alone._repr_html_()
    wider = effect_report(rows, "t", "y", graph=f"{GRAPH}; q -> y", repeats=2)
    assert wider.untested == "The graph was not tested: the table has no column 'q'."
    chain = effect_report({**rows, "q": rows["y"] * 2.0}, "t", "y", graph=f"{GRAPH}; t -> q",
                          repeats=2)  # fmt: skip
    assert chain.falsification is not None
    assert chain.falsification.rejected
