"""The counterfactual loss of one image mechanism, at one step of training.

With x~ imagined for `do(a := a')`, the predictors' log-loss is, averaged over rows,

    C = -sum_k log q_k(pa~_k | x~).

Beside it stands the mechanism's own loss N (for autoencoders the negative bound, per dimension d,
and C is divided by d too, so that a nat is a nat). In training *from the start* the loss is
`N + w_t C`, where `w_t` is 0 at first and then rises to the weight. As a *constraint* `N <= c` it
is the augmented Lagrangian of an inequality (Nocedal and Wright 2006, section 17.4),

    C + (max(0, lambda + rho (N - c))^2 - lambda^2) / 2 rho,

of which the gradient is that of `C + max(0, lambda + rho (N - c)) N`, the factor held: nothing
pulls at a likelihood that is good enough, and a mechanism is never paid for a worse one. The
multiplier ascends at every step, `lambda <- max(0, lambda + r rho (N - c))`; rho is the damping. At
a factor of 1 a nat weighs as much as a nat: with r = 0.01 and rho = 100 that is where a gap of 0.01
nats a dimension stands at once, and the multiplier alone after 100 steps of it.

The image is encoded once. Its noise is abducted on the way: gradients reach the latents, and pass
by the noise of observation (eps), which is kept as it is. Pixels are rounded to levels with the
gradient of the identity.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.files import digest
from rung3.data.rows import Noise
from rung3.mechanisms.autoencoder import Autoencoder
from rung3.mechanisms.base import Mechanism, Parents
from rung3.training.batches import Batch
from rung3.training.counterfactual.objective import CounterfactualObjective
from rung3.training.oracles.predictor import Predictor
from rung3.training.processes import DrawnAsOne, summed

__all__ = ["CounterfactualLoss", "Step", "propagate"]


class Step(NamedTuple):
    """The loss of a step: what is minimised, and the mechanism's own loss in it."""

    total: Tensor
    plain: Tensor


