"""Baselines that keep metrics honest: answers whose quality is known beforehand.

Each gives the image from the factual one, its parents, and their counterfactual values,
`x~ = g(x; pa, pa~)`:

| baseline | x~ | how it must score |
|---|---|---|
| doing nothing | x | composes and reverses perfectly; has skill 0 and no effect |
| wrong sign | `g(x; pa, pa~')`, pa~' as far from pa the other way | skill below 0 |
| shuffled abduction | `f(pa~, u')`, u' of another row | real, with the effect; another image |
| retrieval | a training image with parents near pa~ | the same, and nothing generated |

Beside them stand a world's own (rescaling, re-morphing), and the supervised ceiling
(`rung3.evaluation.baselines.ceiling`). A metric that cannot tell one of these from a good model
says nothing about what it is bad at.

The noise of such an answer is `u = (x, pa)`. So a baseline is a mechanism too (`Edit`), and
`as_model` makes a model of it that every metric examines like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.display import centre
from rung3.data.rows import Noise, Values
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Continuous, Discrete, Image, Ordinal, Variable
from rung3.evaluation.baselines.ceiling import shipped_ceiling
from rung3.evaluation.measures.base import Baseline
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.mechanisms.networks.encoding import deviation

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = [
    "CEILING",
    "Edit",
    "as_model",
    "baselines",
    "by_noise",
    "identity",
    "of_world",
    "opposite",
    "retrieval",
    "shuffled",
]

CEILING = "supervised ceiling"
"""Name of the baseline that was trained on the truth: no answer without it need reach that."""

CHUNK_ROWS = 64
"""Rows for which images are looked up at once."""


def baselines(
    world: SCM,
    image: str,
    train: Values | None = None,
    *,
    edit: Baseline | None = None,
    seed: Seed = 0,
) -> dict[str, Baseline]:
    """Return every baseline that a world and training rows allow, for `evaluate(..., baselines=)`.

    Doing nothing (`identity`) is not among them: `evaluate` always compares with it.

    Args:
        world: The world that is asked for the truth.
        image: The image.
        train: Training rows, for retrieval.
        edit: What the wrong sign is the opposite of; if not given, the last of the world's own
            baselines, or the world itself where it has none.
        seed: Of the strangers whose noise shuffled abduction takes.

    Raises:
        ValueError: If `image` is not an image with causes.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.digits()
        >>> rows = world.sample(4, seed=0)
        >>> print(*baselines(world, "image", rows), sep=", ")
        rescaling, re-morphing, ...wrong sign, shuffled abduction, retrieval
    """
    variable = world.variables.get(image)
    if not isinstance(variable, Image) or not world.graph.parents(image):
        raise ValueError(f"image={image!r}: expected an image with causes, one of {world.graph}")
    mechanism = world.mechanisms[image]
    answers = of_world(world, world.device)
    if edit is None:
        edit = list(answers.values())[-1] if answers else by_noise(mechanism)
    answers["wrong sign"] = opposite(edit, mechanism.parents)
    answers["shuffled abduction"] = shuffled(mechanism, seed)
    if train is not None:
        answers["retrieval"] = retrieval(train, image, mechanism.parents)
    return answers


def of_world(world: SCM, device: torch.device) -> dict[str, Baseline]:
    """Return a world's own baselines, and the supervised ceiling that ships with it.

    Args:
        world: The world.
        device: Where the images lie that the baselines will be asked about.
    """
    ceiling = shipped_ceiling(world.world)
    if ceiling is None:
        return dict(world.baselines)
    return {**world.baselines, CEILING: ceiling.to(device)}


def identity(image: Tensor, before: Parents, after: Parents) -> Tensor:
    """Return the factual image, whatever the intervention."""
    return image


def by_noise(mechanism: Mechanism) -> Baseline:
    """Return the answer of a mechanism whose noise the image determines: `f(pa~, f^-1(x; pa))`."""

    def answer(image: Tensor, before: Parents, after: Parents) -> Tensor:
        return mechanism.predict(mechanism.abduct(image, before), after)

    return answer


def shuffled(mechanism: Mechanism, seed: Seed = 0) -> Baseline:
    """Return `f(pa~, u')`: the right mechanism and the right parents, with another row's noise.

    Args:
        mechanism: The bound mechanism of the image: the world's, or a model's own.
        seed: Of the noise, which is redrawn for every image.
    """
    generator = stream(base_seed(seed), "shuffled abduction", mechanism.observed.device)

    def answer(image: Tensor, before: Parents, after: Parents) -> Tensor:
        noise = mechanism.sample_noise(len(image), after, generator)
        return mechanism.predict(noise, after)

    return answer


def opposite(edit: Baseline, parents: Mapping[str, Variable]) -> Baseline:
    """Return another baseline's answer to the opposite change: thinner where it should be thicker.

    A level pa is moved to `pa - (pa~ - pa)`, a positive number to `pa^2 / pa~`, as far as the
    support goes; a point of a circle as far the other way round. Categories have no opposite, and
    stay.

    Args:
        edit: The baseline.
        parents: The image's parents.

    Example:
        >>> thicker = opposite(lambda x, before, after: after["t"], {"t": Continuous(lower=0)})
        >>> thicker(torch.zeros(1), {"t": torch.tensor([2.0])}, {"t": torch.tensor([4.0])})
        tensor([1.])
    """

    def answer(image: Tensor, before: Parents, after: Parents) -> Tensor:
        turned = {name: _mirror(kind, before[name], after[name]) for name, kind in parents.items()}
        return edit(image, before, turned)

    return answer


def retrieval(
    train: Values, image: str, parents: Mapping[str, Variable], nearest: int = 32
) -> Baseline:
    """Return the training image nearest to the factual one, among those with the wanted parents.

    Those are, of the rows that agree in most of the discrete parents, the ones whose numbers are
    nearest, in standard deviations of the training rows; on a circle, the shorter way round.

    Args:
        train: Training rows.
        image: The image.
        parents: Its parents; images among them are not compared.
        nearest: How many rows have the wanted parents; of these the image decides.

    Raises:
        ValueError: If the rows lack a column, or there are none.
    """
    compared = {name: kind for name, kind in parents.items() if not isinstance(kind, Image)}
    lacking = [name for name in (image, *compared) if name not in train]
    if lacking:
        raise ValueError(f"train: lacks {lacking}, which retrieval compares; it has {list(train)}")
    pictures = torch.as_tensor(train[image])
    if not len(pictures):
        raise ValueError("train: expected at least one row to retrieve from, got none")
    known = {name: torch.as_tensor(train[name]).to(k.dtype) for name, k in compared.items()}
    scale = {
        name: deviation(kind.difference(known[name], centre(kind, known[name])))
        for name, kind in compared.items()
        if not isinstance(kind, Discrete)
    }

    def look_up(images: Tensor, after: Parents) -> Tensor:
        differ, far = _parent_distances(compared, after, known, scale)
        far = far.masked_fill(differ > differ.amin(1, keepdim=True), torch.inf)
        far, rows = far.topk(min(nearest, len(pictures)), largest=False)
        unlike = (pictures[rows] - images.cpu()[:, None]).abs().flatten(2).mean(2)
        best = unlike.masked_fill(far.isinf(), torch.inf).argmin(1)
        return pictures[rows.gather(1, best[:, None]).squeeze(1)].to(images)

    def answer(image: Tensor, before: Parents, after: Parents) -> Tensor:
        parts = [slice(k, k + CHUNK_ROWS) for k in range(0, len(image), CHUNK_ROWS)]
        wanted = [{name: after[name][at] for name in compared} for at in parts]
        return torch.cat([look_up(image[at], a) for at, a in zip(parts, wanted, strict=True)])

    return answer


def _parent_distances(
    kinds: Mapping[str, Variable],
    wanted: Parents,
    known: Mapping[str, Tensor],
    scale: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Count the discrete parents that differ, and measure the others, `(n, m)` each.

    Args:
        kinds: The parents that are compared.
        wanted: Their values, `(n, *shape)` each.
        known: Their values in the training rows, `(m, *shape)` each.
        scale: The standard deviation of those that are not discrete.
    """
    sizes = len(next(iter(wanted.values()))), len(next(iter(known.values())))
    differ, far = torch.zeros(sizes), torch.zeros(sizes)
    for name, kind in kinds.items():
        left, right = wanted[name].cpu()[:, None], known[name][None]
        if isinstance(kind, Discrete):
            differ += left != right
        else:
            gap = kind.difference(left, right) / scale[name]
            far += gap.reshape(*sizes, -1).square().sum(-1)
    return differ, far


