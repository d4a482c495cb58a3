"""What a graph on the command line is read from: a study file, or text."""

from __future__ import annotations

from pathlib import Path

from rung3.graph import CausalGraph
from rung3.graph.dagitty import is_dagitty, read_dagitty

__all__ = ["read_graph"]


def read_graph(source: str) -> tuple[CausalGraph, list[str]]:
    """The graph of a study file or of a text, and those of its variables that are images.

    Args:
        source: The path of a study file (YAML), or text: ours or DAGitty's.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> str(read_graph("a -> b")[0])
        'a -> b'
    """
    if Path(source).suffix in (".yaml", ".yml"):
        from rung3.data.variables import Image
        from rung3.study.study import Study

        study = Study.load(source)
        images = [name for name, kind in study.declared().items() if isinstance(kind, Image)]
        return CausalGraph(study.graph), images
    if is_dagitty(source):
        return read_dagitty(source).observed, []
    return CausalGraph(source), []