class CounterfactualLoss(nn.Module):
    """The loss above, with its state, which a checkpoint keeps.

    Args:
        options: The objective.
        mechanism: The mechanism of the image.
        chosen: Variables that may be set.
        carriers: What is recomputed below them, up to the image, in topological order; frozen.
        predictors: Measured oracles of the image's parents, by parent, of each member of the
            committee; frozen.

    Attributes:
        bound: The constraint c; NaN where there is none.
        multiplier: Lambda.
        sums: Of C and of the factor of N, and how many, since the epoch began; of this process.
    """

    bound: Tensor
    multiplier: Tensor

    def __init__(
        self,
        options: CounterfactualObjective,
        mechanism: Mechanism,
        chosen: Sequence[str],
        carriers: Sequence[Mechanism],
        predictors: Sequence[Mapping[str, Predictor]],
    ) -> None:
        super().__init__()
        self.options = options
        self.name = mechanism.name
        self.chosen = list(chosen)
        self.carriers = nn.ModuleList(carriers)
        self.read = list(predictors[0])
        # One list, member after member: checkpoints of a single one are as they always were.
        self.predictors = nn.ModuleList(member[name] for member in predictors for name in self.read)
        self.members = len(predictors)
        self.variables = dict(mechanism.parents)
        for carrier in carriers:
            self.variables |= {carrier.name: carrier.variable, **carrier.parents}
        self.register_buffer("bound", torch.tensor(torch.nan))
        self.register_buffer("multiplier", torch.zeros(()))
        self.sums = torch.zeros(3, dtype=torch.float64)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in evaluation mode."""
        return super().train(False)

    def forward(self, mechanism: Mechanism, batch: Batch, step: int) -> Step:
        """Return the loss of a batch that has at least one row for the mechanism.

        Args:
            mechanism: The mechanism, in training mode.
            batch: Its variables, and those that interventions involve.
            step: Steps taken before.
        """
        value, parents = batch.of(mechanism)
        weight = self.weight(step)
        factual = batch.columns(self.variables, mechanism)
        at = self.usable(factual)
        if weight == 0 or len(at) < 2:
            with batch.as_one(mechanism):
                plain = mechanism.loss(value, parents)
            return Step(plain if batch.devices == 1 else plain * batch.weight(mechanism), plain)
        which, local = batch.deal(at)
        count = len(which)
        if not count:  # a process without any of these rows takes one, which counts for nothing
            which = local = at.new_zeros(1)
        plain, noise, size = _abduct(mechanism, value, parents, local, batch, (len(at), which))
        imagined, changed = self.imagine({name: column[at] for name, column in factual.items()})
        image = mechanism.predict(
            self.temper(noise, mechanism, len(at), which),
            {name: imagined[name][which] for name in mechanism.parents},
        )
        own_imagined = {name: column[which] for name, column in imagined.items()}
        cost = self.log_loss(value[local], image, own_imagined, changed) * (count / len(at))
        mean = summed(plain.detach() * batch.count(mechanism)) / batch.total(mechanism)
        factor = self.factor(mean)
        parts = [float(cost.detach()), float(factor) / batch.devices, 1 / batch.devices]
        self.sums += torch.tensor(parts, dtype=torch.float64)
        plain_part = factor * plain * batch.weight(mechanism)
        return Step(weight * cost * batch.devices / size + plain_part, plain)

    def weight(self, step: int) -> float:
        """Return the weight `w_t` of C; 1 under a constraint."""
        options = self.options
        if options.weight is None:
            return 1.0
        risen = (step + 1 - options.after) / max(options.ramp, 1)
        return options.weight * min(max(risen, 0.0), 1.0)

    def factor(self, plain: Tensor) -> Tensor:
        """Return what N is multiplied by; under a constraint the multiplier goes a step on."""
        options = self.options
        if options.weight is not None:
            return torch.ones_like(plain)
        push = options.damping * (plain - self.bound)
        factor = (self.multiplier + push).clamp_min(0)
        risen = (self.multiplier + options.rate * push).clamp_min(0)
        self.multiplier.copy_(torch.where(risen.isfinite(), risen, self.multiplier))
        return factor

    def usable(self, factual: Mapping[str, Tensor]) -> Tensor:
        """Return which rows counterfactuals are made of: the first that lack no value."""
        missing = [self.variables[name].is_missing(column) for name, column in factual.items()]
        present = ~torch.stack(missing).any(0)
        return present.nonzero().squeeze(1)[: math.ceil(self.options.share * len(present))]

    @torch.no_grad()
    def imagine(self, factual: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
        """Set variables to other rows' values; also the names of what was set or recomputed."""
        order = torch.randperm(len(self.chosen))[: self.options.at_once].tolist()
        do = {}
        for name in (self.chosen[k] for k in order):
            do[name] = factual[name][torch.randperm(len(factual[name]))]
        with torch.autocast(self.bound.device.type, enabled=False):  # flows need their digits
            carriers: Any = self.carriers
            return propagate(carriers, factual, do)

    def temper(self, noise: Noise, mechanism: Mechanism, n: int, which: Tensor) -> Noise:
        """Return the noise, that of observation kept in a share of the rows and 0 in the others.

        Args:
            noise: Noise of this process's rows.
            mechanism: The mechanism.
            n: Number of rows of all processes.
            which: Which of these are this process's.
        """
        if self.options.kept == 1 or isinstance(noise, Tensor):
            return noise
        keys = mechanism.observation_noise
        mask = (torch.rand(n) < self.options.kept)[which.cpu()]
        return {
            key: part * mask.to(part).reshape(-1, *[1] * (part.ndim - 1)) if key in keys else part
            for key, part in noise.items()
        }

    def log_loss(
        self,
        factual: Tensor,
        image: Tensor,
        parents: Parents,
        changed: Container[str],
    ) -> Tensor:
        """Return C, of what the images should look like after a change of some parents."""
        total = image.new_zeros(())
        factual, image = self.shift(factual, image)
        for name, predictor in zip(self.read, self.member(), strict=True):
            if self.options.soft and name not in changed:
                with torch.no_grad():
                    sought = predictor.expected(factual)
            else:
                sought = predictor.goal(parents[name])
            total = total + predictor.log_loss(image, sought).mean()
        return total

    def member(self) -> Sequence[Predictor]:
        """Return the predictors of one member of the committee, redrawn at every step."""
        chosen = int(torch.randint(self.members, ())) if self.members > 1 else 0
        predictors: Any = self.predictors
        return predictors[chosen * len(self.read) : (chosen + 1) * len(self.read)]  # type: ignore[no-any-return]

    def shift(self, *images: Tensor) -> list[Tensor]:
        """Move images `(n, C, ...)` by the same few pixels, their edges repeated."""
        reach, sizes = self.options.jitter, images[0].shape[2:]
        if not reach:
            return list(images)
        starts = torch.randint(2 * reach + 1, (len(sizes),)).tolist()
        frame: Any = (..., *(slice(a, a + size) for a, size in zip(starts, sizes, strict=True)))
        edges = [reach] * 2 * len(sizes)
        return [F.pad(image, edges, mode="replicate")[frame] for image in images]

    def means(self) -> dict[str, float]:
        """Return the means since the last call, if there was a counterfactual at all."""
        cost, factor, n = self.sums.tolist()
        self.sums.zero_()
        if not n:
            return {}
        return {
            "log-loss of the predictors": cost / n,
            "factor of its own loss": factor / n,
        }

    def identity(self) -> dict[str, str]:
        """Return what must be unchanged for a run to resume."""
        carriers: Any = self.carriers
        frozen = {carrier.name: digest(carrier.state_dict()) for carrier in carriers}
        anew = self.options.predictors is None  # the checkpoint has them, with the same seed
        return {
            f"the objective of {self.name}": repr(self.options),
            f"the predictors of {self.name}": "its own" if anew else repr(self.digests()),
            **{f"the mechanism of {name}, frozen": weights for name, weights in frozen.items()},
        }

    def digests(self) -> dict[str, str]:
        """Return what stands for each predictor, by the variable that it reads and its member."""
        predictors: Any = self.predictors
        later = [f"{name}, {k + 1}" for k in range(1, self.members) for name in self.read]
        names = [*self.read, *later]
        return {name: p.digest() for name, p in zip(names, predictors, strict=True)}

    def provenance(self) -> dict[str, Any]:
        """Say by what it was trained, for the model's file."""
        bound = float(self.bound)
        constraint = {} if math.isnan(bound) else {"constraint": bound}
        return {"kind": "counterfactual", **self.options.config(), "set": self.chosen} | constraint