def as_model(world: SCM, image: str, baseline: Baseline) -> SCM:
    """Put a baseline in the place of a world's image mechanism: a model like any other.

    It knows the causes' true mechanisms, and no noise: `evaluate(as_model(...), rows, world)`.

    Args:
        world: The world.
        image: The image.
        baseline: The baseline.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.digits()
        >>> rows = world.sample(2, seed=0)
        >>> answer = as_model(world, "image", identity).counterfactual(rows, do={"thickness": 5.0})
        >>> torch.equal(answer["image"], rows["image"]), answer["thickness"]
        (True, tensor([5., 5.]))
    """
    model = world.do({image: Edit(baseline)})
    model.world = None
    return model


class Edit(Mechanism):
    """`x~ = g(x; pa, pa~)` as a mechanism: its noise is the factual image and its parents.

    Args:
        baseline: The function g.
    """

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "an edit of the factual image"

    def __init__(self, baseline: Baseline) -> None:
        super().__init__()
        self.baseline = baseline

    def build(self) -> None:
        """Build nothing: a baseline comes complete."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        """Refuse: there is no factual image to edit.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.name}: an edit needs a factual image; it cannot be sampled")

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor) or noise.keys() != {self.name, *self.parents}:
            raise ValueError(f"{self.name}: expected the noise that abduct gives")
        before = {name: noise[name] for name in self.parents}
        return self.baseline(noise[self.name], before, parents)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        before = {name: parents[name] for name in self.parents}
        return repeat_noise({self.name: value, **before}, particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Refuse: an edit has no density.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.name}: an edit has no density")


def _mirror(kind: Variable, before: Tensor, after: Tensor) -> Tensor:
    """Return the value as far from `before` as `after` is, on the other side."""
    match kind:
        case Continuous(circular=True):
            return kind.wrap(before - kind.difference(after, before))
        case Continuous(lower=0, dim=None, upper=upper):
            return (before.square() / after.clamp_min(1e-6)).clamp(0, upper)
        case Continuous(lower=lower, upper=upper):
            return (2 * before - after).clamp(lower, upper)
        case Ordinal(classes=classes):
            return (2 * before - after).clamp(0, classes - 1)
        case _:
            return before
