"""`params.yaml`, typed and validated: every key that the pipeline knows, its type and its range."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from surrodiff.errors import UserError
from surrodiff.model_params import DDPM, SNGAN, Block, Count, Fraction, Natural, Positive, Precision, Seed

Rows = Annotated[list[str], Field(min_length=1)]


def _auto_or(says: str, allowed: Callable[[Any], bool]) -> BeforeValidator:
    """One message for `auto` or another type, where a union would give one for each of its types."""

    def check(value: Any):
        if value != "auto" and not allowed(value):
            raise PydanticCustomError("auto_or", f"must be auto or {says}")
        return value

    return BeforeValidator(check)


CountOrAuto = Annotated[int | Literal["auto"], _auto_or("a whole number from 1", lambda v: type(v) is int and v > 0)]
SwitchOrAuto = Annotated[bool | Literal["auto"], _auto_or("true or false", lambda v: isinstance(v, bool))]


class Data(Block):
    """Where the pictures come from. `path` is the archive's folder (cifar10) or the picture folder (image_folder);
    `held_out` is the part kept for calibration where the source has no test split of its own."""

    source: Literal["digits", "cifar10", "image_folder"]
    path: str | None
    image_size: Count
    channels: Literal[1, 3]
    held_out: Fraction
    seed: Seed
    revision: Count

    @model_validator(mode="after")
    def _check(self):
        if self.source != "digits" and not self.path:
            raise ValueError(f"path: source {self.source} needs a folder")
        if self.source == "digits" and self.channels != 1:
            raise ValueError("channels: digits are greyscale; write 1")
        if self.source == "cifar10" and self.channels != 3:
            raise ValueError("channels: CIFAR-10 is in colour; write 3")
        return self


class Sampling(Block):
    num_samples: Annotated[int, Field(ge=4)]  # two for each half of the jackknife's
    variance: Literal["fixed_large", "fixed_small"]
    clip_x0: bool
    precision: Precision
    revision: Count


class Seeds(Block):
    """Every row of a table is made once for each pair of a training and a sampling seed and shows their mean;
    `calibration`: the training seeds of Default whose spread says how much of a difference is noise."""

    training: Annotated[list[Seed], Field(min_length=1)]
    sampling: Annotated[list[Seed], Field(min_length=1)]
    calibration: list[Seed]

    @model_validator(mode="after")
    def _check(self):
        for key, seeds in self:
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{key}: the same seed twice in {seeds}")
        return self


class Surrogate(Block):
    """Surrogate Diffusion (section 4.5): the timesteps at which Default takes over, and what a low-resolution DDPM
    hands over: its estimate of x_0 (Algorithm 4) or its noisy x_t."""

    t_mid: Annotated[list[Natural], Field(min_length=1)]
    handover: Literal["x0", "x_t"]


class Classifier(Block):
    channels: Count
    steps: Count
    batch_size: Count
    learning_rate: Positive
    seed: Seed
    revision: Count


class Scoring(Block):
    """`kept_features`: at most so many of each set are kept for KID, precision and recall; the Frechet distance and the
    Inception Score use all, in memory that does not grow with their number."""

    features: Literal["classifier", "efficientnet_lite0", "inception", "inception_clean"]
    precision: Literal["float32", "bfloat16"]
    classifier: Classifier
    is_splits: Count
    kid_subsets: Count
    kid_subset_size: Annotated[int, Field(ge=2)]
    neighbours: Count
    kept_features: Annotated[int, Field(ge=2)]
    revision: Count

    @model_validator(mode="after")
    def _check(self):
        for key in ("kid_subset_size", "neighbours"):
            if getattr(self, key) >= self.kept_features:
                raise ValueError(f"{key}: must be less than kept_features ({self.kept_features})")
        return self


class Likelihood(Block):
    """The variational bound of every diffusion model on `num_images` held-out pictures; `clip_x0`: with the predicted
    x_0 clipped to [-1, 1], as published bounds are."""

    num_images: Annotated[int, Field(ge=2)]
    clip_x0: bool
    precision: Precision
    seed: Seed
    revision: Count


class Timing(Block):
    """Speeds are medians over `rounds`; in each, the model and Default take turns."""

    rounds: Count
    train_steps: Count
    sampling_steps: Count
    batch_size: Count
    revision: Count


class Execution(Block):
    """How the work is done. Nothing here changes what comes out beyond rounding, so nothing here is part of a run's
    identity."""

    threads: Count
    gpus_per_job: Count
    compile: SwitchOrAuto
    channels_last: SwitchOrAuto
    fused: bool
    micro_batch: Count | None
    sampling_batch: CountOrAuto
    checkpoint_every: Count
    log_every: Count


def _merged(base: dict, change: dict) -> dict:
    out = dict(base)
    for key, value in change.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


class Preset(Block):
    data: Data
    models: dict[Annotated[str, Field(pattern=r"^\w+$")], Annotated[DDPM | SNGAN, Field(discriminator="kind")]]
    seeds: Seeds
    evaluated_steps: Annotated[list[Count], Field(min_length=1)]
    sampling: Sampling
    surrogate: Surrogate
    scoring: Scoring
    likelihood: Likelihood
    timing: Timing
    execution: Execution

    @model_validator(mode="before")
    @classmethod
    def _differences_from_default(cls, raw: Any):
        models = raw.get("models") if isinstance(raw, dict) else None
        if not isinstance(models, dict):
            return raw
        if not isinstance(models.get("Default"), dict):
            raise ValueError("models.Default: missing; the other models are differences from it")
        full = {
            name: own if not isinstance(own, dict) or "kind" in own else _merged(models["Default"], own)
            for name, own in models.items()
        }
        return {**raw, "models": full}

    @model_validator(mode="after")
    def _check(self):
        default = self.models["Default"]
        if default.kind != "ddpm":
            raise ValueError("models.Default.kind: must be ddpm")
        if default.image_size != self.data.image_size:
            raise ValueError(f"models.Default.image_size: must be data.image_size ({self.data.image_size})")
        for name, model in self.models.items():
            if model.kind == "sngan" and model.image_size != self.data.image_size:
                raise ValueError(f"models.{name}.image_size: SNGAN's must be data.image_size ({self.data.image_size})")
            if model.image_size > self.data.image_size:
                raise ValueError(f"models.{name}.image_size: larger than data.image_size ({self.data.image_size})")
        for t_mid in self.surrogate.t_mid:
            if t_mid > default.diffusion.T:
                raise ValueError(f"surrogate.t_mid: {t_mid} is beyond Default's T = {default.diffusion.T}")
        if self.sampling.num_samples < self.scoring.is_splits:
            raise ValueError(f"scoring.is_splits: more splits than the {self.sampling.num_samples} samples")
        return self


class Tables(Block):
    """The models of each table, in the order of its rows."""

    table_4_1: Rows
    table_4_2: Rows
    table_4_3: Rows
    table_4_4: Rows
    table_4_5: Rows


class Params(Block):
    preset: str
    device: Literal["auto", "cpu", "cuda"]
    tables: Tables
    presets: dict[str, Preset]

    @property
    def selected(self) -> Preset:
        return self.presets[self.preset]

    @model_validator(mode="after")
    def _check(self):
        if self.preset not in self.presets:
            raise ValueError(f"preset: unknown {self.preset!r}; there are {', '.join(self.presets)}")
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
        return self


def _keys(error: dict) -> list[str]:
    """Where in the file an error is; the tags of the union of models stand only in pydantic's locations."""
    return [str(k) for k in error["loc"] if k not in ("ddpm", "sngan", "[key]")]


