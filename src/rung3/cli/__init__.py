"""The command `rung3`."""

from rung3.cli.app import app

__all__ = ["app"]
