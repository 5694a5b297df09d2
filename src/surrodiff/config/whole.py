"""All parameters and studies as one document: what presets share written out in each of them."""

from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from surrodiff.config.documents import merged
from surrodiff.config.fields import Block, Name
from surrodiff.config.presets import Preset
from surrodiff.config.refusals import shown
from surrodiff.config.studies import Line, Row, Study

BASE = "paper"  # the preset that is written out
LIKE = "like"  # the key of a model that is a difference from another one than Default
# Blocks of the document that every preset has, and may change; the last may be absent.
SHARED = ("models", "samplers", "surrogates")


def _complete(raw: dict) -> dict:
    """A document whose presets are written out: each is the preset BASE with its own differences, and each of its
    models Default with those of the document and its own. One without blocks for all presets is complete."""
    shared = {key: raw[key] for key in SHARED if key in raw}
    if not shared:
        return raw
    rest, presets = {key: value for key, value in raw.items() if key not in SHARED}, raw.get("presets")
    for key, block in shared.items():
        if not isinstance(block, dict):
            raise ValueError(f"{key}: must be a block of keys, got {shown(block)}")
    if not isinstance(presets, dict):
        return rest
    if BASE in presets and not isinstance(presets[BASE], dict):
        return rest | {"presets": {BASE: presets[BASE]}}  # what is wrong, without all that therefore lacks
    base = merged(shared, presets.get(BASE, {}))
    written_out = {
        name: difference if not isinstance(difference, dict) else merged(base, difference) if name != BASE else base
        for name, difference in presets.items()
    }
    for name, preset in written_out.items():
        if not isinstance(preset, dict):
            continue
        if BASE not in presets and (missing_keys := Preset.model_fields.keys() - preset.keys() - {*SHARED}):
            raise ValueError(f"presets.{BASE}: missing; {name} has no {min(missing_keys)}, and is a difference from it")
        for key in SHARED[:2]:
            if key not in preset:
                raise ValueError(f"{key}: missing")
        if isinstance(preset["models"], dict):
            has_shared_default = isinstance(shared.get("models", {}).get("Default"), dict)
            preset["models"] = _of_default(preset["models"], f"presets.{name}." if has_shared_default else "")
    return rest | {"presets": written_out}


def _of_default(models: dict, where: str) -> dict:
    """Models that are differences from Default, or from the one that their key LIKE names, written out; where: of the
    block that should have Default."""
    default = models.get("Default")
    if not isinstance(default, dict):
        raise ValueError(f"{where}models.Default: missing; the other models are differences from it")
    written_out = {}
    for name, model in models.items():
        if isinstance(model, dict) and LIKE in model:
            other = models.get(model[LIKE]) if isinstance(model[LIKE], str) else None
            if not isinstance(other, dict) or LIKE in other:
                raise ValueError(
                    f"models.{name}.{LIKE}: must name a model that is not like another itself, got {shown(model[LIKE])}"
                )
            model = merged(other, {key: value for key, value in model.items() if key != LIKE})
        written_out[name] = model if not isinstance(model, dict) or "kind" in model else merged(default, model)
    return written_out


class Params(Block):
    """A whole document: the studies, and every preset written out."""

    preset: str
    device: Literal["auto", "cpu", "cuda"]
    studies: dict[Name, Study] = Field(default={})
    presets: dict[Name, Preset]
    # Of the document as it was written, each with the file that it is in; None: that of the presets.
    _cautions: tuple[tuple[str | None, str], ...] = PrivateAttr(default=())

    @property
    def selected(self) -> Preset:
        return self.presets[self.preset]

    def made(self, preset: Preset) -> dict[str, Study]:
        """The studies that a preset makes: those that its groups name, themselves or their group, and those of none."""
        wanted = {None, *preset.groups}
        return {name: study for name, study in self.studies.items() if wanted & {study.group, name}}

    def lines(self, study: Study) -> list[Line]:
        """The rows of a study, with those that it has from others."""
        return [line for row in study.rows for line in self.lines_of(row)]

    def lines_of(self, row: Row) -> list[Line]:
        """The rows that one of a study's stands for."""
        rows = self.studies[row.study].rows if row.study else [row]
        return [line for source_row in rows for line in source_row.lines()]

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, raw: Any):
        return _complete(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _check(self):
        if self.preset not in self.presets:
            raise ValueError(f"preset: unknown {shown(self.preset)}; there are {', '.join(self.presets) or 'none'}")
        groups = dict.fromkeys(study.group for study in self.studies.values() if study.group)
        for name, preset in self.presets.items():
            for group in preset.groups:
                if self.studies and group not in {*groups, *self.studies}:
                    known = ", ".join(groups) or "none"
                    raise ValueError(
                        f"presets.{name}.groups: no study is of the group {group!r}, or called so; there are {known}"
                    )
        return self
