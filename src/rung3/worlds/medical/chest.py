"""The chest world: radiographs drawn from parametric anatomy, and every counterfactual known.

    age := 18 + 72 sigmoid(0.9 u + 0.3)                                     (years)
    sex ~ Bernoulli(1/2),    race ~ uniform on three groups
    disease := 1{u < sigmoid(-1.67 + 0.76 (age - 60)/10)}                   (pleural effusion)
    image := radiograph(age, sex, race, disease; u)

Graph as in the lecture's Figure 33; the dependence of the disease on age is of the shape that
published labels of chest radiographs have. Age widens heart and aorta and thins bone; sex sets the
width of the thorax and the shadow of the breasts; disease is fluid, whose amount and side are
exogenous.

With `referral` r the site depends on the disease, which makes it a shortcut to the diagnosis: with
probability r a patient without finding is seen at site A and one with an effusion at site C, and
else either is seen at any of the three.

**`race` is a declared arbitrary change of intensity**: three smooth patterns, named A, B and C. It
claims nothing about people. It stands for any attribute that a model may read off an image, and
that should stay as it is when another one is set.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.variables import Binary, Categorical, Continuous, Image, Variable
from rung3.mechanisms import Equation, GumbelMax, InverseCDF
from rung3.mechanisms.base import Parents
from rung3.scm.scm import SCM
from rung3.worlds.medical.radiometry import has_fluid
from rung3.worlds.medical.scanner import SITES, at_site, pixel_noise
from rung3.worlds.medical.thorax import GROUPS, SHAPE, TEXTURE, Chest, draw, shade
from rung3.worlds.strokes.rendering import Rendering

__all__ = ["Radiograph", "chest"]

REGIONS = ("lungs", "heart", "fluid")
"""Names of the masks, in their order."""

HEIGHTS = (0.22, 0.62)
"""Least and greatest height of the fluid, as a share of the lung."""

SIDES = (0.40, 0.80)
"""Levels of uniform noise: below the first the fluid is at the right, below the second at the left,
above it on both sides."""

EXPOSURE = 0.05
"""Standard deviation of the logarithm of the exposure."""

CHUNK_IMAGES = 16
"""Images drawn at once: few enough that they stay in the processor's cache."""

PARTS: dict[str, tuple[int, ...]] = {"shape": (len(SHAPE),), "texture": (TEXTURE,), "exposure": ()}
"""Standard normal parts of the noise, and their shapes."""

SIZES = (16, 1024)
"""Least and greatest number of pixels a side."""

VARIABLES: dict[str, Variable] = {
    "age": Continuous(unit="years", lower=18, upper=90),
    "sex": Binary(labels=("female", "male")),
    "race": Categorical(labels=GROUPS),
    "disease": Binary(labels=("no finding", "pleural effusion")),
}


def chest(size: int = 64, *, site: bool = False, referral: float = 0.0) -> SCM:
    """Build the chest world; `race` is an arbitrary change of intensity, and claims nothing.

    Args:
        size: Pixels a side; the published images have 192.
        site: Whether there is another cause, the site of the radiograph, one of three.
        referral: Share of patients whose disease decides the site; above 0 only with a site.

    Raises:
        ValueError: If the size or the share is out of range, or there is no site to refer to.

    Example:
        >>> world = chest(32)
        >>> rows = world.sample(4, seed=0)
        >>> ill = world.counterfactual(rows, do={"disease": "pleural effusion"})
        >>> bool((ill["image"].mean((1, 2, 3)) >= rows["image"].mean((1, 2, 3))).all())
        True
    """
    if isinstance(size, bool) or not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size={size!r}: expected a whole number from {SIZES[0]} to {SIZES[1]}")
    if not 0 <= referral <= 1 or (referral and not site):
        raise ValueError(
            f"referral={referral!r}: expected a share from 0 to 1, above 0 with site=True"
        )
    site_variable = {"site": Categorical(labels=tuple(kind.name for kind in SITES))} if site else {}
    referred = "; disease -> site" if referral else ""
    model = SCM(
        f"age -> disease; {{age sex race disease{' site' * site}}} -> image{referred}",
        VARIABLES | site_variable | {"image": Image(1, size, size)},
        {
            "age": Equation(
                "18 + 72*sigmoid(0.9*u + 0.3)",
                inverse="(log((age - 18)/(90 - age)) - 0.3)/0.9",
            ),
            "sex": InverseCDF(table=[0.5, 0.5]),
            "race": GumbelMax(table=[1 / len(GROUPS)] * len(GROUPS)),
            "disease": Equation("u < sigmoid(0.076*(age - 60) - 1.67)", noise="Uniform(0, 1)"),
            "image": Radiograph(size),
        }
        | ({"site": GumbelMax(table=_sites(referral))} if site else {}),
        world="chest" + (f", referral={referral:g}" if referral else ""),
    )
    model.measures = {"disease": has_fluid}
    return model.requires_grad_(False).eval()


