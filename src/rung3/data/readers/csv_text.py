"""CSV files as pandas reads them, or why it cannot, with what to do."""

from __future__ import annotations

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
        ValueError: If it is not UTF-8, something else than commas separates its columns, or its
            rows have different lengths.
    """
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline()
        for character, name in OTHERS.items():
            if character in head and "," not in head:
                raise ValueError(
                    f"{name} separate its columns; save it with commas, and with decimal points"
                )
        frame: pd.DataFrame = pd.read_csv(path, **options)
        return frame
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8; save it as UTF-8") from None
