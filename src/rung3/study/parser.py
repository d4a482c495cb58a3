"""How a study file is read: YAML to checked values, with errors that name the key and its line.

Text may hold `${NAME}` or `${NAME:-otherwise}`, replaced from the environment. Paths are relative
to the file. Words are booleans only where they are `true` or `false`, so that `labels: [no, yes]`
is what it looks like, and `1e-3` is a number; a date, `12:30` and `01` are text.

A file is read within bounds (`LARGEST`, `DEEPEST`, `MOST`): none can make its reader hang.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import ValidationInfo as Info
from pydantic_core import ErrorDetails, PydanticCustomError

from rung3.data.remote import is_remote
from rung3.data.spelling import did_you_mean

__all__ = ["FilePath", "Part", "Source", "located", "nearest", "read", "unknown", "validated"]

T = TypeVar("T", bound=BaseModel)

CURES = {
    "mapping values are not allowed here": "; a colon is missing in the line before, or text with "
    "': ' needs quotes",
    "found character '\\t' that cannot start any token": "; indent with blanks, not tabs",
    "could not find expected ':'": "; a colon is missing in the line before",
}
"""What to do about errors of YAML that are hard to understand."""

WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_pattern_mismatch": "may hold letters, digits, '.', '_' and '-', and nothing else",
}
"""What is expected, where pydantic's own words are not for everybody."""

LARGEST = 2**20
"""Bytes of a study file, at most."""

DEEPEST = 50
"""Levels of nesting, at most."""

MOST = 50_000
"""Values, at most, once aliases are written out."""

GREATEST = 2**62
"""Whole numbers are less than this: torch counts in 64 bits, and doubles a seed."""

_BOOL = "tag:yaml.org,2002:bool"
_FLOAT = "tag:yaml.org,2002:float"
_INT = "tag:yaml.org,2002:int"
_DATE = "tag:yaml.org,2002:timestamp"
KINDS = {_BOOL: "yes or no", _FLOAT: "a number", _INT: "a whole number", _DATE: "a date"}
"""What the tags of scalars are called."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Source:
    """A study file's values, and the line of each.

    Args:
        path: The file, for messages and as the place that its paths are relative to.
        values: What it says.
        lines: Line of each key, by its path.
    """

    def __init__(self, path: Path, values: Any, lines: Mapping[tuple[Any, ...], int]) -> None:
        self.path = path
        self.values = values
        self.lines = dict(lines)

    def error(self, at: tuple[Any, ...], message: str) -> str:
        """Word a message with the file, the line and the key that it is about."""
        line = next((self.lines[at[:k]] for k in range(len(at), 0, -1) if at[:k] in self.lines), 0)
        place = f"{self.path}:{line}" if line else f"{self.path}"
        key = ".".join(map(str, at))
        return f"{place}: {key}: {message}" if key else f"{place}: {message}"

    def located(self, message: str) -> str:
        """Return a message with the line of the key that it is about, as far as it names one."""
        if re.match(rf"{re.escape(str(self.path))}:\d", message):
            return message
        head = re.match(r"[a-z_]\w*(?:\.\w+)*(?=: )", message)
        at = self._place(message.partition(";")[0], tuple(head[0].split(".")) if head else ())
        if not at:
            return message
        key = ".".join(map(str, at))
        if head is not None and head[0].startswith(f"{key}."):  # set on the command line
            return self.error(tuple(head[0].split(".")), message[head.end() + 2 :])
        known = head is not None and key.startswith(head[0])
        return self.error(at, message[head.end() + 2 :] if head and known else message)

    def _place(self, message: str, at: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the key that a message names: at its head, or a variable's, or the graph's."""
        while at and at not in self.lines:
            at = at[:-1]
        if at:
            while below := self._named(at, message):
                at = below
            return at
        if "cycle" in message:
            return ("graph",)
        for part in (("mechanisms",), ("variables",), ("data", "columns")):
            place = self._named(part, message)
            if place and (part != ("mechanisms",) or self._kind(place) in message):
                return place
        graph = str(self.values.get("graph", ""))
        if any(_mentions(graph, name) for name in re.findall(r"'([^']+)'", message)):
            return ("graph",)
        data = self.values.get("data")
        path = data.get("path") if isinstance(data, dict) else None
        named = isinstance(path, str) and Path(path).name in message
        return ("data",) if named or re.search(r"\.(csv|parquet)\b", message) else ()

    def _named(self, at: tuple[Any, ...], message: str) -> tuple[Any, ...]:
        """Return the first key below another that a message names; empty if it names none."""
        values = self.values
        for key in at:
            values = values[key] if _has(values, key) else {}
        if isinstance(values, dict):
            named = (k for k in values if _mentions(message, str(k)))
            column = (k for k, v in values.items() if at[-1] == "columns" and f"{v!r}" in message)
            return next(((*at, key) for key in (*named, *column)), ())
        if isinstance(values, list):
            texts = [(k, v) for k, v in enumerate(values) if isinstance(v, str)]
            return next(((*at, k) for k, v in texts if _mentions(message, v)), ())
        return ()

    def _kind(self, at: tuple[Any, ...]) -> str:
        values = self.values[at[0]][at[1]]
        return str(values.get("kind", "")) if isinstance(values, dict) else str(values)

    def override(self, setting: str) -> None:
        """Set one value, as `data.root=/data`; the value is read as YAML.

        Raises:
            ValueError: If it is not of that form, or leads through a value that has no keys.
        """
        key, equals, text = setting.partition("=")
        *folders, last = key.strip().split(".")
        if not equals or not all([*folders, last]):
            raise ValueError(f"--set {setting}: expected key=value, such as training.epochs=2")
        at = self.values
        for folder in folders:
            at = at.setdefault(folder, {}) if isinstance(at, dict) else at
        if not isinstance(at, dict):
            raise ValueError(f"--set {setting}: {'.'.join(folders)} has no keys to set")
        at[last] = _load(text, f"--set {setting}")[0]
        self.lines.pop((*folders, last), None)