def _sites(referral: float) -> list[Any]:
    """Return the probabilities of the sites, by disease if it decides them for some."""
    anywhere = [(1 - referral) / len(SITES)] * len(SITES)
    if not referral:
        return anywhere
    first, last = anywhere.copy(), anywhere.copy()
    first[0] += referral
    last[-1] += referral
    return [first, last]


class Radiograph(Rendering):
    """`image := radiograph(age, sex, race, disease [, site]; u)`.

    Args:
        size: Pixels a side.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def build(self) -> None:
        self.check_parents()

    def check_parents(self) -> None:
        if set(self.parents) - {"site"} != set(VARIABLES):
            raise ValueError(
                f"{self.name}: its parents must be {', '.join(VARIABLES)}, and site if wanted; "
                f"got {list(self.parents)}"
            )

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = generator.device if generator is not None else None
        noise = {
            name: torch.randn(n, *shape, generator=generator, device=device)
            for name, shape in PARTS.items()
        }
        for name in ("severity", "side"):
            noise[name] = torch.rand(n, generator=generator, device=device)
        noise["seed"] = torch.randint(2**62, (n,), generator=generator, device=device)
        return noise

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        noise = self._checked(noise)
        n = len(noise["seed"])
        image = noise["shape"].new_empty(n, 1, self.size, self.size)
        for start in range(0, n, CHUNK_IMAGES):
            at = slice(start, start + CHUNK_IMAGES)
            u = {name: part[at] for name, part in noise.items()}
            pa = {name: part.expand(n)[at] for name, part in parents.items()}
            age, male = pa["age"].to(image), pa["sex"].to(image)
            drawn = self._draw(u, pa)
            bright = shade(drawn, u["shape"], u["texture"], age, male, pa["race"])
            bright = bright ** (EXPOSURE * u["exposure"]).exp()[:, None, None, None]
            bright, level = at_site(bright, pa.get("site"))
            grain = pixel_noise(u["seed"], (self.size, self.size))[:, :1]
            noisy = bright + level[:, None, None, None] * grain
            image[at] = noisy.clamp(0, 1).mul(255).round().div(255)
        return image

    def anatomy(self, noise: Noise, parents: Parents) -> Float[Tensor, "n 3 h w"]:
        """Return which share of each pixel shows what, in the order of `REGIONS`.

        Args:
            noise: Exogenous noise of the image.
            parents: `age`, `sex` and `disease`, `(n,)` each.

        Raises:
            ValueError: If the noise is of another kind.
        """
        drawn = self._draw(self._checked(noise), parents)
        return torch.stack([drawn.lungs, drawn.heart, drawn.fluid], 1)

    def _draw(self, noise: dict[str, Tensor], parents: Parents) -> Chest:
        low, high = HEIGHTS
        height = (low + (high - low) * noise["severity"]) * parents["disease"]
        right = (noise["side"] < SIDES[0]) | (noise["side"] >= SIDES[1])
        left = noise["side"] >= SIDES[0]
        fluid = torch.stack([height * right, height * left], 1)
        shape = noise["shape"]
        return draw(self.size, shape, parents["age"].to(shape), parents["sex"].to(shape), fluid)

    def _checked(self, noise: Noise) -> dict[str, Tensor]:
        parts = {*PARTS, "severity", "side", "seed"}
        if isinstance(noise, Tensor) or noise.keys() != parts:
            raise ValueError(f"{self.name}: expected noise with the parts {sorted(parts)}")
        return noise
