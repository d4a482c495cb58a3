"""Equations as text: a small arithmetic grammar, read without ever running the text.

Numbers, names, `+ - * / **`, comparisons (giving 0 or 1), brackets, and the functions
`exp log sqrt abs sin cos tanh sigmoid softplus minimum maximum where floor`. A name that is no
word, or stands for something else (as `u`, the noise), goes in quotes: `2*"blood pressure" + u`.

Interventions are text as well: `thickness=4`, `thickness=thickness+2`, `digit=three`. Where a
variable has labels, a text that is one is that label; a number is the label that reads so.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.number_text import number_hint
from rung3.data.rows import spell_unknown
from rung3.data.spelling import did_you_mean
from rung3.data.variables import Discrete, Variable

__all__ = ["Expression", "Function", "interventions", "value_of"]

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "floor": torch.floor,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "where": lambda condition, yes, no: torch.where(condition > 0, yes, no),
}

ARITY: Mapping[str, int] = {"minimum": 2, "maximum": 2, "where": 3}
"""Numbers of arguments; every other function has one."""

MAX_DEPTH = 200
"""Levels of nesting, at most: Python's stack is not much deeper."""


def _truth(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    return lambda a, b: _real(compare(a, b))


def _real(value: Any) -> Tensor:
    """Return a tensor in double: its arithmetic neither overflows nor divides by zero."""
    return torch.as_tensor(value, dtype=torch.float64)


def _bits(kind: torch.dtype) -> int:
    return torch.finfo(kind).bits


OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Lt: _truth(operator.lt),
    ast.LtE: _truth(operator.le),
    ast.Gt: _truth(operator.gt),
    ast.GtE: _truth(operator.ge),
    ast.Eq: _truth(operator.eq),
    ast.NotEq: _truth(operator.ne),
}


class Expression:
    """A function of named tensors, given as text.

    Args:
        text: Such as `"3*x1 + u"`.

    Raises:
        ValueError: If the text is not of the grammar, quoting the part at fault.

    Attributes:
        arguments: The names in the text, in order of mention.
        words: Those that stand there without quotes.
        quoted: Those that stand there in quotes.

    Example:
        >>> Expression("3*x1 + u")(x1=torch.tensor(2.0), u=torch.tensor(1.0))
        tensor(7.)
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            cure = "; a name that is not a word goes in quotes, as in 2*'blood pressure' + u"
            raise ValueError(
                f"equation {text!r}: not an arithmetic expression{number_hint(text) or cure}"
            ) from None
        if _depth(self._tree) > MAX_DEPTH:
            raise ValueError(f"equation {text!r}: nested more than {MAX_DEPTH} levels deep")
        names: dict[str, str] = {}  # as they are written, and as they are meant
        self._check(self._tree, names)
        self.arguments = tuple(dict.fromkeys(names.values()))
        self.words = tuple(name for key, name in names.items() if key == name)
        self.quoted = tuple(name for key, name in names.items() if key != name)

    def _check(self, node: ast.AST, names: dict[str, str]) -> None:
        match node:
            case ast.Constant(value=bool()):
                self._refuse(node)
            case ast.Constant(value=int() | float() as value) if abs(value) < 1e300:
                pass
            case ast.Name(id=name):
                names[name] = name
            case ast.Constant(value=str() as name):
                names[repr(name)] = name
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                self._check(left, names)
                self._check(right, names)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                self._check(operand, names)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
                self._check(left, names)
                self._check(right, names)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if (
                name in FUNCTIONS and len(args) == ARITY.get(name, 1)
            ):
                for argument in args:
                    self._check(argument, names)
            case _:
                self._refuse(node)

    def _refuse(self, node: ast.AST) -> None:
        part = ast.get_source_segment(self.text.strip(), node) or self.text
        allowed = (
            "; use numbers, names, + - * / ** and comparisons, and the functions "
            f"{', '.join(FUNCTIONS)}"
        )
        cure = number_hint(self.text) or allowed
        raise ValueError(f"equation {self.text!r}: {part!r} is not allowed{cure}")

    def __call__(self, variables: Mapping[str, Tensor] | None = None, /, **words: Tensor) -> Tensor:
        """Return the value under these arguments.

        Args:
            variables: Values of quoted names; where not given, those of the words are taken.
            words: Values of names without quotes.
        """
        given = {**(variables or {}), **words}
        quoted = {repr(name): {**words, **(variables or {})}[name] for name in self.quoted}
        kind = torch.get_default_dtype()
        real = {
            name: value if value.is_floating_point() else value.to(kind)
            for name, value in (given | quoted).items()
        }
        used = (real[name] for name in (*self.words, *quoted))
        widest = max((value.dtype for value in used), key=_bits, default=kind)
        return torch.as_tensor(_evaluate(self._tree, real)).to(widest)

    def affine(self, name: str) -> bool:
        """Return whether it reads as `a + b name`, where a and b do not hold the name.

        Example:
            >>> [Expression(text).affine("u") for text in ("2*(u - x) / x", "x + exp(u)", "u*u")]
            [True, False, False]
        """
        return _affine(self._tree, name)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class Function:
    """A function of variables, by their names: Python's, or an expression.

    An argument is a variable of that name. A Python function may ask for all of them at once, as a
    mapping, in a positional-only argument: `lambda v, /, u: 2 * v["blood pressure"] + u`.

    Args:
        function: The function, an `Expression`, or its text.

    Attributes:
        words: Names of arguments; `u` may be the noise.
        quoted: Names in quotes; `u` is then a variable.
        arguments: Both, in order of mention.
        whole: Whether it asks for all variables.
        named: Whether every other argument has a name: there is no `*args` and the like.

    Raises:
        ValueError: If it is not a function.

    Example:
        >>> add = Function(lambda v, /, u: v["blood pressure"] + u)
        >>> add({"blood pressure": 120}, u=5), add.words, add.whole
        (125, ('u',), True)
    """

    def __init__(self, function: Callable[..., Any] | str) -> None:
        called = Expression(function) if isinstance(function, str) else function
        self.whole, self.named = False, True
        self.quoted: tuple[str, ...] = ()
        self.function = called
        if isinstance(called, Expression):
            self.words, self.quoted, self.arguments = called.words, called.quoted, called.arguments
            return
        if not callable(called):
            raise ValueError(f"expected a function or text, got {called!r}")
        parameters = list(inspect.signature(called).parameters.values())
        first = parameters[0].kind if parameters and not inspect.isbuiltin(called) else None
        self.whole = first is inspect.Parameter.POSITIONAL_ONLY
        named = parameters[self.whole :]
        unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.named = all(p.kind not in (*unnamed, p.POSITIONAL_ONLY) for p in named)
        self.words = self.arguments = tuple(p.name for p in named)

    @property
    def variables(self) -> tuple[str, ...]:
        """The arguments, where the word `u` is the noise."""
        return tuple(k for k in self.arguments if k != "u" or "u" in self.quoted)

    def __call__(self, variables: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Return its value, given variables, and what other words stand for."""
        variables = variables or {}
        words = {name: variables[name] for name in self.words if name not in more} | more
        if self.whole or isinstance(self.function, Expression):
            return self.function(variables, **words)
        return self.function(**words)


