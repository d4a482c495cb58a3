"""The brain world: MR images whose anatomy is a deformed atlas, and every counterfactual known.

    sequence ~ Bernoulli(1/2)        T1 or T2-FLAIR
    sex ~ Bernoulli(1/2)             female or male
    a := 44 + 29 sigmoid(0.9 u + 0.2)                                       (age, years)
    b := 1100 - 3.7 (a - 60) - 108 [female] + 85 u                          (brain volume, ml)
    log v := log 24 + 0.035 (a - 60) + 1.3 log(b / 1100) + 0.35 u           (ventricle volume, ml)
    image := scan(atlas, deformed to b and v; sequence, sex; u)

Graph and ranges are those of the lecture's Figure 32; the laws of b and v pass through the answers
that the figure prints for one man, so they are a design, and no estimate of anything.

The anatomy is three-dimensional. A point p of the image shows the atlas at

    x = g_t^-1(h(p / s)),

with h a volume-preserving deformation (the individual's, and a small fixed one of the sex, see
`rung3.worlds.medical.waves`), and the growth of ventricles t and the scale s solved so that v and b
are met together (`rung3.worlds.medical.growth`). b is the volume of grey and white matter. `do(v)`
leaves b as it is: growing ventricles crush the tissue around them, so the head grows a little, too
(by 0.4 % in each direction from 24 to 34 ml).

**An image of two dimensions shows one slice, while v and b are volumes of the whole head**: the
axial slice through the lateral ventricles. Its areas follow the volumes, and tell them only up to
the individual's anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from rung3.data.rows import Noise
from rung3.data.variables import Binary, Categorical, Continuous, Image, Variable
from rung3.mechanisms import Equation, GumbelMax, InverseCDF
from rung3.mechanisms.base import Parents
from rung3.scm.scm import SCM
from rung3.worlds.medical.atlas import CENTRE, TISSUES, Source, atlas, has_template
from rung3.worlds.medical.growth import growth, sample
from rung3.worlds.medical.scanner import BIAS, SITES, at_site, bias_field, pixel_noise, rician
from rung3.worlds.medical.volumetry import Volumetry, measured
from rung3.worlds.medical.waves import COEFFICIENTS, deform
from rung3.worlds.strokes.rendering import Rendering

__all__ = ["Head", "brain"]

FIELD_MM = 192.0
"""Side of the field of view: 1 mm a pixel at 192 pixels."""

VOLUME_CENTRE = (CENTRE[0], CENTRE[1], 4.0)
"""Middle of a volume's field of view, in mm."""

INTENSITIES = torch.tensor([[0.14, 0.50, 0.80, 0.20], [0.10, 0.70, 0.50, 0.14]])
"""Grey levels of the tissues (ventricles, grey, white, fluid) in T1 and in T2-FLAIR."""

PARTS: dict[str, tuple[int, ...]] = {
    "shape": (COEFFICIENTS,),
    "rotation": (3,),
    "position": (3,),
    "bias": (len(BIAS),),
}
"""Standard normal parts of the noise, and their shapes; `seed` is that of the pixels' noise."""

ROTATION = (0.02, 0.02, 0.05)
"""Standard deviation of the rotation about x, y and z, in radians: heads lie almost straight."""

POSITION_MM = 1.5
"""Standard deviation of the head's position along an axis."""

SEX = 0.2
"""Size of the sexes' deformation, in standard deviations of a coefficient."""

TYPICAL_ML = 1100.0
"""Volume of brain on which measurements are calibrated."""

TABULATED = 40
"""Ratios of ventricles to brain on which measurements are calibrated."""

CHUNK_POINTS = 1 << 16
"""Points that are followed at once: few enough that they stay in the processor's cache."""

SIZES = {False: (16, 512), True: (16, 160)}
"""Least and greatest number of pixels a side, of slices and of volumes."""


