"""A YAML file as plain values, by YAML 1.2's core schema, in bounded work; every mistake is named with its line.

A loader of its own, because PyYAML's reads YAML 1.1 (`5e-05` is text, `yes` is true), takes the last of two equal keys
in silence, and follows anchors wherever they lead.
"""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from surrodiff.errors import UserError, printable

# Many times what a params file needs; beyond lies what was made to exhaust a reader, or is no params file.
MOST_BYTES = 1_000_000
MOST_VALUES = 20_000  # an alias counts as all that it stands for
MOST_KEYS = 200  # of one block
MOST_LEVELS = 20  # of blocks and lists inside each other
MOST_DIGITS = 100

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}


class Mistake(Exception):
    """What is wrong with a document; the text names the place."""


def scalar(text: str) -> Any:
    """The value of plain (unquoted) text: null, a truth value, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    is_int = _INT.fullmatch(text)
    if not (is_int or _FLOAT.fullmatch(text)):
        return text
    if len(text) > MOST_DIGITS:
        raise Mistake(f"a number of {len(text):,} characters; write at most {MOST_DIGITS}")
    if not is_int:
        return float(text)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text if base == 10 else text[2:], base)


class _Budget:
    """Counts values, and stops where there are too many."""

    def __init__(self):
        self.values = 0

    def take(self, values: int):
        self.values += values
        if self.values > MOST_VALUES:
            raise Mistake(f"more than {MOST_VALUES:,} values, counting what aliases stand for; shorten the document")

    def enter(self, level: int):
        self.take(1)
        if level > MOST_LEVELS:
            raise Mistake(f"more than {MOST_LEVELS} blocks and lists inside each other; check the brackets")


class _Reader:
    """Builds the value of a document from PyYAML's events."""

    def __init__(self, text: str):
        self.events = yaml.parse(text, yaml.SafeLoader)
        self.event: Any = None
        self.budget = _Budget()
        # Value and number of values by anchor; None while the value is not complete.
        self.anchors: dict[str, tuple[Any, int] | None] = {}

    def _next(self):
        self.event = next(self.events)
        return self.event

    def document(self) -> Any:
        value = None
        self._next()  # the stream's start
        if not isinstance(self._next(), yaml.StreamEndEvent):
            value = self._value(self._next(), (), 0)
            self._next()  # the document's end
            if not isinstance(self._next(), yaml.StreamEndEvent):
                raise Mistake("a second document begins (---); keep one")
        return value

    def _value(self, event, keys: tuple[str, ...], level: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor)
        if event.tag is not None:
            raise Mistake(f"the tag {event.tag}; write the value without a tag")
        values_before = self.budget.values
        self.budget.enter(level)
        if event.anchor:
            self.anchors[event.anchor] = None
        match event:
            case yaml.ScalarEvent():
                value = scalar(event.value) if event.implicit[0] else event.value
            case yaml.SequenceStartEvent():
                value = []
                while not isinstance(self._next(), yaml.SequenceEndEvent):
                    value.append(self._value(self.event, (*keys, str(len(value))), level + 1))
            case _:
                value = self._block(keys, level)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.budget.values - values_before)
        return value

    def _alias(self, name: str) -> Any:
        if name not in self.anchors:
            raise Mistake(f"*{name} stands for nothing: no &{name} before it")
        if self.anchors[name] is None:
            raise Mistake(f"*{name} stands inside what it stands for")
        value, values = self.anchors[name]
        self.budget.take(values)
        return value

    def _block(self, keys: tuple[str, ...], level: int) -> dict:
        entries: dict[str, Any] = {}
        inherited: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(self._next(), yaml.MappingEndEvent):
            if not isinstance(self.event, yaml.ScalarEvent) or self.event.tag is not None:
                raise Mistake("a key must be plain text")
            key, is_merge = self.event.value, self.event.value == "<<" and self.event.implicit[0]
            inner_keys = (*keys, key)
            if key in lines:
                raise Mistake(f"{'.'.join(inner_keys)}: the same key as in line {lines[key]}; keep one")
            lines[key] = self.event.start_mark.line + 1
            if len(lines) > MOST_KEYS:
                raise Mistake(f"{'.'.join(keys)}: more than {MOST_KEYS} keys in one block")
            value = self._value(self._next(), inner_keys, level + 1)
            if is_merge:
                inherited = _bases(value)
            else:
                entries[key] = value
        return {**inherited, **entries}


def _bases(value: Any) -> dict:
    """What `<<` takes over: a block, or a list of blocks of which the first wins."""
    blocks = value if isinstance(value, list) else [value]
    if not all(isinstance(block, dict) for block in blocks):
        raise Mistake("<<: takes over blocks only")
    inherited: dict = {}
    for block in reversed(blocks):
        inherited |= block
    return inherited


def parse(text: str) -> Any:
    """The value of a document. Raises Mistake, which names the line."""
    reader = _Reader(text)
    try:
        return reader.document()
    except Mistake as mistake:
        raise Mistake(f"line {reader.event.start_mark.line + 1}: {mistake}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Mistake(f"not valid YAML: line {line}: the character {chr(error.character)!r}; remove it") from None
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise Mistake(f"not valid YAML: line {line}: {problem}") from None
    except (ValueError, OverflowError):  # of an escape such as "\UFFFFFFFF", or a version such as %YAML 9...9
        line = reader.event.end_mark.line + 1
        raise Mistake(f"not valid YAML: after line {line}: a number that stands for nothing") from None


def read(path: Path) -> Any:
    """The value of a YAML file. Raises UserError, which names the file and the line."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        hint = "run this in the folder that holds params.yaml, or pass --params"
        raise UserError(f"{printable(str(path))}: {error.strerror}; {hint}") from None
    except OSError as error:
        raise UserError(f"{printable(str(path))}: {error.strerror}; it must be a file that can be read") from None
    if len(data) > MOST_BYTES:
        raise UserError(f"{printable(str(path))}: larger than {MOST_BYTES:,} bytes; it is no params file")
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{printable(str(path))}: line {line}: not UTF-8; save the file in UTF-8") from None
    except Mistake as mistake:
        raise UserError(f"{printable(str(path))}: {printable(str(mistake))}") from None


def resolved(value: Any) -> Any:
    """A value whose texts came without a sign of whether they were quoted, as Snakemake hands over `--config`: each is
    read as plain text of a document is. Raises Mistake."""
    budget = _Budget()

    def resolve_one(value: Any, level: int) -> Any:
        budget.enter(level)
        if isinstance(value, dict):
            return {str(key): resolve_one(part, level + 1) for key, part in value.items()}
        if isinstance(value, list):
            return [resolve_one(part, level + 1) for part in value]
        return scalar(value) if isinstance(value, str) else value

    return resolve_one(value, 0)


def merged(base: dict, change: dict) -> dict:
    """A block with some of its keys changed; blocks inside are merged, everything else is replaced."""
    result = dict(base)
    for key, value in change.items():
        result[key] = (
            merged(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
        )
    return result
