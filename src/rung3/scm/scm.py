"""`SCM`: a graph, and one mechanism for each variable; every query is composed of its verbs.

    x_k := f_k(pa_k, u_k),   p(x) = prod_k p(x_k | pa_k)            (lecture 1.6 and 1.7)

A counterfactual is abduction, action, prediction (lecture, Figure 14):

    u ~ P(U | x),   M' = M with do(x_j := c),   x~ = M'(u).

At prediction a variable keeps its factual value, bit for bit, unless its own mechanism or that of
an ancestor differs from the one its noise was abducted with. Every other variable is recomputed
from its noise and its parents, even if no value changes: a null intervention takes no short cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from rung3.data import memory
from rung3.data.rows import Exogenous, Noise, Rows, Values, named
from rung3.data.seeding import Seed, base_seed
from rung3.mechanisms.base import Mechanism
from rung3.scm import (
    backtracking,
    conditioning,
    identifiability,
    imputation,
    propagation,
    provenance,
    reading,
    store,
)
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import Apply
from rung3.scm.model import Model
from rung3.scm.propagation import Changes
from rung3.scm.query_options import check_options

__all__ = ["SCM", "load"]


class SCM(Model):
    """A structural causal model (lecture 1.6), learned, written down, or partly each.

    Args:
        graph: A `CausalGraph`, or what makes one; if not given, read off the equations' arguments.
        variables: The variable of each node; where neither it nor its mechanism is given, `fit`
            reads it off the column (`rung3.scm.undeclared`); until then it is `Continuous()`. A
            hidden common cause may be given too, by its arrow: `{"x <-> y": Categorical(4)}` (see
            `rung3.scm.districts.confounding`).
        mechanisms: The mechanism of each node; where not given, the default of its kind.
        world: Name of the world that this model is, if it is one: rows that it samples then carry
            their exogenous noise, and it abducts from that, exactly.
        equations: More mechanisms, by keyword.

    Attributes:
        measures: A world may have functions that measure a variable on images `(n, C, H, W)`, by
            its name; and
        baselines: by their names, functions of an image, its parents and their counterfactual
            values that give an image; `evaluate` prints their scores beside the model's.
        unidentified: Whether to `"refuse"` or `"allow"` answers that data cannot tell for hidden
            causes `a <-> b` (see `rung3.scm.identifiability`). Not saved.

    Raises:
        ValueError: If names do not agree, or a mechanism cannot model its variable.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x1=Equation("u + 1"), x2=Equation("3*x1 + u"))
        >>> noise = model.abduct({"x1": 2.0, "x2": 4.0})
        >>> model.do(x1=5.0).predict(noise)["x2"]
        tensor(13.)
    """

    measures: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({})
    baselines: Mapping[str, Callable[..., Tensor]] = MappingProxyType({})

    # Rung 1: seeing ------------------------------------------------------------------------------

    @in_own_precision
    def sample(
        self, n: int = 1, given: Values | None = None, seed: Seed = None, **options: Any
    ) -> Rows:
        """Draw rows from `p(x)`, or from `p(x | given)`.

        Conditioning is exact where everything upstream of the evidence is given too; otherwise by
        likelihood weighting and, where evidence is rare, by summing over categories or by tempering
        (`rung3.scm.conditioning`), with the effective sample size in `explain()`; it warns below
        30.

        Args:
            n: Number of rows.
            given: Evidence: one value a variable, the same for all rows.
            seed: An int, a `torch.Generator`, or `None` to follow torch's own.
            options: Options of mechanisms, such as `steps` of `FlowMatching`.

        Returns:
            `n` rows; in a world they carry their noise.

        Raises:
            ValueError: If the evidence is not a value of its variable, or has probability zero; or
                if it is an image and something that causes it is not given.

        Example:
            >>> from rung3 import worlds
            >>> worlds.lecture().sample(3, given={"x1": 2.0}, seed=0)["x1"]
            tensor([2., 2., 2.])
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n: expected a whole number of rows, at least 1, got {n!r}")
        check_options(self.mechanisms, options)
        identifiability.require_identified(self)
        memory.require_rows(self.variables, n, None, self.device)
        evidence = self.read(given) if given else None
        if evidence is not None and evidence.batched:
            raise ValueError("given: expected one value a variable, got batches")
        base = base_seed(seed, "condition" if evidence else "")
        clamped, size = conditioning.condition(self, dict(evidence or {}), n, base)
        values, noise = propagation.generate(self, n, base, clamped, options=options)
        known = self.world is not None and not clamped
        unset = {name: part for name, part in noise.items() if name not in self.replaced}
        return Rows(
            {name: values[name] for name in self.graph.nodes},
            noise=unset if known else None,
            world=self.world if known else None,
            provenance=provenance.of_sample(self, values, evidence or {}, size),
        )

    def log_prob(self, values: Values, seed: Seed = None, **options: Any) -> Tensor:
        """Compute `log p(x)` in nats, in the variables' own units, `(n,)`: the sum of `log_probs`.

        Example:
            >>> from rung3 import worlds
            >>> worlds.lecture().log_prob({"x1": [1.0], "x2": [3.0]})
            tensor([-1.8379])
        """
        return torch.stack(list(self.log_probs(values, seed, **options).values())).sum(0)

    @in_own_precision
    def log_probs(self, values: Values, seed: Seed = None, **options: Any) -> dict[str, Tensor]:
        """Compute `log p(x_k | pa_k)` of each variable given, `(n,)`; or a lower bound (VAEs).

        Of variables that hidden causes join, given the earlier ones of them too: they sum to
        `log p(x)`.

        Args:
            values: Values of some variables and of all their parents.
            seed: Of bounds that are random: an int, a `torch.Generator`, or `None` for torch's own.
            options: Options of mechanisms, such as `draws` of `FlowMatching`.

        Raises:
            ValueError: If a variable given lacks a parent, or is missing in a row.
        """
        check_options(self.mechanisms, options)
        rows = self.read(values)
        imputation.check_present(self, rows, "a density")
        identifiability.require_identified(self, rows)
        return propagation.log_probs(self, rows, base_seed(seed, "log_prob"), options)

    # Rung 3: imagining ---------------------------------------------------------------------------

    @in_own_precision
    def abduct(
        self, values: Values, particles: int | None = None, seed: Seed = None, **options: Any
    ) -> Exogenous:
        """Infer the exogenous noise behind rows, `P(U | x)` (lecture, Figure 14, step 1).

        Args:
            values: A value of every variable.
            particles: Number K of draws where noise is random given the rows; `None` for one.
            seed: An int, a `torch.Generator`, or `None` to follow torch's own.
            options: Options of mechanisms, such as `steps` of `FlowMatching`; prediction from the
                noise takes the same ones, where it is not told others.

        Returns:
            Noise by variable, `(n, ...)`, or `(K, n, ...)` with particles.

        Raises:
            ValueError: If a value is missing or impossible, or a mechanism cannot be inverted.
        """
        rows, read = reading.fill(self, self.read(values))
        noise = self.abduct_only(rows, self.graph.nodes, particles, seed, **options)
        noise.read = reading.shares(read)
        return noise

    @in_own_precision
    def abduct_only(
        self,
        rows: Rows,
        names: Iterable[str],
        particles: int | None = None,
        seed: Seed = None,
        **options: Any,
    ) -> Exogenous:
        """Infer the noise of some variables alone, behind rows that `read` gave.

        Args:
            rows: Rows as `read` gives them.
            names: The variables whose noise is wanted.
            particles: As for `abduct`.
            seed: As for `abduct`.
            options: As for `abduct`.
        """
        _check_particles(particles)
        check_options(self.mechanisms, options)
        self.check_given(rows)
        imputation.check_present(self, rows, "abduction")
        memory.require_rows(self.variables, rows.n, particles, self.device)
        return self._abduct(rows, set(names), particles, seed, options)

    def _abduct(
        self,
        rows: Rows,
        names: Set[str],
        particles: int | None,
        seed: Seed,
        options: Mapping[str, Any],
    ) -> Exogenous:
        base = base_seed(seed, "abduct" if particles is None else "particles")
        if rows.provenance is not None and rows.provenance.seed is not None:
            base = base_seed(base, f"after {rows.provenance.seed}")  # not what made these rows
        return propagation.abduct(self, rows, names, particles, base, options)

    @in_own_precision
    def predict(
        self,
        noise: Exogenous | Mapping[str, Noise],
        temperature: float = 1.0,
        mean: Iterable[str] = (),
        **options: Any,
    ) -> Rows:
        """Compute the rows that this model makes of the noise (lecture, Figure 14, step 3).

        Args:
            noise: What `abduct` gave, by this model or by one that it was made from with `do`.
            temperature: Factor on the noise of observation (a VAE's eps); 0 predicts from z alone.
            mean: Variables of which to give the expected value over noise of observation.
            options: Options of mechanisms, such as `guidance` of `FlowMatching`; those of `abduct`
                where not given.

        Returns:
            Rows shaped as the evidence was, with a leading axis K if there are particles.

        Raises:
            ValueError: If noise of a variable that must be recomputed is not there, or `mean`
                names no variable.
        """
        if not isinstance(noise, Exogenous):
            noise = Exogenous(noise, n=propagation.length(noise))
        check_options(self.mechanisms, options)
        propagation.check_lengths(self, noise.n)
        factual = noise.factual is not None
        changes = Changes.of(self, noise.mechanisms, factual)
        if factual:
            identifiability.require_imaginable(self, changes.recomputed)
        settings = {**noise.options, **options}
        return self._predict(noise, changes, temperature, settings, self.graph.names(mean))

    @in_own_precision
    def _predict(
        self,
        noise: Exogenous,
        changes: Changes,
        temperature: float,
        options: Mapping[str, Any],
        mean: frozenset[str] = frozenset(),
    ) -> Rows:
        values = propagation.predict(self, noise, changes, temperature, mean, options)
        batched = noise.factual is None or noise.factual.batched
        axis = 0 if noise.particles is None else 1
        return Rows(
            {k: values[k] if batched else values[k].squeeze(axis) for k in self.graph.nodes},
            batched=batched,
            particles=noise.particles,
            provenance=provenance.of_prediction(self, values, noise, changes, options),
        )

    @in_own_precision
    def counterfactual(
        self,
        values: Values,
        do: Values,
        *,
        hold: Iterable[str] = (),
        particles: int | None = None,
        seed: Seed = None,
        temperature: float = 1.0,
        **options: Any,
    ) -> Rows:
        """Say what these rows would have been, had variables been set: abduct, act, predict.

        Args:
            values: A value of every variable.
            do: The interventions, as `SCM.do` takes them.
            hold: Variables kept at their factual values although something upstream is set.
            particles: Number K of draws of the noise; answers then have a leading axis K. Needed
                where values are missing: they are drawn given the rest (see
                `rung3.scm.imputation`), but for causes that `readers` tell from an image.
            seed: An int, a `torch.Generator`, or `None` to follow torch's own.
            temperature: Factor on the noise of observation (a VAE's eps); 0 predicts from z alone.
            options: Options of mechanisms, such as `steps` and `guidance` of `FlowMatching`.

        Returns:
            Rows shaped as the evidence was; `explain()` says what they rest on.

        Example:
            >>> from rung3 import worlds
            >>> answer = worlds.lecture().counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})
            >>> answer["x2"], answer.explain().status["x2"]
            (tensor(13.), 'propagated')
        """
        _check_particles(particles)
        check_options(self.mechanisms, options)
        rows, read = reading.fill(self, self.read(values))
        self.check_given(rows)
        memory.require_rows(self.variables, rows.n, particles, self.device)
        if masks := imputation.gaps(self, rows):
            if particles is None:
                imputation.refuse_gaps(self, masks, rows.n, "abduction")
            base = base_seed(seed)
            complete = imputation.complete(self, rows.batch, particles, seed=base)
            n = rows.batch.n
            do = {k: imputation.repeated(self, k, v, particles, n) for k, v in named(do).items()}
            answer = self.counterfactual(
                complete.rows, do, hold=hold, seed=base, temperature=temperature, **options
            )
            return complete.fold(answer, rows.batched, reading.shares(read))
        model = self._acted(rows, do, hold)
        propagation.check_lengths(model, rows.n)
        changes = Changes.of(model, self.mechanisms, factual=True)
        identifiability.require_imaginable(model, changes.recomputed)
        names = {name for name in changes.recomputed if self._is_needed(model, name, changes)}
        noise = self._abduct(rows, names, particles, seed, options)
        noise.read = reading.shares(read)
        return model._predict(noise, changes, temperature, options)

    @in_own_precision
    def backtrack(
        self,
        values: Values,
        to: Values,
        *,
        moves: int | None = None,
        solutions: int | None = None,
        temperature: float = 1.0,
        tolerance: float | None = None,
        seed: Seed = None,
        **options: Any,
    ) -> Rows:
        """Say what would have had to be otherwise for variables to have been so: move the noise.

        No mechanism is broken. Of all noise under which the antecedents hold, the answer takes what
        is nearest to the factual: the least sum of squares over the noise of the antecedents and of
        their ancestors, in standard normal units (von Kuegelgen, Mohamed and Beckers 2023,
        *Backtracking counterfactuals*). Other noise is kept, and what lies downstream follows.
        A row in which the antecedents hold already comes back as it is.

        Ancestors that are categories or counts keep their values; where their parents move, their
        noise is drawn from its exact posterior under the new ones. An antecedent that is one takes
        its value by its own noise, drawn from the exact posterior of that value. The search ends
        where no small change of noise is nearer; under strongly bent mechanisms a nearer one may
        lie elsewhere.

        Args:
            values: A value of every variable.
            to: The antecedents, numbers, vectors or categories: one value each, or one a row.
            moves: Sparsity: the most variables whose noise may move; if not given, all may. All
                sets of so many are tried.
            solutions: Number K of draws in place of the nearest noise: of the normal law around the
                factual noise, given the antecedents, by Langevin steps (`rung3.scm.langevin`);
                answers then have a leading axis K.
            temperature: Variance of that law; towards 0 all draws are near the nearest noise.
            tolerance: How far the antecedents may be missed, in their own units; if not given, 1e-4
                standard deviations of the noise that moves them, or 1e-3 of a probability that a
                predictor gives. Of an image of whole levels a predictor's output has steps, and
                nothing between them can be met.
            seed: An int, a `torch.Generator`, or `None` to follow torch's own; it is for noise that
                is random given the rows.
            options: Options of mechanisms, such as `steps` of `FlowMatching`; of an image above the
                antecedents it is 5, if not given, as the search solves its path many times.

        Returns:
            Rows shaped as the evidence was. Their `noise` is the noise moved, and that of all that
            follows from it; `explain()` says how far each moved, and how nearly what was asked is
            met.

        Raises:
            ValueError: If an antecedent is not a number, lies outside its support, or has no noise
                that moves it; or if it is missed by more than the tolerance (and more than
                rounding), with the row and the gap.

        Example:
            >>> from rung3 import worlds
            >>> answer = worlds.lecture().backtrack({"x1": 2.0, "x2": 4.0}, to={"x2": 14.0})
            >>> answer["x1"], answer["x2"]
            (tensor(5.), tensor(14.))
        """
        check_options(self.mechanisms, options)
        _check_particles(solutions, "solutions")
        rows, read = reading.fill(self, self.read(values))
        given = rows if solutions is None else rows.repeat(solutions)
        to = to if solutions is None else backtracking.repeated(self, to, rows.n, solutions)
        warmth = None if solutions is None else temperature
        plan = backtracking.plan(self, to, given.n, moves, warmth, tolerance)
        identifiability.require_imaginable(self, plan.recomputed)
        options = backtracking.frugal(self, plan.above, options)
        noise = self.abduct_only(given, plan.recomputed, seed=seed, **options)
        noise.read = reading.shares(read)
        answer = plan.answer(given, noise, options)
        return answer if solutions is None else backtracking.folded(answer, solutions, rows.batched)

    def fill(self, values: Values) -> tuple[Rows, dict[str, Tensor]]:
        """Read missing causes of images off them, where the model has `readers`.

        Args:
            values: A value of every variable, NaN where it is missing.

        Returns:
            The rows as `counterfactual` takes them, and by variable a mask `(n,)` of what was read.
        """
        return reading.fill(self, self.read(values))

    def _acted(self, rows: Rows, do: Values, hold: Iterable[str]) -> Self:
        """Return the model after `do`, with factual values in the place of what is held."""
        held = self.graph.names(hold)
        if both := [name for name in do if name in held]:
            raise ValueError(f"{both[0]}: cannot both be set and held")
        model = self.do(do)
        if held and (below := held & model.graph.descendants(list(do))):
            return model.hold({name: rows[name] for name in below})
        return model

    def _is_needed(self, model: Model, name: str, changes: Changes) -> bool:
        """Say whether a counterfactual needs a variable's noise, or has to check that it exists."""
        new = model.mechanisms[name]
        if name in changes.drawn:
            return isinstance(new, Apply) and new.natural
        return new.wants_noise or new is self.mechanisms[name]

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder; see `rung3.scm.store.save`."""
        return store.save(self, folder)


def load(folder: str | Path, mechanisms: Iterable[type[Mechanism]] = ()) -> SCM:
    """Read a model that `SCM.save` wrote.

    Args:
        folder: Its folder, or that of a run whose model is fitted; a model that rung3 holds, such
            as `rung3/digits`; or the address of a packed one with its digest: see `rung3.scm.zoo`.
        mechanisms: Classes of your own that it uses.

    Returns:
        The model, on the CPU, in eval mode; the parameters of what was fitted are frozen.

    Raises:
        ValueError: If the folder is incomplete, altered, of a newer format, or uses an unknown
            mechanism; the message says which.
    """
    return store.load(SCM, folder, mechanisms)


def _check_particles(particles: int | None, name: str = "particles") -> None:
    whole = isinstance(particles, int) and not isinstance(particles, bool)
    if particles is not None and not (whole and particles > 0):
        raise ValueError(f"{name}: expected a whole number of at least 1, got {particles!r}")
