"""The pinned packages that are installed: their licences, which must be known to be good.

    python .ci/packages.py                   names, versions and licences
    python .ci/packages.py --sbom FILE       the same as a bill of materials (CycloneDX, JSON)

A package says its licence as an SPDX expression, by classifiers, or in words; the first that it
gives counts.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"

GOOD = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
"""Licences under which rung3 may be used with a package by anyone."""

WORDS = {
    r"Apache": "Apache-2.0",
    r"BSD": "BSD-3-Clause",
    r"MIT\b": "MIT",
    r"Mozilla Public License 2": "MPL-2.0",
    r"Python Software Foundation|PSF|matplotlib": "PSF-2.0",
    r"ISC\b": "ISC",
}
"""What is meant where no expression is given."""


def licence(package: Distribution) -> str:
    """The licence that a package states, as an SPDX expression; as it says, if it is not known."""
    metadata = package.metadata
    if expressions := metadata.get_all("License-Expression"):
        return str(expressions[0])
    classified = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    texts = [c.rpartition("::")[2].strip() for c in classified] or metadata.get_all("License", [""])
    licences = [
        text if is_good(text) else next((v for k, v in WORDS.items() if re.search(k, text)), text)
        for text in texts
    ]
    return " AND ".join(dict.fromkeys(licences))


def is_good(expression: str) -> bool:
    """Whether an expression allows one of the good licences for every part.

    Example:
        >>> is_good("MIT AND (GPL-2.0 OR Zlib)"), is_good("MIT AND GPL-2.0"), is_good("")
        (True, False, False)
    """
    parts = re.split(r"\s+AND\s+", expression)
    either = [[one.strip("() ") for one in re.split(r"\s+OR\s+", part)] for part in parts]
    return all(any(one in GOOD for one in ones) for ones in either)


def installed() -> list[Distribution]:
    """The packages that are pinned and installed."""
    packages = []
    for line in CONSTRAINTS.read_text("utf-8").splitlines():
        if pinned := re.match(r"([\w.-]+)==", line):
            try:
                packages.append(distribution(pinned[1]))
            except PackageNotFoundError:
                continue
    return packages


def bill(packages: list[Distribution]) -> dict[str, Any]:
    """A bill of materials: every package with its version, place and licence."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component(distribution("rung3")) | {"type": "application"}},
        "components": [_component(package) for package in packages],
    }


def _component(package: Distribution) -> dict[str, Any]:
    name, version = package.metadata["Name"], package.version
    place = f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}"
    fields = {"licenses": [{"expression": licence(package)}]}
    return {"type": "library", "bom-ref": place, "name": name, "version": version, **fields,
            "purl": place}  # fmt: skip


def main() -> None:
    """Print all, or write them to a file, and fail on licences that are not good."""
    packages = installed()
    if sys.argv[1:2] == ["--sbom"]:
        Path(sys.argv[2]).write_text(json.dumps(bill(packages), indent=2) + "\n", "utf-8")
    else:
        for package in packages:
            print(f"{package.metadata['Name']:24} {package.version:20} {licence(package)}")
    bad = [package.metadata["Name"] for package in packages if not is_good(licence(package))]
    if bad:
        sys.exit(f"licences not known to be good (GOOD in .ci/packages.py): {', '.join(bad)}")


if __name__ == "__main__":
    main()
