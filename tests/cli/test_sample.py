"""A population as it is, and given evidence or interventions."""

from __future__ import annotations

import re
from pathlib import Path

from command import call


def test_sample_draws_another_population(run: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = run
    words = ("sample", folder, "--do", "thickness=4", "--given", "digit=3", "-n", 20)
    result = call(*words, "--out", tmp_path / "means.png")
    assert result.exit_code == 0, result.output
    cells = [re.split(r"\s{2,}", line.strip()) for line in result.output.splitlines()]
    statuses = {line[0]: line[2] for line in cells if len(line) == 3}
    assert statuses["thickness"] == "4 px"
    assert statuses["digit"] == "3"
    assert (tmp_path / "means.png").is_file()
    refused = call("sample", folder, "--given", "thickness=thickness+1")
    assert "--given thickness: expected a value, such as thickness=4" in refused.stderr
