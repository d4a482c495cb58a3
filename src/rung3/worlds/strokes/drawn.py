"""Digits drawn as strokes with random handwriting: a world whose counterfactuals are known.

A class is a template of control points. Handwriting moves them, and then the whole digit:

    p_k = A (template_k + 0.035 u_k) + shift,      A = rotation . shear . scale

Catmull-Rom curves through the control points are cut into segments. With `d(x)` the distance of a
pixel centre to the nearest of them, `t` the thickness in pixels and `i` the intensity,

    c(x) = clip(t/2 - d(x) + 1/2, 0, 1)                             (coverage, anti-aliased)
    image(x) = round(min(i c(x) / median {c : c >= max c / 2}, 255)) / 255

The exogenous noise is `u`: standard normal jitter of each control point, rotation, slant, size,
aspect and position. None of it depends on the parents, so every counterfactual is known exactly.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.mechanisms.base import Parents
from rung3.scm.scm import SCM
from rung3.worlds.strokes.rendering import StrokeRendering, stroke_world

__all__ = ["Handwriting", "digits", "draw", "draw_noise"]

Point = tuple[float, float]
Stroke = tuple[int, ...]

SIZE = 32
"""Pixels a side of an image."""

SEGMENTS = 16
"""Straight segments of a digit: at 32 pixels its curves look smooth."""

POINTS = 10
"""Control points of a digit, at most."""

CHUNK_IMAGES = 128
"""Images drawn at once: few enough that their distances stay in the processor's cache."""

# (control points, strokes): x to the right and y down, in a box of height 1. A stroke is a curve
# through the points it names; two strokes that share an end meet there in a corner, and a stroke
# that ends where it began is closed.
# fmt: off
TEMPLATES: tuple[tuple[tuple[Point, ...], tuple[Stroke, ...]], ...] = (
    (((0.52, 0.00), (0.22, 0.13), (0.08, 0.50), (0.20, 0.88),
      (0.48, 1.00), (0.80, 0.84), (0.92, 0.48), (0.80, 0.12)),
     ((0, 1, 2, 3, 4, 5, 6, 7, 0),)),
    (((0.55, 0.00), (0.52, 0.33), (0.49, 0.67), (0.46, 1.00)),
     ((0, 1, 2, 3),)),
    (((0.12, 0.22), (0.42, 0.00), (0.78, 0.18), (0.62, 0.56),
      (0.10, 0.95), (0.50, 0.92), (0.92, 0.97)),
     ((0, 1, 2, 3, 4), (4, 5, 6))),
    (((0.14, 0.10), (0.50, 0.00), (0.78, 0.20), (0.40, 0.46),
      (0.84, 0.68), (0.58, 0.98), (0.10, 0.90)),
     ((0, 1, 2, 3), (3, 4, 5, 6))),
    (((0.22, 0.02), (0.10, 0.54), (0.50, 0.55), (0.95, 0.50),
      (0.76, 0.00), (0.70, 0.50), (0.66, 1.00)),
     ((0, 1), (1, 2, 3), (4, 5, 6))),
    (((0.88, 0.00), (0.30, 0.02), (0.20, 0.44), (0.58, 0.38),
      (0.86, 0.66), (0.60, 0.97), (0.10, 0.92)),
     ((0, 1), (1, 2), (2, 3, 4, 5, 6))),
    (((0.72, 0.00), (0.34, 0.24), (0.12, 0.68), (0.42, 1.00),
      (0.80, 0.78), (0.54, 0.52), (0.18, 0.76)),
     ((0, 1, 2, 3, 4, 5, 6),)),
    (((0.08, 0.06), (0.45, 0.05), (0.88, 0.02), (0.62, 0.45), (0.42, 1.00)),
     ((0, 1, 2), (2, 3, 4))),
    (((0.80, 0.16), (0.48, 0.00), (0.20, 0.20), (0.48, 0.46),
      (0.84, 0.76), (0.48, 1.00), (0.14, 0.76), (0.48, 0.48)),
     ((0, 1, 2, 3, 4, 5, 6, 7, 0),)),
    (((0.80, 0.18), (0.46, 0.02), (0.16, 0.28), (0.42, 0.50),
      (0.78, 0.24), (0.74, 0.60), (0.58, 1.00)),
     ((0, 1, 2, 3, 4, 5, 6),)),
)
# fmt: on

