"""`Equation`: a mechanism that is written down, `x := f(pa, u)`.

Density, by change of variables (lecture 1.8.1): `log p(x|pa) = log p_U(u) - log |df/du|` at
`u = f^-1(x; pa)`. The inverse is the one given; or exact where f is affine in u, which a text says
and a function shows at a few points; or found by bisection where f is monotone in u, on the support
of the noise; it must give the value back. A vector may mix the entries of u, if its inverse is
given; otherwise everything is elementwise.

Numbers are computed in double precision, so that neither a large offset nor a small factor hides
what the noise does; or in single, where a function holds tensors of single precision.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from rung3.data.expressions import Expression, Function
from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Image
from rung3.mechanisms.base import ImpossibleError, Invertible, Parents, one_tensor
from rung3.mechanisms.distributions import (
    NOISES,
    clamp_inside,
    draw,
    parse_distribution,
    some_value,
    support_ends,
)

__all__ = ["Equation"]

AFFINE_PROBES = (0.0, 1.0, -0.739085, 2.236068)
"""Noise at which a function shows whether it is affine: the first two give the line, and the others
are at no special place."""

HALVINGS = 200
"""Most halvings of the bracket of a noise; the precision of numbers ends them earlier."""

MAX_BRACKET = 1e9
"""Half-width of a bracket of noise, in its own unit, from where on it is not widened further."""

FIRST_BRACKET = 8.0
"""Half-width of the first bracket: of standard normal noise, all but 1e-15."""

GRID_POINTS = 33
"""Points of the first bracket at which a function shows whether it rises and falls."""

ROUNDINGS = 64
"""Roundings that a function may add up, in units of the precision of its numbers."""

CLOSE = 1e-6
"""How close the noise must bring the value, relatively: the value may be in single precision."""

SUPPORT_SLACK = 1e-4
"""How far beyond its support noise may lie, relatively, as values are rounded."""

FLAT_STEP = 1e-3
"""Relative step of noise that must change the value: if not, many u give the same one."""

MAX_NEWTON_STEP = 1e-2
"""Largest step that polishes the noise: larger ones come of a slope near zero."""

LEAST_TAIL = 1e-15
"""Least probability beyond a reversed noise, which keeps it finite."""


class Equation(Invertible):
    """A known mechanism `x := f(pa, u)` (lecture 1.6 and 1.7.1).

    Args:
        function: A Python function whose arguments are the parents' names and `u`, or text in the
            grammar of `rung3.data.expressions` (only text can be saved). It must treat every row
            alike: it is called with tensors `(n, ...)`. Without `u` the variable is deterministic.
            A parent whose name is not a word, or `u`, goes in quotes (`'"blood pressure" + u'`), or
            is taken from all of them (`lambda v, /, u: v["blood pressure"] + u`).
        noise: Distribution of `u`: of `torch.distributions`, or text such as `"Gamma(10, 5)"`;
            standard normal if not given.
        inverse: `u` as a function (or text) of the value and the parents: the one argument that is
            not a parent stands for the value. If not given, found numerically.

    Raises:
        ValueError: On abduction, where f is not monotone in u or the value cannot occur.

    Example:
        >>> from rung3 import SCM
        >>> model = SCM(x1=Equation("u + 1"), x2=Equation("3*x1 + u"))
        >>> model.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})["x2"]
        tensor(13.)
    """

    assumption: str = "the equation is the true mechanism"

    def __init__(
        self,
        function: Callable[..., Any] | str,
        noise: Distribution | str | None = None,
        inverse: Callable[..., Any] | str | None = None,
    ) -> None:
        super().__init__()
        self.function = function
        self.noise = noise
        self.inverse = inverse
        self._function = Function(function)
        self._inverse = None if inverse is None else Function(inverse)
        if not (self._function.named and (self._inverse is None or self._inverse.named)):
            raise ValueError(
                "an equation's arguments must be named: its parents, and u for the noise; one "
                "before a / takes all parents, as in lambda v, /, u: v['blood pressure'] + u"
            )
        self._distribution = parse_distribution(noise)
        self.wants_noise = "u" in self._function.words
        self.arguments = None if self._function.whole else self._function.variables

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy all but the distribution: torch cannot copy some of them (Gumbel, Weibull)."""
        clone = type(self).__new__(type(self))
        memo |= {id(self): clone, id(self._distribution): self._distribution}
        clone.__dict__ = copy.deepcopy(self.__dict__, memo)
        return clone

    def build(self) -> None:
        if self.arguments is not None and set(self.arguments) != set(self.parents):
            raise ValueError(
                f"{self.name}: the equation's arguments are {list(self.arguments)}, but the "
                f"graph's parents of {self.name} are {list(self.parents)}"
                + ("; write a parent u as '\"u\"': the bare u is the noise" * ("u" in self.parents))
            )
        self._double = not isinstance(self.variable, Image)
        text = self._function.function
        circle = isinstance(self.variable, Continuous) and self.variable.circular
        self._affine: bool | None = None  # it has to be tried
        if isinstance(text, Expression) and not circle:
            self._affine = text.affine("u")
        if self._inverse is None:
            return
        value_names = set(self._inverse.arguments) - set(self.parents)
        if len(value_names) != 1:
            raise ValueError(
                f"{self.name}: the inverse must have one argument beside the parents "
                f"{list(self.parents)}, the value; its arguments are "
                f"{list(self._inverse.arguments)}"
            )
        (self._value_name,) = value_names

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        if not self.wants_noise:
            return {}
        shape = self.variable.shape[len(self._distribution.event_shape) :]
        expand = shape if self._distribution.batch_shape == () else ()
        return draw(self._distribution, (n, *expand), generator, self.observed.device)

    def noise_prior(self) -> str:
        parts = [p.tolist() if isinstance(p, Tensor) else p for p in self._noise_parameters()]
        return f"{type(self._distribution).__name__}({', '.join(map(str, parts))})"

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name) if self.wants_noise else None
        return self.variable.hold(self._value(parents, u), self.wide)

    def _value(self, parents: Parents, u: Tensor | None) -> Tensor:
        """Return what the function gives, `(n, *shape)`, in its own precision."""
        anchor = next(iter(parents.values()), self.observed.new_empty(1)) if u is None else u
        value = torch.as_tensor(self._call(parents, u), device=anchor.device)
        if not isinstance(self.variable, Continuous):
            value = value.to(self.variable.dtype)
        return value.expand(len(anchor), *self.variable.shape)

    def _call(self, parents: Parents, u: Tensor | None) -> Any:
        noise = {} if u is None else {"u": u}
        if isinstance(self.variable, Image):
            return self._function(parents, **noise)
        if self._double:
            try:
                return self._function(_cast(parents, torch.float64), **_cast(noise, torch.float64))
            except RuntimeError:  # it holds tensors of its own that double does not go with
                self._double = False
        kind = torch.get_default_dtype()
        return self._function(_cast(parents, kind), **_cast(noise, kind))

    def _at(self, u: Tensor, parents: Parents) -> Tensor:
        """Return the prediction as it is compared: in the type of u."""
        return self.variable.hold(self._value(parents, u), self._double).to(u.dtype)

    def invert(self, value: Tensor, parents: Parents) -> Noise:
        if not self.wants_noise:
            self._check_deterministic(value, parents)
            return {}
        u, possible = self._invert(value, parents)
        if not possible.all():
            first = f"{value[~possible][0].item():g}"
            why = f"no noise on the support of {self._distribution} gives the value {first}"
            raise ImpossibleError(self.name, ~possible, why)
        return u.to(self.variable.hold(value).dtype)

    def _check_deterministic(self, value: Tensor, parents: Parents) -> None:
        wrong = ~self._same(value, parents)
        if wrong.any():
            why = f"{value[wrong][0].item():g} is not what its deterministic equation gives"
            raise ImpossibleError(self.name, wrong, why)

    def _same(self, value: Tensor, parents: Parents) -> Tensor:
        """Tell which values are those that an equation without noise gives."""
        expected = self.predict({}, parents)
        wide = value.dtype == torch.float64 != torch.get_default_dtype()
        return torch.isclose(expected, value.to(expected), rtol=1e-9 if wide else 1e-4, atol=1e-5)

    def _invert(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return the noise, and a mask of the values that some noise on its support gives."""
        if self._distribution.support.is_discrete:  # type: ignore[union-attr]
            raise ValueError(
                f"{self.name}: its noise {self._distribution} is discrete, which is for sampling "
                "alone; abduction and densities need continuous noise, or GumbelMax or InverseCDF"
            )
        x = value.double() if self._double else value
        if self._inverse is not None:
            arguments = {**parents, self._value_name: x}
            u = torch.as_tensor(self._inverse(arguments)).expand(value.shape)
        else:
            u = self._find(x, value, parents)
        low, high = support_ends(self._distribution)
        slack = SUPPORT_SLACK * (1 + u.detach().abs())
        possible = (u >= low - slack) & (u <= high + slack) & u.isfinite()
        if self._inverse is None:
            right = self._gives(u, value, parents)
            if self.variable.shape and not (right | u.isnan()).all():
                result = self._at(u, parents)[~right][0].item()
                raise ValueError(
                    f"{self.name}: the noise found for the value {value[~right][0].item():g} gives "
                    f"{result:g}: its equation mixes entries of u, or jumps; "
                    "give Equation(..., inverse=...)"
                )
            possible = possible & right
        return u, possible

    def _find(self, x: Tensor, value: Tensor, parents: Parents) -> Tensor:
        """Return the noise of each value, by the line or by bisection; NaN where there is none."""
        if self._affine is not False:
            u = self._affine_inverse(x, parents)
            if u is not None and (self._affine or self._gives(u, value, parents).all()):
                return u
        return self._bisect(x, value, parents)

    @torch.no_grad()
    def _gives(self, u: Tensor, value: Tensor, parents: Parents) -> Tensor:
        """Tell which values the noise gives, up to rounding; not those in the gap of a jump."""
        result, expected = self._at(u, parents), value.to(u.dtype)
        gap, tolerance = (result - expected).abs(), max(CLOSE, self._rounding())
        if (right := gap <= tolerance * expected.abs()).all():
            return right
        # Rounding is relative to the value, and to how far the function moves nearby.
        beside = [self._at(self._clamp(u + step), parents) for step in (-1 - u.abs(), 1 + u.abs())]
        moves = torch.stack([(end - result).abs().nan_to_num(torch.inf) for end in beside]).amin(0)
        size = expected.abs() + torch.where(moves.isfinite(), moves, 0)
        return gap <= tolerance * size

    def _affine_inverse(self, x: Tensor, parents: Parents) -> Tensor | None:
        """Return `u = (x - a) / b` where `f = a + b u`; `None` if f is not affine, or is flat."""
        probes = AFFINE_PROBES[:2] if self._affine else AFFINE_PROBES
        at = [self._at(torch.full_like(x, u), parents) for u in probes]
        offset, slope = at[0], at[1] - at[0]
        for u, result in zip(probes[2:], at[2:], strict=True):
            size = self._rounding() * (offset.abs() + at[1].abs() + result.abs())
            if not ((result - offset - slope * u).abs() <= size).all():
                return None
        return None if (slope == 0).any() else (x - offset) / slope

    def _bisect(self, x: Tensor, value: Tensor, parents: Parents) -> Tensor:
        """Return the noise by halving a bracket, and a Newton step; NaN where out of reach."""
        with torch.no_grad():
            low, high, sign, reached = self._bracket(x, parents)
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                if ((middle == low) | (middle == high)).all():
                    break
                above = sign * (self._at(middle, parents) - x) > 0
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            u = torch.where(reached, (low + high) / 2, torch.nan)
            self._check_steep(u, value, parents)
        return self._polish(u, x, parents)

    def _polish(self, u: Tensor, x: Tensor, parents: Parents) -> Tensor:
        """Take one Newton step: more digits, and the gradient of the implicit function."""
        slope = self._slope(u, parents).detach()
        step = (self._at(u, parents) - x) / slope
        return u - torch.where(
            step.isfinite() & (step.abs() < MAX_NEWTON_STEP), step, torch.zeros_like(step)
        )

    def _bracket(self, x: Tensor, parents: Parents) -> tuple[Tensor, ...]:
        """Return ends around the noise, the sign of f's slope, and which values they reach."""
        low, high = support_ends(self._distribution)
        slack = torch.finfo(torch.float32).eps * x.abs()  # values may be rounded beyond f's ends
        width = FIRST_BRACKET
        while True:
            ends = torch.full_like(x, max(low, -width)), torch.full_like(x, min(high, width))
            at_low, at_high = (self._at(end, parents) for end in ends)
            sign = (at_high - at_low).sign()
            inside = (sign * (at_low - x) <= slack) & (sign * (at_high - x) >= -slack)
            if inside.all() or width > MAX_BRACKET:
                break
            width *= 8
        self._check_monotone(x, parents, ends)
        return (*ends, sign, inside)

    def _check_monotone(self, x: Tensor, parents: Parents, ends: tuple[Tensor, Tensor]) -> None:
        """Refuse functions that rise and fall, or are flat, by more than they are rounded."""
        low, high = (float(end.reshape(-1)[0]) for end in ends)
        near = torch.linspace(
            max(low, -FIRST_BRACKET), min(high, FIRST_BRACKET), GRID_POINTS
        ).tolist()
        grid = sorted({low, *near, high})
        values = torch.stack([self._at(torch.full_like(x, u), parents) for u in grid])
        steps = values.diff(dim=0)
        rounded = self._rounding() * torch.maximum(values[1:].abs(), values[:-1].abs())
        mixed = (steps > rounded).any(0) & (steps < -rounded).any(0)
        flat = (steps.abs() <= rounded).all(0)
        if mixed.any() or flat.any():
            raise ValueError(
                f"{self.name}: its equation is not monotone in u, so its noise cannot be found; "
                "give Equation(..., inverse=...), or an equation that is monotone in u"
            )

    def _check_steep(self, u: Tensor, value: Tensor, parents: Parents) -> None:
        """Refuse values that a whole stretch of noise gives: of a step, or of a clipped end."""
        for step in (-FLAT_STEP, FLAT_STEP):
            near = self._clamp(u + step * (1 + u.abs()))
            same = (near != u) & (self._at(near, parents).to(value.dtype) == value)
            flat = same & (self._slope(near, parents) == 0)
            if flat.any():
                raise ValueError(
                    f"{self.name}: its equation is not monotone in u: many u give the value "
                    f"{value[flat][0].item():g}, so its noise cannot be found; "
                    "use GumbelMax or InverseCDF for categories"
                )

    def _clamp(self, u: Tensor) -> Tensor:
        return u.clamp(*support_ends(self._distribution))

    def _rounding(self) -> float:
        """Return what roundings of the function may add up to, relatively."""
        return ROUNDINGS * torch.finfo(torch.float64 if self._double else torch.float32).eps

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        if not self.wants_noise:
            return torch.where(self._same(value, parents), 0.0, -torch.inf)
        u, possible = self._invert(value, parents)
        inside = torch.where(possible, u, some_value(self._distribution))
        inside = clamp_inside(inside, *support_ends(self._distribution))
        density = self._distribution.log_prob(inside).reshape(len(value), -1).sum(1)
        density = density - self._log_slope(inside, parents)
        log_prob = torch.where(possible.reshape(len(value), -1).all(1), density, -torch.inf)
        return log_prob.to(torch.get_default_dtype())

    def _log_slope(self, u: Tensor, parents: Parents) -> Tensor:
        """Return `log |det df/du|`, `(n,)`: of the Jacobian for vectors, otherwise elementwise."""
        if u.ndim != 2:
            return self._slope(u, parents).abs().log().reshape(len(u), -1).sum(1)
        rows = [self._slope(u, parents, entry) for entry in range(u.shape[1])]
        log_det: Tensor = torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet
        return log_det

    def _slope(self, u: Tensor, parents: Parents, entry: int | None = None) -> Tensor:
        """Return `df/du`, elementwise; or of one entry of a vector, `df_i/du`."""
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            at = u if u.requires_grad else u.detach().requires_grad_()
            result = self._at(at, parents)
            total = (result if entry is None else result[:, entry]).sum()
            if not total.requires_grad:  # comparisons, categories
                return torch.zeros_like(at)
            return torch.autograd.grad(total, at, create_graph=keep)[0]

    def reverse(self, noise: Tensor) -> Tensor | None:
        try:
            rank = self._distribution.cdf(noise.double())
            reversed_rank = (1 - rank).clamp(LEAST_TAIL, 1 - LEAST_TAIL)
            return self._distribution.icdf(reversed_rank).to(noise)
        except NotImplementedError:
            return None

    def config(self) -> dict[str, Any]:
        """Return the text of the equation, of its noise and of its inverse.

        Raises:
            ValueError: If any is a Python function, which cannot be saved.
        """
        for part in (self.function, self.inverse):
            if callable(part):
                raise ValueError(
                    f"{self.name}: its equation is a Python function, which cannot be saved; "
                    'write it as text, such as Equation("3*x1 + u")'
                )
        parts = {"function": self.function, "inverse": self.inverse, "noise": self._noise_text()}
        return {name: part for name, part in parts.items() if part is not None}

    def _noise_text(self) -> str | None:
        if self.noise is None or isinstance(self.noise, str):
            return self.noise
        kind, parameters = type(self.noise).__name__, self._noise_parameters()
        if kind not in NOISES or any(p.numel() > 1 for p in parameters):
            raise ValueError(
                f"{self.name}: noise {self.noise} cannot be saved; use scalar parameters and one "
                f"of {', '.join(NOISES)}"
            )
        return f"{kind}({', '.join(repr(float(p)) for p in parameters)})"

    def _noise_parameters(self) -> list[Any]:
        """Return the parameters of the noise's distribution; its identity for any it hides."""
        distribution = self._distribution
        names = inspect.signature(type(distribution)).parameters
        return [getattr(distribution, k, id(distribution)) for k in names if k != "validate_args"]

    def describe(self) -> str:
        function = self.function if isinstance(self.function, str) else "<function>"
        return f"Equation({function!r})" + ("" if self.noise is None else f", u ~ {self.noise}")


def _cast(values: Mapping[str, Tensor], kind: torch.dtype) -> dict[str, Tensor]:
    return {k: v.to(kind) if v.is_floating_point() else v for k, v in values.items()}
