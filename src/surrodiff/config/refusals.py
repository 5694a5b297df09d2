"""What is wrong with a document, in lines that name the file and the key and say what to do."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from surrodiff.config import documents
from surrodiff.errors import UserError, printable

MOST_LINES = 20  # of errors at once

MISSING = ("missing", "union_tag_not_found")  # the kinds of errors about what is not there
_PLAIN = {
    "extra_forbidden": "unknown key",
    **dict.fromkeys(MISSING, "missing"),
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
    "dict_type": "must be a block of keys",
    "list_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}
UNKNOWN = ("extra_forbidden", "unknown_column")  # the kinds of errors whose text or key has the found value in it


def shown(value: Any) -> str:
    """A found value in a message."""
    if type(value) is int and value.bit_length() > 4 * documents.MOST_DIGITS:
        return "a huge number"
    return printable(repr(value), 60)


def _is_quoted(value: Any, error_type: str) -> bool:
    """Whether a text would be the wanted number without its quotes."""
    wanted = {"int_type": (int,), "float_type": (int, float)}.get(error_type)
    if not wanted or not isinstance(value, str) or len(value) > documents.MOST_DIGITS:
        return False
    return type(documents.scalar(value)) in wanted


def keys_of(error: dict, tags: tuple[str, ...]) -> list[str]:
    """Where in the document an error is, without what only pydantic's locations have: the tags of unions, and the mark
    of a key that is wrong itself."""
    keys = [str(key) for key in error["loc"]]
    if error["type"] == "name" and keys[-1:] == ["[key]"]:
        keys.pop()
    if error["type"].startswith("union_tag"):
        keys.append(error["ctx"]["discriminator"].strip("'"))
    # Names of keys may be a tag's as well: of those, only what follows a union's place is a tag.
    return [
        key
        for index, key in enumerate(keys)
        if not (key in tags and index >= 2 and keys[index - 2] in ("models", "samplers", "surrogates", "figures"))
    ]


def about(error: dict, keys: list[str]) -> list[str]:
    """The keys of what an error is about: cross-checks say theirs themselves, relative to the block that they check."""
    return keys + error["msg"].removeprefix("Value error, ").split(": ")[0].split(".") * (
        error["type"] == "value_error"
    )


def _as_written(keys: list[str], raw: Any) -> list[str]:
    """The keys without a place in a list, where a document has the value alone."""
    for key in keys[:-1]:
        if isinstance(raw, dict):
            raw = raw.get(key)
        elif isinstance(raw, list) and key.isdigit() and int(key) < len(raw):
            raw = raw[int(key)]
        else:
            return keys
    return keys if raw is None or isinstance(raw, dict | list) else keys[:-1]


def message(error: dict, keys: list[str]) -> str:
    """One of pydantic's errors: the key, what is wrong, what was found."""
    value, kind = error["input"], error["type"]
    text = _PLAIN.get(kind, error["msg"].removeprefix("Value error, "))
    match kind:
        case "union_tag_invalid":
            text = f"must be one of {error['ctx']['expected_tags']}, got {shown(error['ctx']['tag'])}"
        case "too_short":
            length = error["ctx"]["actual_length"]
            text = (
                f"{f'a list of {length}' if length else 'an empty list'}; write at least {error['ctx']['min_length']}"
            )
        case "literal_error":
            text = f"must be {error['ctx']['expected']}"
    if kind not in (*UNKNOWN, *MISSING) and not isinstance(value, dict | list | BaseModel):
        text += f", got {shown(value)}" + "; write it without quotes" * _is_quoted(value, kind)
    where = ".".join(printable(key, 60) for key in keys)
    # Cross-checks say their key themselves, relative to the block in which they were found.
    return where + (".", ": ")[kind != "value_error"] * bool(keys) + printable(text)


def refusal(
    validation_error: ValidationError, raw: Any, tags: tuple[str, ...], line: Callable[[dict, list[str]], str | None]
) -> UserError:
    """All errors of a document, one a line, each once; `line` gives that of an error and its keys, or None."""
    errors = validation_error.errors(include_url=False)
    lines = list(dict.fromkeys(filter(None, (line(error, _as_written(keys_of(error, tags), raw)) for error in errors))))
    if len(lines) > MOST_LINES:
        source = lines[0].split(": ")[0]
        lines = [*lines[:MOST_LINES], f"{source}: and {len(lines) - MOST_LINES:,} more like these"]
    return UserError("\n".join(lines))