def propagate(
    carriers: Iterable[Mechanism], factual: Mapping[str, Tensor], do: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Predict the variables that lie between an intervention and an image, counterfactually.

    Abduction, action and prediction, as `SCM.counterfactual` has it, of these variables alone.

    Args:
        carriers: Mechanisms in topological order; those below `do` are recomputed.
        factual: Values `(n, ...)` of them and of all their parents.
        do: The values that variables are set to.

    Returns:
        All values, and the names of those that were set or recomputed.
    """
    values, changed = {**factual, **do}, set(do)
    for mechanism in carriers:
        name, parents = mechanism.name, list(mechanism.parents)
        if name in do or changed.isdisjoint(parents):
            continue
        noise = mechanism.abduct(factual[name], {parent: factual[parent] for parent in parents})
        values[name] = mechanism.predict(noise, {parent: values[parent] for parent in parents})
        changed.add(name)
    return values, changed


def _abduct(
    mechanism: Mechanism,
    value: Tensor,
    parents: Parents,
    local: Tensor,
    batch: Batch,
    dealt: tuple[int, Tensor],
) -> tuple[Tensor, Noise, int]:
    """Return the mechanism's own loss, noise of some rows, and how many values the loss averages.

    Autoencoders go through their encoder and decoder once for both.
    """
    drawn = DrawnAsOne(len(local), *dealt) if batch.devices > 1 else nullcontext()
    if isinstance(mechanism, Autoencoder):
        with batch.as_one(mechanism):
            inference = mechanism.infer(value, parents)
            plain, size = mechanism.objective(value, inference), value[0].numel()
        raw = inference.raw[local].to(value)  # under mixed precision too, eps needs its digits
        with drawn:
            eps = mechanism.pixels.abduct(value[local], mechanism.pixels.params(raw))
        noise: Noise = {"eps": eps} | {k: part[local] for k, part in inference.noise.items()}
    else:
        with batch.as_one(mechanism):
            plain, size = mechanism.loss(value, parents), 1
        with drawn:
            noise = mechanism.abduct(value[local], {k: part[local] for k, part in parents.items()})
    if isinstance(noise, Tensor):
        return plain, noise, size
    keys = mechanism.observation_noise
    return plain, {k: part.detach() if k in keys else part for k, part in noise.items()}, size
