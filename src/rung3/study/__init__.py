"""Study files, and the runs that they describe."""

from rung3.study.study import Study

__all__ = ["Study"]
