"""A table's columns for commands that need no study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["read_columns"]


def read_columns(path: Path) -> dict[str, Any]:
    """Read a table's columns: numbers and texts as they stand in the file, dates as dates.

    Raises:
        ValueError: If the file is missing, no table, or has no rows.
    """
    import pandas as pd

    from rung3.data.readers.csv_text import read_csv
    from rung3.data.readers.table import with_dates

    readers: dict[str, Any] = {".csv": read_csv, ".parquet": pd.read_parquet}
    if not path.is_file() or path.suffix not in readers:
        missing = "" if path.exists() else "no such file; "
        raise ValueError(f"{path}: {missing}expected a table, .csv or .parquet")
    try:
        frame = readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).strip()}") from None
    if frame.empty:
        raise ValueError(f"{path} has no rows; expected at least one below the column names")
    return {str(name): with_dates(column) for name, column in frame.items()}
