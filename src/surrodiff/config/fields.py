"""What blocks of `params.yaml` are made of: the classes of blocks, names, and numbers with their bounds."""

import os
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction as Exact
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_serializer
from pydantic_core import PydanticCustomError

# 10 to 100 times the largest published use that we know of: beyond lies a slip, such as a zero too many.
MOST_SIDE = 4_096  # pixels
MOST_WIDTH = 16_384  # channels
MOST_TIMESTEPS = 100_000
MOST_BATCH = 1_000_000
MOST_STEPS = 100_000_000
MOST_RATE = 1e38  # float32 holds no more; likewise less than LEAST_RATE is nothing to it
LEAST_RATE = 1e-38
MOST_REPETITIONS = 1_000  # rounds, splits, discriminator steps
MOST_REVISIONS = 1_000_000


def _named(text: str) -> str:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,59}", text):
        raise PydanticCustomError("name", "a name has a letter, then letters (a to z), digits or _; at most 60 in all")
    return text


def _distinct(values: list) -> list:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise PydanticCustomError("distinct", "{value} is listed more than once", {"value": twice[0]})
    return values


def _share(value: Any) -> Any:
    """A share as it is written: 1, 0.25 or 1/3."""
    text = str(value)
    if (
        isinstance(value, bool)
        or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,15}|/[0-9]{1,9})?", text)
        or not as_share(text) <= 1
    ):
        raise PydanticCustomError("share", "must be a share from 0 to 1, such as 0.25 or 1/3")
    return value


def as_share(written: str | int | float) -> Exact:
    """The number that a share stands for."""
    try:
        return Exact(str(written))
    except ZeroDivisionError:
        return Exact(2)


def check_path(path: str, key: str = "path"):
    """Raise ValueError, which begins with the key, for text that is no path."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError(f"{key}: half of a character; write the whole one") from None
    if b"\0" in encoded:
        raise ValueError(f"{key}: a NUL character, which no path has; remove it")


# What becomes a part of paths and of commands.
Name = Annotated[str, AfterValidator(_named)]
Distinct = AfterValidator(_distinct)
Text = Annotated[str, Field(min_length=1, max_length=1_000)]
Share = Annotated[Any, BeforeValidator(_share)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]
Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]
Batch = Annotated[int, Field(ge=1, le=MOST_BATCH)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Repetitions = Annotated[int, Field(ge=1, le=MOST_REPETITIONS)]
Revision = Annotated[int, Field(ge=1, le=MOST_REVISIONS)]
Rate = Annotated[float, Field(ge=LEAST_RATE, le=MOST_RATE)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
# Zero is one number, whatever its sign: a run's id is made from how it prints.
FractionOrZero = Annotated[float, Field(ge=0, lt=1), AfterValidator(lambda value: value + 0.0)]
Timesteps = Annotated[int, Field(ge=2, le=MOST_TIMESTEPS)]
Precision = Literal["auto", "float32", "bfloat16"]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Grown(Block):
    """A block to which later versions have added keys (`later`): at their defaults they are left out of what a run's id
    is made from, so that runs of before keep theirs."""

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later(self, handler: Callable) -> dict:
        defaults = {key: type(self).model_fields[key].default for key in self.later}
        return {key: value for key, value in handler(self).items() if key not in defaults or value != defaults[key]}
