"""The command `rung3`."""

from rung3.cli.commands import app

__all__ = ["app"]
