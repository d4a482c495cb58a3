"""A predictor as one more variable of a model: what it says is an effect of what it reads.

    prediction := f(inputs)            (no noise of its own)

Every question about an outcome is then a question about the predictor: its effects split by path,
its probabilities of causation, its backtracking.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise, Rows, spell_unknown
from rung3.data.spelling import suggest
from rung3.data.values import coded
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.mechanisms.base import Abduction, Mechanism, Parents, nothing_observed
from rung3.scm.scm import SCM

__all__ = ["PREDICTION", "Predictor", "with_predictor"]

PREDICTION = "prediction"
"""Name of the variable that a predictor is."""

CHECKED = 4
"""Rows on which a predictor is tried before work starts."""

ROWS_AT_ONCE = 1024
"""Rows that a predictor is given at once: 4 MB of images of 32 x 32."""

ROUNDING = 1e-4
"""How far probabilities may lie outside [0, 1], their sum from 1, and a row's answer from itself in
another batch, relatively: single precision loses as much."""

PROBABILITY = 1e-3
"""How far a probability that is asked for by backtracking may be missed: it has steps, as whole
levels of pixels have."""

Function = Callable[..., Any]
Decide = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Predictor:
    """A predictor, what it reads, and what its output means.

    Attributes:
        function: The callable.
        inputs: The variables that it reads.
        form: How it takes them: by `"name"`, one `"tensor"`, one `"matrix"` `(n, d)`, or all
            `"values"` as a mapping.
        event: The class whose probability is looked at, of outputs `(n, k)`.
        decide: From outputs to decisions `(n,)`; `None` for the likeliest class.
        outcome: The variable that it predicts, if it is known.
    """

    function: Function
    inputs: tuple[str, ...]
    form: str
    event: int = 1
    decide: Decide | None = None
    outcome: Variable | None = None

    @classmethod
    def of(
        cls,
        model: SCM,
        function: Function,
        *,
        inputs: str | Sequence[str] | None = None,
        outcome: str | None = None,
        event: Any = None,
        decide: Decide | None = None,
    ) -> Predictor:
        """Read off what a predictor takes; see `with_predictor`.

        Raises:
            ValueError: If it is not callable, or what it reads cannot be told.
        """
        if not callable(function):
            raise ValueError(
                f"predictor: expected a callable or a torch module, got {function!r}; of an "
                "estimator of scikit-learn, give its predict_proba"
            )
        kind = None if outcome is None else model.variables[outcome]
        names, form = _inputs(model, function, inputs)
        if isinstance(kind, Discrete):
            code = int(kind.validate(str(outcome), coded(event, 1)))
        else:
            code = 1 if event is None else int(event)
        return cls(function, names, form, code, decide, kind)

    @property
    def numbers(self) -> bool:
        """Whether it predicts a number, and decides nothing."""
        number = isinstance(self.outcome, Continuous) and not isinstance(self.outcome, Image)
        return number and self.decide is None

    @property
    def free(self) -> bool:
        """Whether one number a row may be any, and not a probability alone."""
        return self.numbers or self.decide is not None

    def check(self, rows: Mapping[str, Tensor]) -> None:
        """Try it on a few rows, before work starts.

        Raises:
            ValueError: If it changes its input, answers differently when it is asked again or in
                another batch, or gives what is neither a number a row nor probabilities.
        """
        sample = {name: rows[name][:CHECKED].clone() for name in self.inputs}
        before = {name: value.clone() for name, value in sample.items()}
        with torch.no_grad():
            first = self.outputs(sample)
            for name, value in sample.items():
                if not torch.equal(value, before[name]):
                    _refuse(f"changes its input {name} in place", "let it work on a copy")
            second = self.outputs(sample)
            alone = self.outputs({name: value[:1] for name, value in sample.items()})
        slack = ROUNDING * (1 + first.abs())
        if ((second - first).abs() > slack).any():
            _refuse("gives other values when it is asked again", "put it in eval mode, or seed it")
        if ((alone - first[:1]).abs() > slack[:1]).any():
            _refuse(
                "gives a row other values in another batch",
                "put it in eval mode, and let axes of rows be",
            )

    def outputs(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return what it gives, `(n,)` or probabilities `(n, k)`, in double.

        Raises:
            ValueError: If that has another shape, is not finite, or is not a probability where it
                should be.
        """
        n = len(values[self.inputs[0]])
        raw = [self._call(values, slice(k, k + ROWS_AT_ONCE), n) for k in range(0, n, ROWS_AT_ONCE)]
        outputs = torch.cat(raw)
        self._check_values(outputs)
        return outputs

    def _call(self, values: Mapping[str, Tensor], at: slice, n: int) -> Tensor:
        given = {name: values[name][at] for name in self.inputs}
        if self.form == "name":
            raw = self.function(**given)
        elif self.form == "tensor":
            raw = self.function(given[self.inputs[0]])
        elif self.form == "values":
            raw = self.function(given)
        else:
            kind = torch.get_default_dtype()
            columns = [
                value.flatten(1) if value.ndim > 1 else value[:, None] for value in given.values()
            ]
            raw = self.function(torch.cat([column.to(kind) for column in columns], 1))
        try:
            output = torch.as_tensor(raw, device=given[self.inputs[0]].device).double()
        except (TypeError, ValueError, RuntimeError):
            _refuse(f"gave {type(raw).__name__}", "let it return one tensor or array")
        rows = len(given[self.inputs[0]])
        if output.ndim == 2 and output.shape[1] == 1:
            output = output[:, 0]
        if output.ndim not in (1, 2) or len(output) != rows:
            _refuse(
                f"gave shape {tuple(output.shape)} for {rows} rows",
                f"let it return one number a row, ({rows},), or probabilities ({rows}, classes)",
            )
        return output

    def _check_values(self, outputs: Tensor) -> None:
        if not outputs.isfinite().all():
            _refuse("gave NaN or infinity", "let it answer every row")
        if outputs.ndim == 1 and self.free:
            return
        classes = outputs.shape[1] if outputs.ndim == 2 else 2
        if (
            isinstance(self.outcome, Discrete)
            and outputs.ndim == 2
            and classes != self.outcome.classes
        ):
            _refuse(
                f"gave {classes} classes, and its outcome has {self.outcome.classes}",
                "let it return a probability of each, in the order of the codes",
            )
        if not 0 <= self.event < classes:
            _refuse(f"tells {classes} classes, and event={self.event}", "name one of these")
        outside = (outputs < -ROUNDING) | (outputs > 1 + ROUNDING)
        sums = outputs.sum(1) if outputs.ndim == 2 else outputs.new_ones(1)
        if outside.any() or ((sums - 1).abs() > ROUNDING).any():
            wrong = f"{outputs[outside][0]:.4g}" if outside.any() else f"a sum of {sums[0]:.4g}"
            _refuse(
                f"gave {wrong}, which is not a probability",
                "end it in a sigmoid or softmax; or, of a score, say which ones decide for yes, "
                "as in decide=lambda score: score > 0; or name as outcome= the number it predicts",
            )

    def score(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the probability of the event, or the number that it gives, `(n,)`."""
        outputs = self.outputs(values)
        if outputs.ndim == 2:
            return outputs[:, self.event].clamp(0, 1)
        if self.free:
            return outputs
        return (outputs if self.event == 1 else 1 - outputs).clamp(0, 1)

    def decisions(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the class that it decides for, `(n,)`: of one probability, 1 from one half on."""
        outputs = self.outputs(values)
        if self.decide is not None:
            codes = torch.as_tensor(self.decide(outputs), device=outputs.device)
            if codes.shape != outputs.shape[:1]:
                raise ValueError(
                    f"decide: gave shape {tuple(codes.shape)} for {len(outputs)} rows; expected "
                    "one decision a row"
                )
            return codes.long()
        return (outputs >= 0.5).long() if outputs.ndim == 1 else outputs.argmax(1)

    def attach(
        self,
        model: SCM,
        name: str = PREDICTION,
        variable: Variable | None = None,
    ) -> SCM:
        """Give the model with the predictor as one more variable: by default what it gives."""
        default = Continuous() if self.free else Continuous(lower=0.0, upper=1.0)
        return model.extend(Prediction(model, self, name, variable or default))

    def about(self, rows: Mapping[str, Tensor]) -> Predictor:
        """Return the predictor whose event, of three classes or more, is what it decides for."""
        outputs = self.outputs(rows)
        if outputs.ndim == 1 or outputs.shape[1] < 3:
            return self
        return replace(self, event=int(outputs.argmax(1).mode().values))

    def decides(self, code: int) -> Predictor:
        """Return the predictor of whether this one decides for a class, 0 or 1."""
        return Predictor(lambda v: self.decisions(v) == code, self.inputs, "values")

    def complete(self, rows: Rows, name: str = PREDICTION) -> Rows:
        """Give rows with what the predictor says of them."""
        score = self.score(rows.batch).to(torch.get_default_dtype())
        values = {**rows, name: score if rows.batched else score[0]}
        return Rows(
            values,
            noise=rows.noise,
            world=rows.world,
            batched=rows.batched,
            provenance=rows.provenance,
        )


class Prediction(Mechanism):
    """`prediction := f(inputs)`, known and without noise.

    Args:
        model: The model whose variables it reads.
        predictor: The predictor.
        name: Name of the variable that it is.
        variable: What it is.
    """

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "the predictor is known"
    wants_noise: bool = False

    def __init__(self, model: SCM, predictor: Predictor, name: str, variable: Variable) -> None:
        super().__init__()
        self.predictor = predictor
        self.name, self.variable = name, variable
        self.tolerance = None if predictor.free else PROBABILITY
        self.parents = {name: model.variables[name] for name in predictor.inputs}
        self.register_buffer("observed", nothing_observed(variable).to(model.device))

    def build(self) -> None:
        """Do nothing: a prediction is made bound."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return {}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        return self.variable.hold(self.predictor.score(parents), self.wide)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return {}

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Give 0 where the value is what it predicts, else minus infinity."""
        same = torch.isclose(self.predict({}, parents), value, rtol=ROUNDING, atol=ROUNDING)
        return torch.where(same, 0.0, -torch.inf)

    def describe(self) -> str:
        name = getattr(self.predictor.function, "__name__", type(self.predictor.function).__name__)
        return f"{name}({', '.join(self.predictor.inputs)})"


def with_predictor(
    model: SCM,
    predictor: Function,
    *,
    inputs: str | Sequence[str] | None = None,
    outcome: str | None = None,
    event: Any = None,
    decide: Decide | None = None,
) -> SCM:
    """Give the model in which a predictor's output is one more variable, `"prediction"`.

    All that answers for an outcome then answers for the predictor: `effects.average`, `mediate`,
    `path_specific`, `SCM.backtrack` (where it has gradients), and

        probabilities_of_causation(model, "effusion", "prediction", event=lambda p: p >= 0.5)

    asks of an image model whether it would have said effusion, had there been none.

    Args:
        model: The model of the rows.
        predictor: A callable, or a torch module in eval mode, from values of `n` rows to one number
            a row `(n,)`, or to probabilities of classes `(n, k)`; in tensors or arrays.
        inputs: The variables that it reads. If not given, its arguments are matched by name; a
            single argument of another name takes the only image. One name: it is given that
            variable's tensor. Several: it is given a matrix `(n, d)` of these columns.
        outcome: The variable that it predicts. Of a number it may give any number, else it gives
            probabilities.
        event: The class whose probability is looked at, of several; by default the second.
        decide: A function from its outputs to decisions, such as `lambda score: score > 0`; by
            default the likeliest class. Outputs `(n,)` may then be any numbers.

    Raises:
        ValueError: If it is not callable, or what it reads cannot be told.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(age=Equation("u"), dose=Equation("age + u"))
        >>> judged = with_predictor(model, lambda dose: torch.sigmoid(dose))
        >>> row = {"age": 0.0, "dose": 1.0, "prediction": 0.7311}
        >>> judged.counterfactual(row, do={"age": -1.0})["prediction"]
        tensor(0.5000)
    """
    return Predictor.of(
        model, predictor, inputs=inputs, outcome=outcome, event=event, decide=decide
    ).attach(model)


def _inputs(
    model: SCM, function: Function, inputs: str | Sequence[str] | None
) -> tuple[tuple[str, ...], str]:
    """Return what a predictor reads, and how it takes it."""
    known = model.variables
    if inputs is not None:
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        if not names:
            raise ValueError("inputs: empty; name the variables that the predictor reads")
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"inputs: {spell_unknown(unknown, known)}")
        return names, "tensor" if isinstance(inputs, str) else "matrix"
    required, optional = _arguments(function)
    if required and all(name in known for name in required):
        return (*required, *(name for name in optional if name in known)), "name"
    images = [name for name, kind in known.items() if isinstance(kind, Image)]
    if len(images) == 1 and len(required) <= 1:
        return (images[0],), "tensor"
    strange = [name for name in required if name not in known]
    hint = f"{strange[0]!r}: {suggest(strange[0], known, 'the variables')}" if strange else ""
    raise ValueError(
        "predictor: cannot tell what it reads; name its arguments after variables, or give "
        'inputs="image" or inputs=["age", "dose"]' + (f" ({hint})" if hint else "")
    )


def _arguments(function: Function) -> tuple[list[str], list[str]]:
    """Return the names of the arguments that a callable needs, and of those that it may have."""
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return [], []
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = [p.name for p in named if p.default is p.empty]
    return required, [p.name for p in named if p.default is not p.empty]


def _refuse(what: str, cure: str) -> NoReturn:
    raise ValueError(f"predictor: {what}; {cure}")
