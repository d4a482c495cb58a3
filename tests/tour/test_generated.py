"""Pages that are written from the code say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from rung3.data import glossary

CI = Path(__file__).resolve().parents[2] / ".ci"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_is_listed() -> None:
    module = script("commands")
    page = module.PAGE.read_text("utf-8")
    assert page == module.commands(), "run python .ci/commands.py"
    for text in ("## init", "## run", "`--rows` `ROWS`"):
        assert text in page


def test_every_key_of_a_study_is_listed_with_its_default() -> None:
    module = script("study_file")
    page = module.PAGE.read_text("utf-8")
    assert page == module.study_file(), "run python .ci/study_file.py"
    assert "| `epochs` | `10` | Passes over the training rows. |" in page
    assert "### VAE" in page
    empty = [line for line in page.splitlines() if line.endswith("|  |")]
    assert empty == [], "keys that no docstring explains"


def test_the_glossary_of_the_pages_is_that_of_report_and_page() -> None:
    page = (CI.parent / "docs" / "glossary.md").read_text("utf-8")
    assert page == Path(glossary.__file__).with_suffix(".md").read_text("utf-8")
    meanings = glossary.words()
    assert meanings["Skill"].startswith("1 - error / error of doing nothing")
    assert len(meanings) == page.count("\n**")
    assert not [text for text in meanings.values() if "](" in text or "`" in text]
