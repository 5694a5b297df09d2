"""`params.yaml`, typed and validated: every key that the pipeline knows, its type and its range."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from surrodiff.config import cautions, documents
from surrodiff.config.models import Block, Distinct, Name
from surrodiff.config.presets import MOST_RUNS, Preset
from surrodiff.errors import UserError, printable

Rows = Annotated[list[Name], Field(min_length=1), Distinct]

MOST_LINES = 20  # of errors at once


class Tables(Block):
    """The models of each table, in the order of its rows."""

    table_4_1: Rows
    table_4_2: Rows
    table_4_3: Rows
    table_4_4: Rows
    table_4_5: Rows

    def sample_runs(self, preset: Preset) -> int:
        """How many sets of samples the rows ask for with a preset's seeds, counting what tables share."""
        rows = (len(self.table_4_1) + len(self.table_4_2)) * len(preset.evaluated_steps)
        rows += len(self.table_4_3) + len(self.table_4_4) + len(self.table_4_5) * len(preset.surrogate.t_mid)
        seeds = preset.seeds
        return (rows * len(seeds.training) + len(seeds.calibration)) * len(seeds.sampling)


class Params(Block):
    preset: str
    device: Literal["auto", "cpu", "cuda"]
    tables: Tables
    presets: dict[Name, Preset]

    @property
    def selected(self) -> Preset:
        return self.presets[self.preset]

    @model_validator(mode="after")
    def _check(self):
        if self.preset not in self.presets:
            raise ValueError(f"preset: unknown {_shown(self.preset)}; there are {', '.join(self.presets)}")
        for preset_name, preset in self.presets.items():
            where = f"presets.{preset_name}"
            for table, names in self.tables:
                for name in names:
                    if name not in preset.models:
                        raise ValueError(f"tables.{table}: {where}.models has no {name!r}")
                    if table != "table_4_5" and preset.models[name].kind != "ddpm":
                        raise ValueError(f"tables.{table}: {name} is no diffusion model; it belongs in table_4_5")
            for table in ("table_4_1", "table_4_2"):
                for name in getattr(self.tables, table):
                    training = preset.models[name].training
                    for step in preset.evaluated_steps:
                        if step > training.steps or step % training.snapshot_every:
                            raise ValueError(
                                f"{where}.evaluated_steps: {step} is no multiple of models.{name}.training."
                                f"snapshot_every ({training.snapshot_every}) up to {training.steps}"
                            )
            for name in self.tables.table_4_5:
                model = preset.models[name]
                if model.kind == "ddpm" and model.diffusion != preset.models["Default"].diffusion:
                    raise ValueError(f"{where}.models.{name}.diffusion: a surrogate needs Default's schedule")
            if (runs := self.tables.sample_runs(preset)) > MOST_RUNS:
                raise ValueError(
                    f"{where}.seeds: with the rows of the tables, {runs:,} sets of samples; at most {MOST_RUNS:,}"
                )
        return self


def _shown(value: Any) -> str:
    """A found value in a message."""
    if type(value) is int and value.bit_length() > 4 * documents.MOST_DIGITS:
        return "a huge number"
    return printable(repr(value), 60)


def _keys(error: dict) -> list[str]:
    """Where in the document an error is, without what only pydantic's locations have: the tags of the union of models,
    and the mark of a key that is wrong itself."""
    keys = [str(key) for key in error["loc"]]
    if error["type"] == "name" and keys[-1:] == ["[key]"]:
        keys.pop()
    if keys[2:3] == ["models"] and keys[4:5] in (["ddpm"], ["sngan"]):
        del keys[4]
    return keys


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


def _is_quoted(found: Any, error_type: str) -> bool:
    """Whether a text would be the wanted number without its quotes."""
    wanted = {"int_type": (int,), "float_type": (int, float)}.get(error_type)
    if not wanted or not isinstance(found, str) or len(found) > documents.MOST_DIGITS:
        return False
    return type(documents.scalar(found)) in wanted


