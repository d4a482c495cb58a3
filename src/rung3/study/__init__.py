"""Study files, and the runs that they describe."""

from rung3.study.comparison import compare_runs
from rung3.study.folder import RunFolder
from rung3.study.run import run_study
from rung3.study.study import Study

__all__ = ["RunFolder", "Study", "compare_runs", "run_study"]