def read(path: str | Path, settings: Iterable[str] = ()) -> Source:
    """Read a study file, set what `settings` say, and replace environment variables.

    Args:
        path: The YAML file.
        settings: Overrides, each `key.key=value`.

    Raises:
        ValueError: If the file is missing or not YAML, a key is given twice, an environment
            variable without an alternative is not set, or a setting cannot be made.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is missing; expected a study file (YAML)")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST:,} bytes; expected a study file (YAML)")
    try:
        values, lines = _load(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text; expected a study file (YAML)") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a study with keys such as name, data and graph")
    source = Source(path, values, lines)
    for setting in settings:
        source.override(setting)
    source.values = _expand(source.values, source, ())
    return source


def validated(model: type[T], source: Source, **context: Any) -> T:
    """Return the source's values as a checked model.

    Args:
        model: The model.
        source: The values.
        context: More for its validators to know.

    Raises:
        ValueError: With one line for each fault: file, line, key, what was given and expected.
    """
    try:
        return model.model_validate(
            source.values, context={"folder": source.path.parent, **context}
        )
    except ValidationError as error:
        faults = [_spell(source, fault) for fault in error.errors(include_url=False)]
        raise ValueError("\n".join(faults)) from None


class Part(BaseModel):
    """A mapping of the study file; a key that it does not have is refused with the nearest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise unknown((key,), cls.model_fields)
            parts = values[key] if isinstance(values[key], list) else [values[key]]
            if any(isinstance(part, int) and abs(part) >= GREATEST for part in parts):
                hint = f"whole numbers must be less than 2**62, got {values[key]!r:.40}"
                raise PydanticCustomError("unknown_key", "{hint}", {"key": (key,), "hint": hint})
        return values


def _resolve(path: Path, info: Info) -> Path:
    if is_remote(path):
        return path
    folder = (info.context or {}).get("folder", Path())
    return Path(os.path.normpath(folder.absolute() / path.expanduser()))


FilePath = Annotated[Path, AfterValidator(_resolve)]
"""A path, relative to the study file, or an address."""


def nearest(given: object, known: Iterable[str], what: str = "key") -> str:
    """Say that a word is unknown, with the nearest right one and all that are allowed.

    Example:
        >>> nearest("epchs", ["epochs", "lr"])
        "unknown key 'epchs'; did you mean 'epochs'? allowed: epochs, lr"
    """
    known = list(known)
    hint = f"{did_you_mean(given, known)} ".lstrip()
    return f"unknown {what} {given!r}; {hint}allowed: {', '.join(known)}"


def unknown(
    key: tuple[str, ...], known: Iterable[str], what: str = "key", word: object = None
) -> PydanticCustomError:
    """Word the error of an unknown key, or word under a key, `key` being its place in the part."""
    hint = nearest(word or key[-1], known, what)
    return PydanticCustomError("unknown_key", "{hint}", {"key": key, "hint": hint})


