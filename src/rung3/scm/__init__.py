"""Structural causal models: the verbs of the three rungs, and what carries them out."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.data.rows import Values
    from rung3.scm.generation import generate, generated
    from rung3.scm.scm import SCM, load

__all__ = ["SCM", "Values", "generate", "generated", "load"]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