def _message(error: dict) -> str:
    """One line for one of pydantic's errors: the key, what is wrong, what was found."""
    keys, found, kind = _keys(error), error["input"], error["type"]
    text = _PLAIN.get(kind, error["msg"].removeprefix("Value error, "))
    if kind not in ("extra_forbidden", "missing") and not isinstance(found, dict | list | BaseModel):
        text += f", got {_shown(found)}" + "; write it without quotes" * _is_quoted(found, kind)
    where = ".".join(printable(key, 60) for key in keys)
    # Cross-checks say their key themselves, relative to the block in which they were found.
    return where + (".", ": ")[kind != "value_error"] * bool(keys) + printable(text)


def _is_given(keys: list[str], changes: Any) -> bool:
    """Whether changes touch what a key stands for."""
    if not changes:
        return False
    for key in keys:
        if not isinstance(changes, dict):
            return True
        if key not in changes:
            return False
        changes = changes[key]
    return True


def _refusal(errors: list[dict], source: str, changes: dict) -> UserError:
    """All errors, one a line; what `changes` touch may come from the command line."""
    keys_of = [_keys(error) for error in errors]
    of_default = {tuple(keys) for keys in keys_of if keys[3:4] == ["Default"]}

    def is_inherited(keys: list[str]) -> bool:
        """A wrong key of Default is wrong in every model that inherits it: it is said once."""
        as_default = (*keys[:3], "Default", *keys[4:])
        return keys[3:4] != ["Default"] and any(as_default[:end] in of_default for end in range(4, len(keys) + 1))

    own = [(error, keys) for error, keys in zip(errors, keys_of, strict=True) if not is_inherited(keys)]
    source = printable(source)
    lines = []
    for error, keys in own[:MOST_LINES]:
        touched = keys[:-1] if error["type"] == "missing" else keys
        lines.append(f"{source}{' or --config' if _is_given(touched, changes) else ''}: {_message(error)}")
    if len(own) > MOST_LINES:
        lines.append(f"{source}: and {len(own) - MOST_LINES:,} more like these")
    return UserError("\n".join(lines))


def parse(raw: Any, source: str = "params.yaml", changes: dict | None = None) -> Params:
    """The typed parameters of a loaded document; `source` names the file in messages.

    changes: what the command line has put into `raw`, to be named as another place where an error may lie.
    Raises UserError with one line for each wrong key, type or range.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False), source, changes or {}) from None


def load(path: Path = Path("params.yaml"), changes: dict | None = None, **overrides: str | None) -> Params:
    """Read and validate a params file. overrides (`preset`, `device`) replace its top-level keys where not None;
    changes are merged into it: what `snakemake --config` and `--configfile` hand over, in which text is read as a plain
    word of the file is.

    Raises UserError if the file is missing, is no YAML, or does not validate.
    """
    raw = documents.read(path)
    try:
        changes = documents.resolved(changes or {})
    except documents.Mistake as mistake:
        raise UserError(f"--config: {mistake}") from None
    if isinstance(raw, dict):
        raw = documents.merged(raw, changes)
        raw |= {key: value for key, value in overrides.items() if value is not None}
    return parse(raw, str(path), changes)


def of_config(config: dict) -> Params:
    """The typed parameters of a whole configuration that a workflow gives to this one as its module; text in it is read
    as a plain word of params.yaml is. Raises UserError as `parse` does."""
    try:
        return parse(documents.resolved(config), "config")
    except documents.Mistake as mistake:
        raise UserError(f"config: {mistake}") from None


def warnings(params: Params, source: str = "params.yaml") -> list[str]:
    """One line for each thing that the selected preset may say but most likely does not mean."""
    return [
        f"{printable(source)}: warning: presets.{params.preset}.{text}" for text in cautions.of_preset(params.selected)
    ]
