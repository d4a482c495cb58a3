"""Study files, and the runs that they describe."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.study.comparison import compare_runs
    from rung3.study.folder import RunFolder
    from rung3.study.run import run_study
    from rung3.study.study import Study

__all__ = ["RunFolder", "Study", "compare_runs", "run_study"]

__getattr__ = lazily(__spec__)