def brain(
    size: int = 64, *, volume: bool = False, site: bool = False, template: bool | None = None
) -> SCM:
    """Build the brain world.

    Args:
        size: Pixels, or voxels, a side of a field of 192 mm. The published images have 192.
        volume: Whether images are volumes, `(n, 1, size, size, size)` from bottom to top, and not
            slices, `(n, 1, size, size)`.
        site: Whether there is another cause, the site of the scan, one of three.
        template: Whether the anatomy is the MNI152 template, which the extra `rung3[medical]`
            brings; `False` draws a phantom; `None` takes what is there.

    Raises:
        ValueError: If the size is out of range, or the template is asked for and not installed.

    Example:
        >>> world = brain(32, template=False)
        >>> rows = world.sample(4, seed=0)
        >>> wide = world.counterfactual(rows, do={"ventricle": 90.0})
        >>> torch.equal(wide["brain"], rows["brain"]), wide["image"].shape
        (True, torch.Size([4, 1, 32, 32]))
    """
    least, most = SIZES[volume]
    if isinstance(size, bool) or not isinstance(size, int) or not least <= size <= most:
        raise ValueError(f"size={size!r}: expected a whole number from {least} to {most}")
    source: Source = "template" if (has_template() if template is None else template) else "phantom"
    head = Head(size, source, volume)
    causes = "sequence sex brain ventricle" + " site" * site
    model = SCM(
        f"{{age sex}} -> brain; {{age brain}} -> ventricle; {{{causes}}} -> image",
        VARIABLES | ({"site": _SITE} if site else {}) | {"image": _image(size, volume)},
        {
            "sequence": InverseCDF(table=[0.5, 0.5]),
            "sex": InverseCDF(table=[0.5, 0.5]),
            "age": Equation(
                "44 + 29*sigmoid(0.9*u + 0.2)",
                inverse="(log((age - 44)/(73 - age)) - 0.2)/0.9",
            ),
            "brain": Equation("992 - 3.7*(age - 60) + 108*sex + 85*u"),
            "ventricle": Equation(
                "24*exp(0.035*(age - 60) + 0.35*u)*(brain/1100)**1.3",
                inverse="(log(ventricle/24) - 0.035*(age - 60) - 1.3*log(brain/1100))/0.35",
            ),
            "image": head,
        }
        | ({"site": GumbelMax(table=[1 / len(SITES)] * len(SITES))} if site else {}),
        world=f"brain {source}" + ", volumes" * volume,
    )
    model.measures = _measures(model)
    model.baselines = {"rescaling": rescaled, "re-contrast": recontrasted}
    return model.requires_grad_(False).eval()


VARIABLES: dict[str, Variable] = {
    "sequence": Binary(labels=("T1", "T2-FLAIR")),
    "sex": Binary(labels=("female", "male")),
    "age": Continuous(unit="years", lower=44, upper=73),
    "brain": Continuous(unit="ml", lower=0),
    "ventricle": Continuous(unit="ml", lower=0),
}


def _image(size: int, volume: bool) -> Image:
    return Image(1, size, size, size) if volume else Image(1, size, size)


_SITE = Categorical(labels=tuple(site.name for site in SITES))


