"""`params.yaml` and the studies, typed and validated: every key that the pipeline knows, its type and its range."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from surrodiff.config import cautions, documents, refusals, studies
from surrodiff.config.documents import merged
from surrodiff.config.fields import Block, Name
from surrodiff.config.models import DDPM, Sampled
from surrodiff.config.presets import MOST_RUNS, Preset
from surrodiff.config.refusals import shown
from surrodiff.config.samplers import Sampler
from surrodiff.config.studies import OTHERS, Line, Row, Study
from surrodiff.errors import UserError, printable

BASE = "paper"  # the preset that is written out
SHARED = ("models", "samplers")  # blocks of the document that every preset has, and may change
STUDIES = Path("workflow/studies")  # beside params.yaml


def _words(kinds: Any) -> list[str]:
    """The words that name the members of a union, or a class alone, in a document."""
    return [get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(kinds) or [kinds]]


TAGS = (*_words(Sampled), *_words(Sampler), *studies.KINDS)  # which pydantic puts into the places of mistakes


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
        for key in SHARED:
            if key not in preset:
                raise ValueError(f"{key}: missing")
        if isinstance(preset["models"], dict):
            has_shared_default = isinstance(shared.get("models", {}).get("Default"), dict)
            preset["models"] = _of_default(preset["models"], f"presets.{name}." if has_shared_default else "")
    return rest | {"presets": written_out}


def _of_default(models: dict, where: str) -> dict:
    """Models that are differences from Default, written out; where: of the block that should have it."""
    default = models.get("Default")
    if not isinstance(default, dict):
        raise ValueError(f"{where}models.Default: missing; the other models are differences from it")
    return {
        name: model if not isinstance(model, dict) or "kind" in model else merged(default, model)
        for name, model in models.items()
    }


def _places(keys: list[str], raw: Any) -> Iterator[list[str]]:
    """Where what a complete preset has at the given keys may be written, the place that counts first."""
    _, preset, *rest = keys
    key_paths = [rest]
    # A model that has a kind is no difference from Default.
    blocks = (["presets", preset], ["presets", BASE], [])
    if rest[:1] == ["models"] and not any(_is_there([*block, *rest[:2], "kind"], raw) for block in blocks):
        key_paths.append(["models", "Default", *rest[2:]])
    for key_path in key_paths:
        yield ["presets", preset, *key_path]
        yield ["presets", BASE, *key_path]
        if key_path[:1] in ([key] for key in SHARED):
            yield key_path


def _is_there(keys: list[str], value: Any, blocks_too: bool = True) -> bool:
    """Whether a document has something at some keys. blocks_too: a block counts as something."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return blocks_too or not isinstance(value, dict)


def _written(keys: list[str], raw: Any, missing: bool) -> list[str]:
    """The keys under which the document has what an error is about; those given where it is about nothing written.
    What is missing belongs where the block is written out, not where it is a difference."""
    if len(keys) < 3 or keys[0] != "presets" or not any(key in raw for key in SHARED):
        return keys
    if not missing:
        return next((place for place in _places(keys, raw) if _is_there(place, raw)), keys)
    # Of a model or a sampler, where it has an entry.
    depth = 2 if keys[2] in SHARED else 0
    places = [place for place in _places(keys, raw) if _is_there(place[: len(place) - len(keys) + 2 + depth], raw)]
    first = next((end for end in range(len(places[-1])) if not _is_there(places[-1][:end], raw)), None)
    return places[-1][:first]


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
        """The studies that a preset makes: those of its groups, and those of none."""
        return {name: study for name, study in self.studies.items() if study.group in (None, *preset.groups)}

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
                if self.studies and group not in groups:
                    known = ", ".join(groups) or "none"
                    raise ValueError(f"presets.{name}.groups: no study is of the group {group!r}; there are {known}")
        return self


def _mistakes(params: Params) -> Iterator[tuple[str, str]]:
    """What the studies ask for and is not there: the study's name, and the key with what is wrong."""
    missing = [*_missing_studies(params)]
    yield from missing
    if missing:
        return
    wrong_studies = set()
    for name, text in _unfit_rows(params):
        wrong_studies.add(name)
        yield name, text
    figures: dict[str, str] = {}
    for name, study in params.studies.items():
        for number, figure in enumerate(study.figures):
            if figure.name in figures:
                other = figures[figure.name]
                yield name, f"figures.{number}.name: {figure.name} is drawn by {other}, too; give one another name"
            figures[figure.name] = name
        name_counts = Counter(line.name for row in study.rows for line in row.lines() if line.name)
        if repeated := [row_name for row_name, count in name_counts.items() if count > 1]:
            yield (
                name,
                f"rows: two rows are called the same in claims; give one of them a `name` ({', '.join(repeated)})",
            )
        if not wrong_studies & {name, *(row.study for row in study.rows)}:  # whose names mean nothing
            names = {line.name: line for line in params.lines(study) if line.name}
            yield from ((name, text) for text in _unnamed(study, names))


