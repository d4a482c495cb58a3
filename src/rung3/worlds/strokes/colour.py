"""Colour digits: digits, hue, thickness and saturation that the data confound.

| scenario | what the data have | s |
|---|---|---|
| `digit-hue` | `hue ~ N(digit/10 + 0.05, s)`, on the circle [0, 1) | 0.05 |
| `digit-thickness` | `thickness ~ N(1.5 + 0.45 digit, s)` px, outliers in [1.5, 6] | 0.225 |
| `thickness-hue` | `thickness ~ U(1.5, 6)`, `hue ~ N((thickness - 1.5)/4.5, s)` | 0.05 |
| `digit-hue-saturation` | and `saturation ~ N(0.3 + 0.7 hue, s)`, outliers in [0.3, 1] | 0.05 |

With probability p a value is an outlier instead, uniform on its range, whatever its parents (see
`rung3.mechanisms.Contaminated`); saturation is clipped to [0, 1]. With p = 0 most combinations
never occur: the data lack full support. Unconfounded, all causes of the image are independent and
uniform on these ranges. The image is `paint(shape; hue, saturation)`, see
`rung3.worlds.strokes.painting`.

The scenarios are those of Monteiro et al. 2023 (arXiv 2303.01274). Their s and p of the last three
are not stated there: s is chosen as in the first, half of the distance between neighbouring digits
(0.225 px), or 0.05; p = 0.05.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import torch

from rung3.data.readers.mnist import Split, raw_mnist
from rung3.data.variables import Categorical, Continuous, Image, Variable
from rung3.mechanisms import Contaminated, Equation, GumbelMax, Mechanism
from rung3.scm.scm import SCM
from rung3.worlds.strokes.painting import DrawnColour, PaintedMNIST, Painting, baselines, measures
from rung3.worlds.strokes.scenarios import CENTRES, RANGES, Scenario

__all__ = ["colour"]

VARIABLES: dict[str, Variable] = {
    "digit": Categorical(10),
    "thickness": Continuous(unit="px", lower=0),
    "hue": Continuous(unit="turns", lower=0, upper=1, circular=True),
    "saturation": Continuous(lower=0, upper=1),
    "image": Image(3, 32, 32),
}


def colour(
    scenario: Scenario,
    *,
    outliers: float = 0.05,
    confounded: bool = True,
    root: str | Path | None = None,
    split: Split = "train",
) -> SCM:
    """Build a world of colour digits, RGB images of 32 x 32; every counterfactual is exact.

    Args:
        scenario: Which causes the image has: `"digit-hue"`, `"digit-thickness"`, `"thickness-hue"`
            or `"digit-hue-saturation"`.
        outliers: Probability p of a confounded value to be an outlier; 0 for no full support.
        confounded: Whether the causes depend on each other; if not, `outliers` has no effect.
        root: Folder of the MNIST IDX files, to paint those digits; drawn ones, if not given. What
            an MNIST digit would have been as another is not known, and refused.
        split: Which of the MNIST digits.

    Raises:
        ValueError: If there is no such scenario, p is not in [0, 1), or a file is missing or
            altered.

    Example:
        >>> world = colour("digit-hue")
        >>> rows = world.sample(4, seed=0)
        >>> green = world.counterfactual(rows, do={"hue": 1 / 3})
        >>> green["image"].shape, torch.equal(green["image"].amax(1), rows["image"].amax(1))
        (torch.Size([4, 3, 32, 32]), True)
    """
    if scenario not in get_args(Scenario):
        raise ValueError(f"scenario: expected one of {get_args(Scenario)}, got {scenario!r}")
    if not 0 <= outliers < 1:
        raise ValueError(f"outliers: expected a probability of at least 0 and below 1: {outliers}")
    labels = torch.arange(10) if root is None else raw_mnist(root, split)[1].long()
    causes = scenario.split("-")
    centres = CENTRES[scenario] if confounded else {}
    drawing: Painting = DrawnColour() if root is None else PaintedMNIST(str(root), split)
    mechanisms: dict[str, Mechanism] = {"image": drawing}
    for name in causes:
        mechanisms[name] = GumbelMax() if name == "digit" else _uniform(name)
    for name, (_, centre, scale) in centres.items():
        mechanisms[name] = Contaminated(centre, scale, outliers, RANGES[name])
    edges = [f"{parent} -> {name}" for name, (parent, *_) in centres.items()]
    support = f"outliers={outliers:g}" if confounded else "unconfounded"
    model = SCM(
        "; ".join([*edges, f"{{{' '.join(causes)}}} -> image"]),
        {name: VARIABLES[name] for name in [*causes, "image"]},
        mechanisms,
        world=f"colour {scenario}, {support}" + ("" if root is None else ", MNIST"),
    )
    if "digit" in causes:
        model.mechanisms["digit"].calibrate(labels, {})
    model.measures = measures(tuple(causes))
    model.baselines = baselines(tuple(causes))
    return model.requires_grad_(False).eval()


def _uniform(name: str) -> Equation:
    """Return the mechanism of a cause that is uniform on its range."""
    low, high = RANGES[name]
    text, inverse = f"{low} + {high - low}*u", f"({name} - {low})/{high - low}"
    return Equation(text, noise="Uniform(0, 1)", inverse=inverse)
