"""CSV files as pandas reads them, or why it cannot, with what to do."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_csv"]

OTHERS = {";": "semicolons", "\t": "tabs"}
"""Characters that separate columns in spreadsheets of other languages."""


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file; the options are those of pandas.

    Raises:
        ValueError: If it is empty or not UTF-8, something else than commas separates its columns,
            two have one name, or its rows have different lengths.
    """
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = next((names for names in csv.reader(file) if names), None)
        if head is None:
            raise ValueError("it is empty; expected a line of column names, and one for each row")
        for character, name in OTHERS.items():
            if character in head[0] and len(head) == 1:
                raise ValueError(
                    f"{name} separate its columns; save it with commas, and with decimal points"
                )
        if "header" not in options and (twice := [k for k in head if k and head.count(k) > 1]):
            raise ValueError(f"its header names {twice[0]!r} twice; expected names that differ")
        frame: pd.DataFrame = pd.read_csv(path, **options)
        return frame
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8; save it as UTF-8") from None
    except csv.Error:  # a name of 131,072 characters
        raise ValueError("its first line opens a quotation that does not end; close it") from None