NOISE: dict[str, tuple[int, ...]] = {
    "points": (POINTS, 2),
    "rotation": (),
    "slant": (),
    "size": (),
    "aspect": (),
    "position": (2,),
}
"""Parts of a handwriting, and their shapes."""


def digits() -> SCM:
    """Build a world of drawn digits, with thickness and intensity as in Morpho-MNIST.

    Every counterfactual is exact, under `do(digit)` too: the same handwriting draws another digit.

    Example:
        >>> world = digits()
        >>> rows = world.sample(4, seed=0)
        >>> thick = world.counterfactual(rows, do={"thickness": 6.0})
        >>> thick["image"].shape, bool((thick["intensity"] > rows["intensity"]).all())
        (torch.Size([4, 1, 32, 32]), True)
    """
    return stroke_world(Handwriting(), torch.arange(10), world="digits")


class Handwriting(StrokeRendering):
    """`image := draw(digit, thickness, intensity; u)`, `u` a handwriting, all standard normal."""

    def __init__(self) -> None:
        super().__init__()

    def build(self) -> None:
        self.check_parents()

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return draw_noise(n, generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor) or noise.keys() != NOISE.keys():
            raise ValueError(f"{self.name}: expected noise with the parts {list(NOISE)}")
        return draw(noise, parents["digit"], parents["thickness"], parents["intensity"])


@torch.no_grad()
def draw(
    noise: dict[str, Tensor],
    digit: Int[Tensor, " n"],
    thickness: Float[Tensor, " n"],
    intensity: Float[Tensor, " n"],
) -> Float[Tensor, "n 1 32 32"]:
    """Draw digits.

    Args:
        noise: Handwriting: `points` `(n, 10, 2)`, `rotation`, `slant`, `size`, `aspect` `(n,)` and
            `position` `(n, 2)`, all standard normal.
        digit: Class, 0 to 9, `(n,)`.
        thickness: Width of the stroke in pixels, `(n,)`.
        intensity: Grey level of the stroke, 0 to 255, `(n,)`.

    Returns:
        Images `(n, 1, 32, 32)` in [0, 1], multiples of 1/255, on black.

    Example:
        >>> noise = draw_noise(2, torch.Generator().manual_seed(0))
        >>> three = torch.tensor([3, 3])
        >>> images = draw(noise, three, torch.tensor([2.0, 4.0]), torch.tensor([200.0, 255.0]))
        >>> images.shape, images.amax((1, 2, 3)) > 0.7
        (torch.Size([2, 1, 32, 32]), tensor([True, True]))
    """
    ends = _segments(noise, digit)
    images = ends.new_empty(len(digit), SIZE * SIZE)
    for k in range(0, len(digit), CHUNK_IMAGES):
        at = slice(k, k + CHUNK_IMAGES)
        images[at] = _shade(segment_distance(ends[at]), thickness[at], intensity[at])
    return images.view(-1, 1, SIZE, SIZE)


def draw_noise(n: int, generator: Generator | None = None) -> dict[str, Tensor]:
    """Draw `n` handwritings: standard normal, of the shapes that `draw` states."""
    device = generator.device if generator is not None else None
    return {
        name: torch.randn(n, *shape, generator=generator, device=device)
        for name, shape in NOISE.items()
    }