def _missing_studies(params: Params) -> Iterator[tuple[str, str]]:
    for name, study in params.studies.items():
        for number, row in enumerate(study.rows):
            other = params.studies.get(row.study)
            if row.study and other is None:
                known = ", ".join(params.studies)
                yield name, f"rows.{number}.study: there is no study {row.study!r}; there are {known}"
            elif row.study and any(part.study for part in other.rows):
                yield name, f"rows.{number}.study: {row.study!r} has rows from other studies itself; name those instead"


def _unfit_rows(params: Params) -> Iterator[tuple[str, str]]:
    """Rows that a preset cannot make, each with the first preset that cannot; those that a study has from another are
    wrong there, unless what it asks of them is more."""
    reported = set()
    for preset_name, preset in params.presets.items():
        preset_studies = params.made(preset).items()
        for name, study in sorted(preset_studies, key=lambda item: any(row.study for row in item[1].rows)):
            for number, row in enumerate(study.rows):
                for line in params.lines_of(row):
                    key, text = next(_unfit(line, preset, f"presets.{preset_name}", study.needs()), (None, ""))
                    mistake = (row.study or name, key, key and getattr(line, key))
                    if key and mistake not in reported:
                        yield name, f"rows.{number}.{'study' if row.study else key}: {text}"
                    reported.add(mistake)


def _unnamed(study: Study, names: dict[str, Line]) -> Iterator[str]:
    """Claims and figures about rows that a study does not have."""
    known = {*names, "Default"}
    for number, claim in enumerate(study.claims):
        for index, (_, left, _, right) in enumerate(claim.comparisons):
            for row in (left, right):
                if isinstance(row, str) and row not in known and (row != OTHERS or row is left):
                    row_names = ", ".join(sorted(known))
                    yield f"claims.{number}.comparisons.{index}: no row is called {row!r}; there are {row_names}"
    for number, figure in enumerate(study.figures):
        line = names.get(getattr(figure, "row", None))
        if figure.kind == "pairs" and (line is None or not line.surrogate or not studies.as_share(line.t_mid)):
            surrogate_rows = [
                name for name, candidate in names.items() if candidate.surrogate and studies.as_share(candidate.t_mid)
            ]
            yield (
                f"figures.{number}.row: must be a row with a surrogate and t_mid beyond 0, got {figure.row!r}; there "
                f"are {', '.join(surrogate_rows) or 'none'}"
            )


def _unfit(line: Line, preset: Preset, where: str, needs: set[str]) -> Iterator[tuple[str, str]]:
    """What a row asks of a preset and is not there."""
    for key in ("surrogate", "model"):
        name = getattr(line, key)
        if name is not None and name not in preset.models:
            known = ", ".join(preset.models)
            yield key, f"{where}.models has no {name!r}; there are {known}; a new one is an entry under `models`"
            return
    if line.subject is None:
        return
    if line.sampler not in preset.samplers:
        yield "sampler", f"{where}.samplers has no {line.sampler!r}; there are {', '.join(preset.samplers)}"
        return
    yield from _unfit_sampler(line, preset, where)
    model = preset.models[line.model]
    if line.surrogate:
        surrogate = preset.models[line.surrogate]
        if not isinstance(model, DDPM):
            yield "model", f"{line.model} is no diffusion model, which takes over from a surrogate"
        elif isinstance(surrogate, DDPM) and not surrogate.diffusion.noises_like(model.diffusion):
            yield "surrogate", f"{where}.models.{line.surrogate}.diffusion: must be that of {line.model}"
    if "likelihood" in needs and (line.surrogate or not isinstance(model, DDPM)):
        yield "surrogate" if line.surrogate else "model", "only a diffusion model by itself has a bound"
    if "score" in needs and model.image_size != preset.data.image_size:
        yield (
            "model",
            (
                f"{line.model} makes images of {model.image_size} pixels, and {where}.data.image_size is "
                f"{preset.data.image_size}; write it as `surrogate`, with t_mid: 0 for it alone"
            ),
        )


