"""How long each mechanism trains, where networks may start over.

Networks that start over at step s (`Trainable.after_step`) train as if it were their first step:
their learning rate rises and falls again, their optimizer and their average know nothing of what
was before, and the epochs that were lost, s / (steps an epoch), rounded, are added. The other
mechanisms end when they would have ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from rung3.training.options import Options

__all__ = ["Restarts"]


class Restarts:
    """The steps at which mechanisms began, and those at which they end.

    Args:
        options: The options of `fit`.
        steps: Steps of an epoch.

    Attributes:
        began: The step at which networks started over, by mechanism, for those that did.
    """

    def __init__(self, options: Options, steps: int) -> None:
        self.options = options
        self.steps = steps
        self.began: dict[str, int] = {}

    @property
    def epochs(self) -> int:
        """Epochs until the last mechanism ends."""
        return self.options.epochs + max(map(self.added, self.began), default=0)

    def added(self, name: str) -> int:
        """Return the epochs that a mechanism trains longer since its networks started over."""
        return round(self.began.get(name, 0) / self.steps)

    def since(self, name: str, step: int) -> int:
        """Return the steps that a mechanism's networks have taken at a step of the training."""
        return step - self.began.get(name, 0)

    def done(self, name: str, step: int) -> float:
        """Return the share of its training that a mechanism has done, from 0 to 1."""
        return min(1.0, self.since(name, step) / self._total(name))

    def rate(self, name: str, step: int) -> float:
        """Return the share of a mechanism's highest learning rate at a step."""
        return self.options.share(self.since(name, step), self._total(name))

    def ended(self, names: Iterable[str], step: int) -> set[str]:
        """Return the mechanisms whose steps are all taken, while others train longer."""
        return {
            name for name in names if self.began and self.since(name, step) >= self._total(name)
        }

    def _total(self, name: str) -> int:
        """Return the steps of a mechanism from where it began."""
        epochs = self.options.epochs + self.added(name)
        return epochs * self.steps - self.began.get(name, 0)
