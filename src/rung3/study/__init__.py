"""Study files, and the runs that they describe."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.study.comparison import compare_runs
    from rung3.study.folder import RunFolder
    from rung3.study.run import run_study
    from rung3.study.study import Study

__all__ = ["RunFolder", "Study", "compare_runs", "run_study"]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