def _unfit_sampler(line: Line, preset: Preset, where: str) -> Iterator[tuple[str, str]]:
    """What a row's sampler asks of the diffusions that it draws from and these have not."""
    sampler, place = preset.samplers[line.sampler], f"{where}.samplers.{line.sampler}"
    names = [name for name in (line.surrogate, line.model) if name and isinstance(preset.models[name], DDPM)]
    if line.surrogate and not studies.as_share(line.t_mid):
        names = names[: isinstance(preset.models[line.surrogate], DDPM)]
    if line.evaluations is not None and not names:
        yield "evaluations", f"{line.subject} is no diffusion model, and draws an image in one evaluation; remove it"
    if line.evaluations is not None and isinstance(sampler.timesteps, list):
        yield "evaluations", f"{place}.timesteps says which ones are taken; remove one of them"
    for name in names:
        model = preset.models[name]
        try:
            if line.evaluations is None:  # which say how many, whatever the sampler does
                sampler.grid(model.diffusion)
        except ValueError as error:
            yield "sampler", f"{place}.{error} ({name}); lower it"
        if getattr(sampler, "variance", None) == "learned" and not model.network.learned_variance:
            yield (
                "sampler",
                f"{place}.variance: learned, and {name} learns none; write fixed_large or fixed_small, or give the "
                "model network.learned_variance: true",
            )


def _check_studies(params: Params, source: str, file_of: dict[str, str]):
    """Raise UserError for what studies ask for and is not there, in a line for each mistake."""
    lines = list(dict.fromkeys(f"{file_of[name]}{text}" for name, text in _mistakes(params)))
    if lines:
        raise UserError("\n".join(printable(line) for line in lines[: refusals.MOST_LINES]))
    for name, preset in params.presets.items():
        seeds = preset.seeds
        rows = sum(len(params.lines(study)) for study in params.made(preset).values())
        runs = (rows * len(seeds.training) + len(seeds.calibration)) * len(seeds.sampling)
        if runs > MOST_RUNS:
            raise UserError(
                f"{source}: presets.{name}.seeds: with the rows of the studies, {runs:,} sets of samples; at most "
                f"{MOST_RUNS:,}"
            )


def _bases(keys: list[str], raw: Any) -> Iterator[tuple[str, ...]]:
    """The keys, and those of blocks around them, from which a preset or a model inherits what an error is about: what
    is wrong there is wrong with all that inherit it, and is reported once."""
    if len(keys) < 3 or keys[0] != "presets" or _is_there(keys, raw, blocks_too=False):
        return
    _, preset, *rest = keys
    sources = [["presets", BASE, *rest]] if preset != BASE else []
    if rest[:1] == ["models"] and rest[1:2] != ["Default"]:
        sources.append(["presets", preset, "models", "Default", *rest[2:]])
    for source in sources:
        yield from (tuple(source[:end]) for end in range(len(source) - len(rest) + 1, len(source) + 1))


def _refusal(error: ValidationError, raw: Any, source: str, changes: dict) -> UserError:
    """All errors, one a line; what `changes` touch may come from the command line."""
    key_paths = [refusals.about(detail, refusals.keys_of(detail, TAGS)) for detail in error.errors(include_url=False)]
    wrong = {tuple(keys) for keys in key_paths}

    def line(detail: dict, keys: list[str]) -> str | None:
        if any(base in wrong for base in _bases(refusals.about(detail, keys), raw)):
            return None
        missing = detail["type"] in refusals.MISSING
        keys = _written(keys, raw, missing)
        from_command_line = changes and _is_given(keys[:-1] if missing else keys, changes)
        return f"{source}{' or --config' if from_command_line else ''}: {refusals.message(detail, keys)}"

    return refusals.refusal(error, raw, TAGS, line)


def _is_given(keys: list[str], changes: Any) -> bool:
    """Whether changes touch what a key stands for."""
    for key in keys:
        if not isinstance(changes, dict):
            return True
        if key not in changes:
            return False
        changes = changes[key]
    return True