def _message(error: dict) -> str:
    """One line for one of pydantic's errors: the key, what is wrong, what was found."""
    keys = _keys(error)
    found = error["input"]
    text = {"extra_forbidden": "unknown key", "missing": "missing"}.get(error["type"], error["msg"])
    text = text.removeprefix("Value error, ")
    if error["type"] not in ("extra_forbidden", "missing") and not isinstance(found, dict | list | BaseModel):
        text += f", got {found!r}"
        if isinstance(found, str) and error["type"] in ("float_type", "int_type"):
            text += " (YAML reads 2e-4 as text; write 2.0e-4)"
    # Cross-checks say their key themselves, relative to the block in which they were found.
    return ".".join(keys) + (".", ": ")[error["type"] != "value_error"] + text if keys else text


def parse(raw: Any, source: str = "params.yaml") -> Params:
    """The typed parameters of a loaded YAML document; `source` names the file in messages.

    Raises UserError with one line for each wrong key, type or range.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        # A wrong key of Default is wrong in every model that inherits it: say it once.
        errors = error.errors()
        of_default = [_keys(e) for e in errors if _keys(e)[3:4] == ["Default"]]

        def inherited(keys: list[str]) -> bool:
            as_default = [*keys[:3], "Default", *keys[4:]]
            return keys not in of_default and any(as_default[: len(wrong)] == wrong for wrong in of_default)

        lines = [_message(e) for e in errors if not inherited(_keys(e))]
        raise UserError("\n".join(f"{source}: {line}" for line in lines)) from None


def load(path: Path = Path("params.yaml"), **overrides: str | None) -> Params:
    """Read and validate a params file; overrides (`preset`, `device`) replace its top-level keys where not None.

    Raises UserError if the file is missing, is no YAML, or does not validate.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; run this in the folder that holds params.yaml, or pass --params"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(raw, dict):
        raw = {**raw, **{key: value for key, value in overrides.items() if value is not None}}
    return parse(raw, str(path))
