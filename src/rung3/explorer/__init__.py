"""The explorer: a page on which the causal graph is the control panel (`rung3 explore RUN...`).

`Session` answers queries in plain Python; `rung3.explorer.server` serves the page.
"""

from rung3.explorer.consulted import Consulted
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened, open_runs
from rung3.explorer.session import Answer, Session

__all__ = ["Answer", "Consulted", "Opened", "PageState", "Session", "open_runs"]
