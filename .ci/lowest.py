"""The lowest versions that pyproject.toml promises, as constraints for pip.

    python .ci/lowest.py > lowest.txt

The direct dependencies, those of the page included, stand at their lower bounds. What they need
themselves is for pip to choose. Tools, and torch, stand at the versions of constraints.txt: an
older torch comes with gigabytes of GPU libraries where its processor build is not available.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PINNED = {"torch"}
"""Direct dependencies that are taken at the version of constraints.txt."""


def bounds(text: str) -> dict[str, str]:
    r"""The lower bounds of a pyproject.toml's direct dependencies, by name.

    Example:
        >>> bounds('[project]\ndependencies = ["numpy>=2.0", "rich>=13.9,<15"]')
        {'numpy': '2.0', 'rich': '13.9'}
    """
    project = tomllib.loads(text)["project"]
    stated = [*project["dependencies"], *project.get("optional-dependencies", {}).get("web", [])]
    lowest = {}
    for requirement in stated:
        match = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement}: expected a lower bound, such as numpy>=2.0")
        lowest[match[1]] = match[2]
    return lowest


def tools() -> dict[str, str]:
    """The versions of constraints.txt that a test run needs beside rung3, and of torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {re.split(r"[>=\[]", tool)[0] for tool in project["optional-dependencies"]["dev"]}
    pinned = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    return {name: number for name, number in pinned if name in wanted | PINNED}


def main() -> None:
    """Print the constraints."""
    lowest = bounds((ROOT / "pyproject.toml").read_text("utf-8"))
    for name, number in sorted((lowest | tools()).items()):
        print(f"{name}=={number}")


if __name__ == "__main__":
    main()