def _load(text: str, name: str) -> tuple[Any, dict[tuple[Any, ...], int]]:
    lines: dict[tuple[Any, ...], int] = {}
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        at = text.count("\n", 0, error.position) + 1
        what = f"the character {chr(error.character)!r}"
        raise ValueError(f"{name}:{at}: not YAML: {what} is not allowed; remove it") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return None, lines
        _walk(loader, node, (), lines, set(), name)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        cure = CURES.get(str(error.problem), "")
        raise ValueError(f"{name}{line}: not YAML: {error.problem}{cure}") from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """YAML of numbers, text, `true` and `false`, within bounds.

    A node is measured as soon as it is composed, from the inside out: an alias counts as often as
    it is used, and one that holds itself is still without a measure where it is met.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.sizes: dict[int, tuple[int, int]] = {}  # levels and values of each node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        """Compose a node, unless it is too deep, too large, or holds itself."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark, alias = event.start_mark, isinstance(event, yaml.AliasEvent)
        self.depth += 1
        if self.depth > DEEPEST:
            _refuse(f"nested more than {DEEPEST} levels deep", mark)
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if alias:
            if id(node) not in self.sizes:
                _refuse("an alias leads to what holds it", mark)
            return node
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        levels, values = 1, 1
        for part in parts:
            depth, count = self.sizes[id(part)]
            levels, values = max(levels, 1 + depth), values + count
        if levels > DEEPEST or values > MOST:
            _refuse(f"more than {DEEPEST} levels, or than {MOST:,} values, with its aliases", mark)
        self.sizes[id(node)] = levels, values
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a value; one that is not what its tag says is a fault of the file."""
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            kind = KINDS.get(node.tag, node.tag.rpartition(":")[2])
            return _refuse(
                f"{node.value!r:.40} is not {kind}; quote it if it is text", node.start_mark
            )


def _refuse(problem: str, mark: yaml.Mark) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in (_BOOL, _FLOAT, _INT, _DATE)]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    _INT, re.compile(r"[-+]?(?:0|[1-9][\d_]*|0x[\da-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf|\.Inf)$|\.nan$"),
    list("-+0123456789."),
)


def _walk(
    loader: _Loader,
    node: yaml.Node,
    at: tuple[Any, ...],
    lines: dict[tuple[Any, ...], int],
    seen: set[int],
    name: str,
) -> None:
    """Note the line of every key, and refuse keys that are given twice."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*at, index)] = item.start_mark.line + 1
            _walk(loader, item, (*at, index), lines, seen, name)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse("a key must be a word", key.start_mark)
            below = (*at, key.value)
            if below in lines and below[-1] != "<<":
                raise ValueError(
                    f"{name}:{key.start_mark.line + 1}: {key.value!r} is given twice; "
                    f"first in line {lines[below]}"
                )
            lines[below] = key.start_mark.line + 1
            _walk(loader, value, below, lines, seen, name)


def _expand(value: Any, source: Source, at: tuple[Any, ...]) -> Any:
    """Replace environment variables in a value."""
    if isinstance(value, dict):
        return {key: _expand(item, source, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, source, (*at, index)) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, otherwise = match.groups()
        text = os.environ.get(name) or otherwise
        if text is None:
            message = f"environment variable {name} is not set; set it, or write ${{{name}:-path}}"
            raise ValueError(source.error(at, message))
        return text

    return _VARIABLE.sub(replace, value)


def _spell(source: Source, fault: ErrorDetails) -> str:
    at: list[Any] = []
    values = source.values
    for key in fault["loc"][:-1]:  # tags of unions are in the place, but not in the file
        if _has(values, key):
            at.append(key)
            values = values[key]
    at += fault["loc"][-1:]
    context = fault.get("ctx", {})
    match fault["type"]:
        case "unknown_key":
            at = at if _leads(source.values, (*at, *context["key"])) else at[:-1]
            return source.error((*at, *context["key"]), context["hint"])
        case "missing":
            return source.error(tuple(at), "missing; it must be given")
        case "union_tag_invalid":
            tags = str(context["expected_tags"]).replace("'", "").split(", ")
            return source.error((*at, "kind"), nearest(context["tag"], tags, "kind"))
        case "union_tag_not_found":
            return source.error(tuple(at), "missing its kind")
        case "value_error":
            at = at if _leads(source.values, at) else at[:-1]
            message = str(context["error"])
            return source.error(tuple(at), message) if at else source.located(message)
    at = at if _leads(source.values, at) else at[:-1]
    message = WORDS.get(fault["type"]) or fault["msg"][0].lower() + fault["msg"][1:]
    return source.error(tuple(at), f"{message}, got {fault['input']!r}")


def _mentions(text: str, name: str) -> bool:
    """Return whether a name stands in a text as a word of its own."""
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", text) is not None


@contextmanager
def located(path: str | Path, settings: Iterable[str] = ()) -> Iterator[None]:
    """Give errors that are raised meanwhile the line of the study file that they are about.

    Args:
        path: The study file.
        settings: As `read` takes them.
    """
    try:
        yield
    except ValueError as error:
        try:
            source = read(path, settings)
        except ValueError:
            raise error from None
        raise ValueError(source.located(str(error))) from None


def _has(values: Any, key: Any) -> bool:
    if isinstance(values, list):
        return isinstance(key, int) and key < len(values)
    return isinstance(values, dict) and key in values


def _leads(values: Any, at: Iterable[Any]) -> bool:
    for key in at:
        if not _has(values, key):
            return False
        values = values[key]
    return True
