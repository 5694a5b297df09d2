"""What is wrong with a document, in lines that name the file and the key and say what to do."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from surrodiff.config import documents
from surrodiff.errors import UserError, printable

MOST_LINES = 20  # of errors at once

_PLAIN = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "model_type": "must be a block of keys",
    "dict_type": "must be a block of keys",
    "list_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}


def shown(value: Any) -> str:
    """A found value in a message."""
    if type(value) is int and value.bit_length() > 4 * documents.MOST_DIGITS:
        return "a huge number"
    return printable(repr(value), 60)


def _is_quoted(found: Any, error_type: str) -> bool:
    """Whether a text would be the wanted number without its quotes."""
    wanted = {"int_type": (int,), "float_type": (int, float)}.get(error_type)
    if not wanted or not isinstance(found, str) or len(found) > documents.MOST_DIGITS:
        return False
    return type(documents.scalar(found)) in wanted


def keys_of(error: dict, tags: tuple[str, ...]) -> list[str]:
    """Where in the document an error is, without what only pydantic's locations have: the tags of unions, and the mark
    of a key that is wrong itself."""
    keys = [str(key) for key in error["loc"]]
    if error["type"] == "name" and keys[-1:] == ["[key]"]:
        keys.pop()
    # Names of keys may be a tag's as well: of those, only what follows a union's place is a tag.
    return [
        key
        for at, key in enumerate(keys)
        if not (key in tags and at >= 2 and keys[at - 2] in ("models", "samplers", "figures"))
    ]


def message(error: dict, keys: list[str]) -> str:
    """One of pydantic's errors: the key, what is wrong, what was found."""
    found, kind = error["input"], error["type"]
    text = _PLAIN.get(kind, error["msg"].removeprefix("Value error, "))
    if kind not in ("extra_forbidden", "missing") and not isinstance(found, dict | list | BaseModel):
        text += f", got {shown(found)}" + "; write it without quotes" * _is_quoted(found, kind)
    where = ".".join(printable(key, 60) for key in keys)
    # Cross-checks say their key themselves, relative to the block in which they were found.
    return where + (".", ": ")[kind != "value_error"] * bool(keys) + printable(text)


def refusal(found: ValidationError, tags: tuple[str, ...], line: Callable[[dict, list[str]], str | None]) -> UserError:
    """All errors of a document, one a line, each once; `line` gives that of an error and its keys, or None."""
    errors = found.errors(include_url=False)
    lines = list(dict.fromkeys(filter(None, (line(error, keys_of(error, tags)) for error in errors))))
    if len(lines) > MOST_LINES:
        source = lines[0].split(": ")[0]
        lines = [*lines[:MOST_LINES], f"{source}: and {len(lines) - MOST_LINES:,} more like these"]
    return UserError("\n".join(lines))