def _segments(noise: dict[str, Tensor], digit: Int[Tensor, " n"]) -> Float[Tensor, "n 16 2 2"]:
    """Return end points `(n, segment, end, xy)` of the strokes, in pixels from the centre."""
    templates, curves = (t.to(noise["points"]) for t in _templates())
    points = templates[digit] + 0.035 * noise["points"]
    height = 19.0 * torch.exp(0.08 * noise["size"])
    width = 14.0 * torch.exp(0.08 * noise["size"] + 0.12 * noise["aspect"])
    x, y = width[:, None] * points[..., 0], height[:, None] * points[..., 1]
    x = x - (0.12 + 0.18 * noise["slant"])[:, None] * y
    angle = (0.08 * noise["rotation"])[:, None]
    turned = torch.stack(
        [x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=-1
    )
    ends = (curves[digit] @ turned).view(-1, SEGMENTS, 2, 2)
    return ends + (0.8 * noise["position"])[:, None, None]


def segment_distance(ends: Float[Tensor, "n s 2 2"]) -> Float[Tensor, "n 1024"]:
    """Return the distance of every pixel's centre to the nearest segment, in pixels.

    In a segment's own axes, with its middle the origin and L its length, a point (a, b) along and
    across it has squared distance `max(|a| - L/2, 0)^2 + b^2`.
    """
    start, end = ends.unbind(2)
    length = (end - start).norm(dim=-1).clamp_min(1e-6)
    along = (end - start) / length[..., None]
    across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
    axes = torch.cat([along, across], dim=1)
    middle = ((start + end) / 2).repeat(1, 2, 1)
    line = torch.arange(SIZE).to(ends) - (SIZE - 1) / 2
    x = axes[..., :1] * line - (axes * middle).sum(-1, keepdim=True)
    y = axes[..., 1:] * line
    a, b = (y[..., :, None] + x[..., None, :]).chunk(2, dim=1)
    a = a.abs_().sub_(length[..., None, None] / 2).clamp_min_(0)
    return a.mul_(a).addcmul_(b, b).amin(1).sqrt_().flatten(1)


def _shade(
    distance: Float[Tensor, "n p"], thickness: Float[Tensor, " n"], intensity: Float[Tensor, " n"]
) -> Float[Tensor, "n p"]:
    """Return grey values in [0, 1] of pixels at a distance from the stroke's middle."""
    coverage = (thickness[:, None] / 2 + 0.5 - distance).clamp_(0, 1)
    bright = coverage >= coverage.amax(1, keepdim=True) / 2
    middle = coverage.masked_fill(~bright, torch.nan).nanmedian(1).values
    factor = intensity / middle.clamp_min(1e-6)
    return (coverage * factor[:, None]).clamp_max_(255).round_().div_(255)


@lru_cache(maxsize=1)
def _templates() -> tuple[Tensor, Tensor]:
    """Tabulate control points `(10, POINTS, 2)` and curves `(10, 2 SEGMENTS, POINTS)`.

    The second maps a digit's control points to the ends of its segments.
    """
    points = torch.zeros(len(TEMPLATES), POINTS, 2)
    curves = torch.zeros(len(TEMPLATES), 2 * SEGMENTS, POINTS)
    for digit, (template, strokes) in enumerate(TEMPLATES):
        points[digit, : len(template)] = torch.tensor(template) - 0.5
        spans = sum(len(stroke) - 1 for stroke in strokes)
        row = 0
        for k, stroke in enumerate(strokes):
            left = SEGMENTS - row // 2
            share = left if k == len(strokes) - 1 else SEGMENTS * (len(stroke) - 1) // spans
            curve = _catmull_rom(stroke, share)
            ends = torch.stack([curve[:-1], curve[1:]], dim=1).flatten(0, 1)
            curves[digit, row : row + len(ends)] = ends
            row += len(ends)
    return points, curves


def _catmull_rom(stroke: Stroke, segments: int) -> Float[Tensor, "segments1 points"]:
    """Return weights of the control points in the ends of a curve's segments.

    Between its points 1 and 2 of four, at s in [0, 1], the uniform Catmull-Rom curve is
    `1/2 [1 s s^2 s^3] M p`; an open curve is continued in a straight line past both ends.
    """
    basis = torch.tensor(
        [
            [0.0, 2.0, 0.0, 0.0],
            [-1.0, 0.0, 1.0, 0.0],
            [2.0, -5.0, 4.0, -1.0],
            [-1.0, 3.0, -3.0, 1.0],
        ]
    )
    path = torch.eye(POINTS)[list(stroke)]
    if stroke[0] == stroke[-1]:
        before, after = path[-2], path[1]
    else:
        before, after = 2 * path[0] - path[1], 2 * path[-1] - path[-2]
    path = torch.cat([before[None], path, after[None]])
    place = torch.linspace(0, len(stroke) - 1, segments + 1)
    span = place.floor().clamp_max(len(stroke) - 2)
    powers = (place - span)[:, None] ** torch.arange(4)
    four = path[span.long()[:, None] + torch.arange(4)]
    return torch.einsum("sk,skp->sp", powers @ basis / 2, four)