def parse(
    raw: Any,
    source: str = "params.yaml",
    changes: dict | None = None,
    default_studies: dict[str, Study] | None = None,
    folder: Path = STUDIES,
) -> Params:
    """The typed parameters of a loaded document; `source` names the file in messages.

    changes: what the command line has put into `raw`, which messages name as another place where an error may lie;
    default_studies: the studies, if the document has none itself, and the folder that they are from. Raises UserError
    with one line for each wrong key, type or range.
    """
    has_studies = isinstance(raw, dict) and "studies" in raw
    source = printable(source)
    try:
        params = Params.model_validate(
            raw if has_studies or not isinstance(raw, dict) else {**raw, "studies": default_studies or {}}
        )
    except ValidationError as error:
        raise _refusal(error, raw, source, changes or {}) from None
    _check_studies(
        params,
        source,
        {name: f"{source}: studies.{name}." if has_studies else f"{folder / name}.yaml: " for name in params.studies},
    )
    params._cautions = tuple(_cautions(params, raw, None if has_studies else folder))
    return params


def _cautions(params: Params, raw: dict, folder: Path | None) -> Iterator[tuple[str | None, str]]:
    """What only the document as it was written shows to be odd; folder: of the studies, None if it holds them."""
    for name, text in cautions.of_groups(params.studies, params.presets).items():
        yield (None, f"studies.{name}.{text}") if folder is None else (f"{folder / name}.yaml", text)
    if "models" in raw:
        lines = [line for study in params.studies.values() for line in params.lines(study)]
        used = {name for line in lines for name in (line.model, line.surrogate)}
        for preset in dict.fromkeys((BASE, params.preset)):
            own = raw["presets"].get(preset, {}).get("models", {})
            for text in cautions.of_own_models(own, raw["models"], used):
                yield None, f"presets.{preset}.{text}"


def _folder(beside: Path) -> Path:
    """The folder of studies beside a params file; this repository's own where there is none."""
    repository_folder = Path(__file__).parents[3] / STUDIES
    return beside / STUDIES if (beside / STUDIES).is_dir() or not repository_folder.is_dir() else repository_folder


def _with_groups(raw: dict, groups: Any) -> dict:
    """A document whose selected preset makes the studies of the given groups."""
    groups = groups if isinstance(groups, list) else [groups]
    name, presets = raw.get("preset"), raw.get("presets")
    if not isinstance(presets, dict) or not isinstance(name, str) or not isinstance(presets.get(name), dict):
        return raw  # whose mistake is reported
    return raw | {"presets": presets | {name: presets[name] | {"groups": groups}}}


def load(
    path: Path = Path("params.yaml"),
    changes: dict | None = None,
    folder: Path | None = None,
    groups: list[str] | None = None,
    **overrides: str | None,
) -> Params:
    """Read and validate a params file and the studies in `folder`, or else where they lie (see _folder; a file that
    holds its studies itself needs none).
    overrides (`preset`, `device`) replace its top-level keys where not None; changes are merged into it: what
    `snakemake --config` and `--configfile` hand over, in which text is read as a plain word of the file is. groups: of
    the studies to make, instead of those that the selected preset names; also a key of changes, one group or a list.

    Raises UserError if a file is missing, is no YAML, or does not validate.
    """
    raw = documents.read(path)
    try:
        changes = documents.resolved(changes or {})
    except documents.Mistake as mistake:
        raise UserError(f"--config: {mistake}") from None
    default_studies, folder = None, folder or _folder(path.parent)
    if isinstance(raw, dict):
        groups = changes.pop("groups", None) if groups is None else groups
        raw = merged(raw, changes)
        raw |= {key: value for key, value in overrides.items() if value is not None}
        raw = raw if groups is None else _with_groups(raw, groups)
        default_studies = None if "studies" in raw else studies.read(folder)
    return parse(raw, str(path), changes, default_studies, folder)


def of_config(config: dict, folder: Path | None = None) -> Params:
    """The typed parameters of a whole configuration that a workflow gives to this one as its module; text in it is read
    as a plain word of params.yaml is; the studies are as for `load`. Raises UserError as that does."""
    folder = folder or _folder(Path())
    try:
        raw = documents.resolved(config)
    except documents.Mistake as mistake:
        raise UserError(f"config: {mistake}") from None
    return parse(raw, "config", default_studies=None if "studies" in raw else studies.read(folder), folder=folder)


def warnings(params: Params, source: str = "params.yaml") -> list[str]:
    """One line for each thing that the studies or the selected preset may say but most likely do not mean."""
    lines = [line for study in params.made(params.selected).values() for line in params.lines(study)]
    texts = [(None, f"presets.{params.preset}.{text}") for text in cautions.of_preset(params.selected, lines)]
    return [f"{printable(file or source)}: warning: {text}" for file, text in [*params._cautions, *texts]]
