"""Discrete mechanisms with exact posteriors of their noise.

`GumbelMax`, for categories: `x = argmax_k (l_k + G_k)` with log-probabilities `l(pa)` and
independent standard Gumbel `G_k`. Given `x = k`, top-down: the maximum is `T ~ Gumbel(0)` (the
`l_k` are normalised), the winner's perturbed value is T, and every other one is a Gumbel truncated
below T, `-log(exp(-g_j - l_j) + exp(-T))` with fresh `g_j`.

`InverseCDF`, for binary and ordinal variables: `x = #{k : u >= F_k(pa)}`, `u ~ Uniform(0, 1)`, with
`F_k = P(x <= k)`. Given `x = k`, `u ~ Uniform(F_{k-1}, F_k)`.

The log-probabilities `l(pa)` come from a network, from a table that is known, or, of discrete
parents, from counts: with `n_k` rows of category k under these parents and a prior of `a` rows each
(Dirichlet), `exp l_k = (n_k + a) / (n + a classes)`. Both families fit
any conditional distribution. They agree on rungs one and two and differ on three: data cannot tell
them apart, and the choice is an assumption (Oberst and Sontag 2019, arXiv 1905.05824; Pawlowski et
al. 2020, arXiv 2006.06485, appendix A). Each is the other's alternative in a sensitivity analysis.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from rung3.data.rows import Noise
from rung3.data.variables import Binary, Categorical, Discrete, Ordinal, Variable
from rung3.mechanisms.base import (
    UNIFORM,
    Abduction,
    Mechanism,
    Parents,
    Passes,
    leading,
    one_tensor,
)
from rung3.mechanisms.logistic_line import fit_line
from rung3.mechanisms.networks.encoding import MLP, ParentEncoder

__all__ = ["GumbelMax", "InverseCDF", "gumbel", "gumbel_given"]

LEAST_PROBABILITY = 1e-14
"""Least probability of a level: every level keeps an interval of noise of its own in double."""

LEAST_LOG_PROBABILITY = -1e3
"""Least log-probability, in nats, that is perturbed: what a table calls impossible never wins."""

PSEUDOCOUNT = 0.5
"""Rows added to each category where frequencies are counted (Jeffreys' prior)."""

MOST_SETTINGS = 256
"""Settings of the parents up to which `choose` counts the categories under each."""

ROUNDING = 1e-6
"""How far the probabilities of a table's line may be from a sum of 1."""

Family = TypeVar("Family", bound="Tabulated")


class Tabulated(Mechanism):
    """A conditional distribution over categories: log-probabilities by a network, or a table.

    A subclass says which category noise gives, and what the noise is given the category.

    Attributes:
        suited: Kinds of variables that `choose` tries the family for.
    """

    suited: ClassVar[tuple[type[Variable], ...]] = ()

    abduction: ClassVar[Abduction] = "posterior"
    learning_rate: ClassVar[float] = 1e-2
    logits: Tensor

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        table: Any = None,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        self.hidden, self.prior = tuple(hidden), prior
        if prior is not None and (table is not None or not 0 < prior < math.inf):
            raise ValueError(f"prior={prior}: expected a number of rows above 0, and no table=")
        self.table: Any = None
        if table is not None:
            self.table = torch.as_tensor(table, dtype=torch.float64).tolist()

    def build(self) -> None:
        if not isinstance(self.variable, Discrete):
            raise ValueError(
                f"{self.name}: {type(self).__name__} models categories, and {self.name} is "
                f"{self.variable}; use Flow for numbers and VAE for images"
            )
        self.classes = self.variable.classes
        if self.table is not None:
            self.register_buffer("logits", self._read().log().to(torch.get_default_dtype()))
            return
        if self.prior is not None:
            shape = (*self._sizes("counting"), self.classes)
            self.logits = nn.Parameter(torch.zeros(shape))
            self.closed_form = True
            return
        self.encoder = ParentEncoder(self.parents)
        self.network = MLP(self.encoder.width, self.classes, self.hidden)

    def _read(self) -> Tensor:
        """Return the table, checked."""
        sizes = self._sizes("a table")
        table = torch.tensor(self.table, dtype=torch.float64)
        expected = (*sizes, self.classes)
        if table.shape != expected:
            axes = ", ".join([*self.parents, self.name])
            raise ValueError(
                f"{self.name}: expected a table of shape {expected}, with the axes ({axes}), got "
                f"{tuple(table.shape)}"
            )
        off = (table.sum(-1) - 1).abs() > ROUNDING
        wrong = (table < 0).any(-1) | off | table.isnan().any(-1)
        if wrong.any():
            raise ValueError(
                f"{self.name}: the probabilities of a table's line must be at least 0 and sum to "
                f"1, got {[round(p, 6) for p in table[wrong][0].tolist()]}"
            )
        return table / table.sum(-1, keepdim=True)

    def _sizes(self, what: str) -> list[int]:
        """Return the numbers of categories of the parents, which must be discrete."""
        sizes = []
        for parent, variable in self.parents.items():
            if not isinstance(variable, Discrete):
                raise ValueError(
                    f"{self.name}: {what} needs discrete parents, and {parent} is {variable}"
                )
            sizes.append(variable.classes)
        return sizes

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Start from the marginal frequencies (add one half): exact at once without parents."""
        if self.table is not None:
            return
        if self.prior is not None:
            self._count(value, parents, self.prior)
            return
        self.encoder.calibrate(parents)
        counts = torch.bincount(value.long(), minlength=self.classes) + PSEUDOCOUNT
        last = list(self.network.parameters())[-1]
        with torch.no_grad():
            last.copy_((counts / counts.sum()).log())

    def _count(self, value: Tensor, parents: Parents, prior: float) -> None:
        """Count the rows of each category under each setting of the parents."""
        counts = torch.full(self.logits.shape, prior, dtype=torch.float64, device=value.device)
        self._add(counts, value, parents)
        self._take_counts(counts)

    def _add(self, counts: Tensor, value: Tensor, parents: Parents) -> None:
        """Add further rows to counts."""
        at = (*(parents[name].long() for name in self.parents), value.long())
        counts.index_put_(at, counts.new_ones(()), accumulate=True)

    def _take_counts(self, counts: Tensor) -> None:
        """Take the frequencies that counts give."""
        self.logits.data.copy_((counts / counts.sum(-1, keepdim=True)).log())
        self.logits.requires_grad_(False)  # it is the posterior mean: steps would leave it

    def calibrate_by_batches(self, value: Tensor, parents: Parents) -> Passes:
        """Count all rows, or fit a line to them by Newton's method; networks are trained."""
        if self.prior is not None:
            counts = torch.full(self.logits.shape, self.prior, dtype=torch.float64)
            yield partial(self._add, counts)
            self._take_counts(counts)
        elif self.table is None and not self.hidden:
            for take in fit_line(self.network, self._features(value, parents)):
                yield partial(self._give, take)

    def _features(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return what a line takes, `(n, width)`, and the codes that it gives, `(n,)`."""
        return self.encoder(parents, len(value)), value.long()

    def _give(
        self, take: Callable[[Tensor, Tensor], None], value: Tensor, parents: Parents
    ) -> None:
        """Give features and codes to what takes them."""
        take(*self._features(value, parents))

    def effective_parameters(self) -> float:
        return float(self.logits[..., 1:].numel()) if self.prior is not None else math.nan

    def log_probs(self, parents: Parents, n: int) -> Tensor:
        """Return log-probabilities of the categories, `(n, classes)`."""
        return self._of_log_probs(lambda log_probs: log_probs, parents, n)

    def _of_log_probs(
        self, transform: Callable[[Tensor], Tensor], parents: Parents, n: int
    ) -> Tensor:
        """Return what a function of lines `(..., classes)` gives for each row, `(n, ...)`."""
        if self.table is None and self.prior is None:
            return transform(self.network(self.encoder(parents, n)).log_softmax(-1))

        def known(lines: Tensor) -> Tensor:
            return transform(lines if self.prior is None else lines.log_softmax(-1))

        at = tuple(parents[name].long() for name in self.parents)
        # A table has far fewer lines than most calls have rows: each line is worked out once.
        fewer = n * self.classes < self.logits.numel()
        result = known(self.logits[at]) if fewer else known(self.logits)[at]
        return result.expand(n, result.shape[-1])

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        table = self.log_probs(parents, len(value))
        return table.gather(1, value.long().unsqueeze(1)).squeeze(1)

    @classmethod
    def candidates(
        cls, variable: Variable, parents: Mapping[str, Variable]
    ) -> list[list[Mechanism]]:
        """Name a line, then counts where the parents have few settings, then a network."""
        if not isinstance(variable, cls.suited):
            return []
        sizes = [p.classes if isinstance(p, Discrete) else math.inf for p in parents.values()]
        counted = [cls(prior=PSEUDOCOUNT)] if math.prod(sizes) <= MOST_SETTINGS else []
        return [[cls(hidden=()), *counted, cls()]]

    @abstractmethod
    def _category(self, noise: Tensor, parents: Parents) -> Tensor:
        """Return the category that noise gives, `(n,)`."""

    @abstractmethod
    def _posterior(
        self, code: Tensor, parents: Parents, lead: tuple[int, ...], generator: Generator | None
    ) -> Tensor:
        """Draw the noise given the categories `(n,)`, with the leading axes `(n,)` or `(K, n)`."""

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        return self._category(one_tensor(noise, self.name), parents).to(self.variable.dtype)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return self._posterior(value.long(), parents, leading(len(value), particles), generator)

    def _as(self, family: type[Family]) -> Family:
        """Return another family with the same network, or the same table."""
        other = family(self.hidden, self.table, self.prior)
        other = other.bind(self.name, self.variable, self.parents)
        other.load_state_dict(self.state_dict())
        return other.to(self.observed.device)


class GumbelMax(Tabulated):
    """A category as the largest of perturbed log-probabilities; noise `(n, classes)`.

    Args:
        hidden: Widths of the network from parents to log-probabilities.
        table: Known probabilities instead, nested by the parents in the order of the graph's nodes,
            then by the categories.
        prior: Rows that each category has beforehand under each setting of the parents; the table
            is then counted, with no network. The parents must be discrete.

    Raises:
        ValueError: On `build`, if the variable is not discrete, or the table does not fit; if a
            prior is not above 0, or a parent is not a category where counts are asked for.

    Example:
        >>> mechanism = GumbelMax().bind("digit", Categorical(3), {})
        >>> digit = torch.tensor([0, 1, 2])
        >>> mechanism.predict(mechanism.abduct(digit, {}), {})
        tensor([0, 1, 2])
    """

    assumption: str = "Gumbel-max noise (counterfactual stability), not known from data"
    suited: ClassVar[tuple[type[Variable], ...]] = (Categorical,)

    def alternatives(self) -> Sequence[Mechanism]:
        return [self._as(InverseCDF)]

    def _finite(self, parents: Parents, n: int) -> Tensor:
        return self.log_probs(parents, n).clamp_min(LEAST_LOG_PROBABILITY)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return gumbel((n, self.classes), generator, self.observed.device)

    def noise_prior(self) -> str:
        return f"Gumbel(0, 1) of {self.classes} classes"

    def _category(self, noise: Tensor, parents: Parents) -> Tensor:
        return (self._finite(parents, len(noise)) + noise).argmax(-1)

    def _posterior(
        self, code: Tensor, parents: Parents, lead: tuple[int, ...], generator: Generator | None
    ) -> Tensor:
        return gumbel_given(code, self._finite(parents, len(code)), lead, generator)


class InverseCDF(Tabulated):
    """A level as the number of cumulative probabilities that uniform noise exceeds; noise `(n,)`.

    Args:
        hidden: Widths of the network from parents to log-probabilities.
        table: Known probabilities instead, nested by the parents in the order of the graph's nodes,
            then by the categories.
        prior: Rows that each category has beforehand under each setting of the parents; the table
            is then counted, with no network. The parents must be discrete.

    Raises:
        ValueError: On `build`, if the variable is not discrete, or the table does not fit; if a
            prior is not above 0, or a parent is not a category where counts are asked for.

    Example:
        >>> from rung3 import Binary
        >>> mechanism = InverseCDF().bind("sick", Binary(), {})
        >>> mechanism.predict(torch.tensor([0.2, 0.7]), {})
        tensor([0, 1])
    """

    assumption: str = "monotone in uniform noise, not known from data"
    suited: ClassVar[tuple[type[Variable], ...]] = (Binary, Ordinal)

    def alternatives(self) -> Sequence[Mechanism]:
        return [self._as(GumbelMax)]

    def reverse(self, noise: Tensor) -> Tensor | None:
        return 1 - noise

    def cumulative(self, parents: Parents, n: int) -> Tensor:
        """Return `P(x <= k)` for k = -1, ..., classes - 1, `(n, classes + 1)`, in double."""
        return self._of_log_probs(self._ends, parents, n)

    def _ends(self, log_probs: Tensor) -> Tensor:
        """Return the cumulative probabilities of lines, `(..., classes + 1)`."""
        probabilities = log_probs.double().softmax(-1)
        floored = LEAST_PROBABILITY + (1 - self.classes * LEAST_PROBABILITY) * probabilities
        return F.pad(F.pad(floored.cumsum(-1)[..., :-1], (1, 0)), (0, 1), value=1.0)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return _uniform((n,), generator, self.observed.device)

    def noise_prior(self) -> str:
        return UNIFORM

    def _category(self, noise: Tensor, parents: Parents) -> Tensor:
        inner = self.cumulative(parents, len(noise))[:, 1:-1]
        return (noise.unsqueeze(-1) >= inner).sum(-1)

    def _posterior(
        self, code: Tensor, parents: Parents, lead: tuple[int, ...], generator: Generator | None
    ) -> Tensor:
        ends, column = self.cumulative(parents, len(code)), code.unsqueeze(1)
        low, high = ends.gather(1, column).squeeze(1), ends.gather(1, column + 1).squeeze(1)
        inside = low + _uniform(lead, generator, code.device) * (high - low)
        return torch.minimum(inside, torch.nextafter(high, low))


def _uniform(shape: tuple[int, ...], generator: Generator | None, device: torch.device) -> Tensor:
    """Draw uniformly from [0, 1), in double: finer than any probability that a network gives."""
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def gumbel_given(
    code: Tensor, logits: Tensor, lead: tuple[int, ...], generator: Generator | None
) -> Tensor:
    """Draw the Gumbel noise with which categories won.

    Args:
        code: The categories, `(n, ...)`.
        logits: Their log-probabilities, `(n, ..., classes)`.
        lead: Shape of the noise but for the classes: `(n, ...)`, or `(K, n, ...)`.
        generator: Source of randomness.
    """
    # Top-down: the maximum first, then the others, truncated below it.
    top = gumbel((*lead, 1), generator, code.device)
    others = gumbel((*lead, logits.shape[-1]), generator, code.device)
    below = -torch.logaddexp(-others - logits, -top)
    winner = F.one_hot(code, logits.shape[-1]).bool().expand(below.shape)
    return torch.where(winner, top, below) - logits


def gumbel(shape: tuple[int, ...], generator: Generator | None, device: torch.device) -> Tensor:
    """Draw standard Gumbel noise, `-log(E)` with E exponential; in double, so that no two tie."""
    exponential = torch.empty(shape, device=device, dtype=torch.float64)
    exponential.exponential_(generator=generator)
    return -exponential.clamp_min(torch.finfo(exponential.dtype).tiny).log()