def _depth(tree: ast.AST) -> int:
    depth, layer = 0, [tree]
    while layer:
        depth, layer = depth + 1, [child for node in layer for child in ast.iter_child_nodes(node)]
    return depth


def _affine(node: ast.AST, name: str) -> bool:
    def free(part: ast.AST) -> bool:
        return all(not isinstance(n, ast.Name) or n.id != name for n in ast.walk(part))

    def affine(part: ast.AST) -> bool:
        return _affine(part, name)

    match node:
        case ast.Name():
            return True
        case ast.UnaryOp(operand=operand):
            return affine(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return affine(left) and affine(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if free(left):
            return affine(right)
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div(), right=right) if free(right):
            return affine(left)
        case ast.Call(func=ast.Name(id="where"), args=[condition, yes, no]) if free(condition):
            return affine(yes) and affine(no)
    return free(node)


def _evaluate(node: ast.AST, values: Mapping[str, Tensor]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=str() as name):
            return values[repr(name)]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, values), _evaluate(right, values)
            numbers = isinstance(a, float) and isinstance(b, float)
            return OPERATORS[type(op)](_real(a) if numbers else a, b)
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_evaluate(operand, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return OPERATORS[type(op)](_evaluate(left, values), _evaluate(right, values))
        case ast.Call(func=ast.Name(id=name), args=args):
            given = [_evaluate(a, values) for a in args]
            return FUNCTIONS[name](*(_real(a) if isinstance(a, float) else a for a in given))
    raise AssertionError(f"unchecked node {ast.dump(node)}")


def interventions(texts: Iterable[str], variables: Mapping[str, Variable]) -> dict[str, Any]:
    """Read interventions, as `SCM.do` takes them, from `name=value` and `name=expression`.

    An expression may name the variable itself, for the value it would have had, and its parents;
    names that are not words go in quotes. A category is given by its label, if it has one.

    Raises:
        ValueError: If a text is not of that form, names an unknown variable, or one twice.

    Example:
        >>> import torch
        >>> from rung3 import Continuous
        >>> do = interventions(["t=t+2", "i=64"], {"t": Continuous(), "i": Continuous()})
        >>> do["t"](t=torch.tensor(1.0)), do["i"]
        (tensor(3.), 64.0)
    """
    actions: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise ValueError(f"{text}: expected name=value, such as thickness=4")
        if name not in variables:
            raise ValueError(f"{text}: {spell_unknown([name], variables)}")
        if name in actions:
            raise ValueError(f"{text}: {name} is set twice")
        actions[name] = value_of(value, name, variables)
    return actions


def value_of(text: str, name: str, variables: Mapping[str, Variable]) -> Any:
    """Read what a variable is set to: a number, a label, or a function of variables.

    Raises:
        ValueError: If the text is not a label of a variable that has labels, and no arithmetic
            expression of variables either.
    """
    variable = variables[name]
    labels = variable.labels if isinstance(variable, Discrete) else ()
    if text in labels:
        return text
    if labels and text in ("True", "False"):  # what YAML makes of true and false
        return text == "True"
    try:
        expression = Expression(text)
    except ValueError:
        if labels:
            variable.validate(name, text)  # refuses, and says the labels
        raise
    if labels and not set(expression.arguments) <= {"u", *variables}:
        variable.validate(name, text)
    if expression.arguments == (text,) and text not in {"u", *variables}:
        hint = did_you_mean(text, variables)
        hint = f"{hint} " if hint else ""
        raise ValueError(
            f"{name}: {text!r} is not a number and no variable; {hint}if it is a label, declare "
            f"{name} as Categorical with its labels"
        )
    return expression if expression.arguments else float(expression())
