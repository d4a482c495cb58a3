"""Figures of two commits side by side; fails if any became worse by more than a factor.

Both files come from the same machine, with nothing else running: see `make bench-json`.

    python benchmarks/compare.py OLD.json NEW.json [--threshold 1.25]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from records import Figure, read


def worse(old: dict[str, Figure], new: dict[str, Figure], threshold: float) -> list[str]:
    """Names of the figures that are larger than before by more than a factor.

    Example:
        >>> worse({"a": Figure(1.0, "s"), "b": Figure(1.0, "s")}, {"a": Figure(1.3, "s")}, 1.25)
        ['a']
    """
    both = sorted(old.keys() & new.keys())
    return [name for name in both if new[name].value > threshold * old[name].value]


def table(old: dict[str, Figure], new: dict[str, Figure]) -> str:
    """Every figure of either, a line each, with the ratio where both have it."""
    names = sorted(old.keys() | new.keys())
    width = max(map(len, names), default=0)
    lines = [f"{'':{width}} {'old':>10} {'new':>10}  ratio"]
    for name in names:
        sides = (
            f"{known[name].value:10.4g}" if name in known else f"{'-':>10}" for known in (old, new)
        )
        both = name in old and name in new and old[name].value > 0
        ratio = f"{new[name].value / old[name].value:7.2f}" if both else f"{'-':>7}"
        lines.append(f"{name:{width}} {' '.join(sides)}{ratio}  {(new | old)[name].unit}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--threshold", type=float, default=1.25, help="the factor; 1.25 if not given"
    )
    options = parser.parse_args()
    try:
        old, new = read(options.old), read(options.new)
    except ValueError as error:
        sys.exit(str(error))
    print(table(old, new))
    if slower := worse(old, new, options.threshold):
        sys.exit(f"worse by more than {options.threshold:g}: {', '.join(slower)}")


if __name__ == "__main__":
    main()