class Head(Rendering):
    """`image := scan(sequence, sex, brain, ventricle [, site]; u)`.

    Args:
        size: Pixels a side.
        source: The atlas.
        volume: Whether it is a volume, from bottom to top, and not a slice.
    """

    def __init__(self, size: int, source: Source, volume: bool = False) -> None:
        super().__init__()
        self.size = size
        self.source = source
        self.volume = volume

    def build(self) -> None:
        self.check_parents()
        spacing = FIELD_MM / self.size
        self.atlas = atlas(self.source, spacing)
        self.growth = growth(self.source, spacing)

    def check_parents(self) -> None:
        expected = {"sequence", "sex", "brain", "ventricle"}
        if set(self.parents) - {"site"} != expected:
            raise ValueError(
                f"{self.name}: its parents must be {', '.join(sorted(expected))}, and site if "
                f"wanted; got {list(self.parents)}"
            )

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = generator.device if generator is not None else None
        noise = {
            name: torch.randn(n, *shape, generator=generator, device=device)
            for name, shape in PARTS.items()
        }
        seeds = torch.randint(2**62, (n,), generator=generator, device=device)
        return {**noise, "seed": seeds}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        tissues = self.anatomy(noise, parents)
        assert isinstance(noise, dict)
        levels = INTENSITIES.to(tissues.device)[parents["sequence"].long()]
        contrast = torch.einsum("nt...,nt->n...", tissues, levels)[:, None]
        shape = tuple(contrast.shape[2:])
        contrast, level = at_site(contrast, parents.get("site"))
        biased = contrast * bias_field(noise["bias"], shape)
        return rician(biased, pixel_noise(noise["seed"], shape), level)

    def anatomy(self, noise: Noise, parents: Parents) -> Float[Tensor, "n 4 ..."]:
        """Return what fraction of each pixel is which tissue, in the order of `TISSUES`.

        Args:
            noise: Exogenous noise of the image.
            parents: `sex`, `brain` and `ventricle`, `(n,)` each.

        Raises:
            ValueError: If the noise is of another kind, or ventricles and brain are of volumes that
                no head of this family has together.
        """
        if isinstance(noise, Tensor) or noise.keys() != {*PARTS, "seed"}:
            raise ValueError(f"{self.name}: expected noise with the parts {[*PARTS, 'seed']}")
        level, scale = self._solve(parents)
        points = self._points().to(level.device)
        shape, n = points.shape[1:], len(level)
        flat = points.flatten(1)
        tissues = flat.new_empty(n, len(TISSUES), flat.shape[1])
        rows = max(1, CHUNK_POINTS // flat.shape[1])
        for start in range(0, n, rows):
            at = slice(start, start + rows)
            parts = {name: noise[name][at] for name in PARTS}
            for first in range(0, flat.shape[1], CHUNK_POINTS):
                part = slice(first, first + CHUNK_POINTS)
                traced = self._trace(flat[:, part], parts, parents["sex"][at], level[at], scale[at])
                tissues[at, :, part] = traced.transpose(0, 1)
        return tissues.view(n, len(TISSUES), *shape)

    def _solve(self, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return growth and scale, or refuse volumes that cannot be met."""
        ventricle, volume = parents["ventricle"], parents["brain"]
        least, most = self.growth.range
        ratio = ventricle / volume
        wrong = ~((ratio >= least) & (ratio <= most))
        if wrong.any():
            row = int(wrong.nonzero()[0])
            brain = float(volume[row])
            raise ValueError(
                f"{self.name}: no head has ventricles of {float(ventricle[row]):g} ml in a brain "
                f"of {brain:g} ml; expected {least * brain:.3g} to {most * brain:.3g} ml"
            )
        return self.growth.solve(ventricle, volume)

    def _points(self) -> Float[Tensor, "3 ..."]:
        """Return the pixels' centres along x, y and z, in mm from the middle `CENTRE`."""
        line = (torch.arange(self.size) + 0.5) * FIELD_MM / self.size - FIELD_MM / 2
        if not self.volume:
            y, x = torch.meshgrid(-line, line, indexing="ij")
            return torch.stack([x, y, torch.zeros_like(x)])
        up = line + VOLUME_CENTRE[2] - CENTRE[2]
        z, y, x = torch.meshgrid(up, -line, line, indexing="ij")
        return torch.stack([x, y, z])

    def _trace(
        self, points: Tensor, noise: Mapping[str, Tensor], sex: Tensor, level: Tensor, scale: Tensor
    ) -> Float[Tensor, "4 n p"]:
        """Follow points back into the atlas, and read its maps there."""
        turn = _rotations(noise["rotation"])
        moved = points[None] - POSITION_MM * noise["position"][:, :, None]
        moved = (turn @ moved / scale[:, None, None]).transpose(0, 1)
        coefficients = noise["shape"] + SEX * (2 * sex[:, None] - 1) * _sexes().to(moved)
        middle = torch.tensor(CENTRE, device=moved.device)[:, None, None]
        moved = deform(moved.contiguous(), coefficients) + middle
        moved = moved + self.growth.displacement(moved, level)
        low = torch.tensor(self.atlas.low, device=moved.device)[:, None, None]
        return sample(self.atlas.maps, (moved - low) / self.atlas.spacing)


@lru_cache(maxsize=8)
def _volumetry(size: int, source: Source, volume: bool) -> Volumetry:
    """Calibrate the measurements on images of the atlas itself."""
    parents = {name: VARIABLES[name] for name in ("sequence", "sex", "brain", "ventricle")}
    head = Head(size, source, volume).bind("image", _image(size, volume), parents)
    least, most = head.growth.range

    def render(ventricle: Tensor, brain: Tensor, sequence: int) -> Tensor:
        n = len(brain)
        noise: dict[str, Tensor] = {name: torch.zeros(n, *k) for name, k in PARTS.items()}
        values = {"sex": torch.full((n,), 0.5), "brain": brain, "ventricle": ventricle}
        tissues = head.anatomy(noise | {"seed": torch.zeros(n, dtype=torch.int64)}, values)
        image = torch.einsum("nt...,t->n...", tissues, INTENSITIES[sequence])[:, None]
        contrast, level = at_site(image, None)
        return rician(contrast, pixel_noise(torch.arange(n), tuple(image.shape[2:])), level)

    ratios = torch.logspace(math.log10(1.01 * least), math.log10(0.99 * most), TABULATED)
    return Volumetry.calibrated(ratios, TYPICAL_ML, render)


def _measures(model: SCM) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return measurements of the volumes that are calibrated when they are first used."""
    head = model.mechanisms["image"]
    assert isinstance(head, Head)

    def measure(name: Literal["brain", "ventricle"], images: Tensor) -> Tensor:
        return _volumetry(head.size, head.source, head.volume).measure(name, images)

    # The contrast of a site makes fluid look like more, or less, of it.
    ventricle = {} if "site" in head.parents else {"ventricle": partial(measure, "ventricle")}
    return ventricle | {
        "brain": partial(measure, "brain"),
        "sequence": lambda images: torch.from_numpy(measured(images).sequence).to(images),
    }


def rescaled(image: Tensor, before: Parents, after: Parents) -> Tensor:
    """Enlarge the factual image about its middle, as the brain's volume is: a baseline."""
    scale = (after["brain"] / before["brain"]).expand(len(image)) ** (1 / 3)
    k = image.ndim - 2
    turn = torch.eye(k, k + 1, device=image.device) / scale[:, None, None].to(image)
    grid = F.affine_grid(turn, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False).clamp(0, 1)


def recontrasted(image: Tensor, before: Parents, after: Parents) -> Tensor:
    """Exchange the tissues' grey levels where the sequence changes, and rescale: a baseline."""
    old, new = (parents["sequence"].expand(len(image)) for parents in (before, after))
    shown = image.clone()
    for sequence in (0, 1):
        rows = (old == sequence) & (new != sequence)
        # Ground, ventricles, grey and white matter, in the order of their levels.
        known = torch.cat([torch.zeros(2, 1), INTENSITIES[:, :3], torch.ones(2, 1)], 1)
        order = known[sequence].argsort()
        ends = known[sequence][order].to(image), known[1 - sequence][order].to(image)
        shown[rows] = _interpolated(image[rows], *ends)
    return rescaled(shown, before, after)


def _interpolated(value: Tensor, at: Tensor, levels: Tensor) -> Tensor:
    """Return the piecewise linear function with these levels at rising places."""
    right = torch.searchsorted(at, value.contiguous()).clamp(1, len(at) - 1)
    share = (value - at[right - 1]) / (at[right] - at[right - 1])
    return torch.lerp(levels[right - 1], levels[right], share)


def _sexes() -> Float[Tensor, " c"]:
    """Return the fixed deformation that tells the sexes apart: signs of all coefficients."""
    return torch.randn(COEFFICIENTS, generator=torch.Generator().manual_seed(0)).sign()


def _rotations(noise: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """Return small rotations about the three axes."""
    x, y, z = (noise * torch.tensor(ROTATION, device=noise.device)).unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    turn: Tensor = torch.linalg.matrix_exp(skew)
    return turn
