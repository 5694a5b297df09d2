"""`params.yaml` and the studies, typed and validated: every key that the pipeline knows, its type and its range."""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from surrodiff.config import cautions, documents, refusals, studies
from surrodiff.config.asked import mistakes
from surrodiff.config.documents import merged
from surrodiff.config.models import Sampled
from surrodiff.config.presets import MOST_RUNS
from surrodiff.config.samplers import Sampler
from surrodiff.config.studies import Study
from surrodiff.config.surrogates import Surrogate
from surrodiff.config.whole import BASE, LIKE, SHARED, Params
from surrodiff.errors import UserError, printable

STUDIES = Path("workflow/studies")  # beside params.yaml


def _words(kinds: Any) -> list[str]:
    """The words that name the members of a union, or a class alone, in a document."""
    return [get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(kinds) or [kinds]]


TAGS = (
    *_words(Sampled),
    *_words(Sampler),
    *_words(Surrogate),
    *studies.KINDS,
)  # which pydantic puts into the places of mistakes


def _places(keys: list[str], raw: Any) -> Iterator[list[str]]:
    """Where what a complete preset has at the given keys may be written, the place that counts first."""
    _, preset, *rest = keys
    key_paths = [rest]
    if rest[:1] == ["models"] and len(rest) > 1:
        key_paths += [["models", name, *rest[2:]] for name in _bases_of(rest[1], preset, raw)]
    for key_path in key_paths:
        yield ["presets", preset, *key_path]
        yield ["presets", BASE, *key_path]
        if key_path[:1] in ([key] for key in SHARED):
            yield key_path


def _bases_of(model: str, preset: str, raw: Any) -> list[str]:
    """The models from which one is a difference, the nearest first."""
    blocks = [
        block
        for keys in (["presets", preset, "models"], ["presets", BASE, "models"], ["models"])
        if _is_there(keys, raw) and isinstance(block := reduce(lambda value, key: value[key], keys, raw), dict)
    ]

    def written(name: str) -> dict:
        return reduce(merged, [own for block in reversed(blocks) if isinstance(own := block.get(name), dict)], {})

    bases, own = [], written(model)
    if isinstance(own.get(LIKE), str):
        bases, own = [own[LIKE]], merged(written(own[LIKE]), own)
    # A model that has a kind is no difference from Default.
    return bases if "kind" in own or model == "Default" else [*bases, "Default"]


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


def _check_studies(params: Params, source: str, file_of: dict[str, str]):
    """Raise UserError for what studies ask for and is not there, in a line for each mistake."""
    lines = list(dict.fromkeys(f"{file_of[name]}{text}" for name, text in mistakes(params)))
    if lines:
        raise UserError("\n".join(printable(line) for line in lines[: refusals.MOST_LINES]))
    for name, preset in params.presets.items():
        seeds = preset.seeds
        rows = sum(len(params.lines(study)) * len(seeds.of_study(key)) for key, study in params.made(preset).items())
        runs = (rows + len(seeds.calibration)) * len(seeds.sampling)
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
    if rest[:1] == ["models"] and len(rest) > 1:
        sources += [["presets", preset, "models", name, *rest[2:]] for name in _bases_of(rest[1], preset, raw)]
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


def _with_groups(raw: dict, groups: Any, default_studies: dict[str, Study] | None) -> dict:
    """A document whose selected preset makes the studies of the given groups, or of the given names. Raises UserError
    for what there is not."""
    groups = groups if isinstance(groups, list) else [groups]
    if default_studies is not None:
        known = list(dict.fromkeys(study.group for study in default_studies.values() if study.group))
        if not groups or (unknown := [group for group in groups if group not in {*known, *default_studies}]):
            wrong = f"no study is of the group {unknown[0]!r}, or called so" if groups else "none is given"
            raise UserError(f"--group, or groups of --config: {wrong}; there are {', '.join(known) or 'none'}")
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
        default_studies = None if "studies" in raw else studies.read(folder)
        raw = raw if groups is None else _with_groups(raw, groups, default_studies)
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
    about_seeds = cautions.of_study_seeds(params.selected.seeds.studies, params.studies)
    about_preset = [*cautions.of_preset(params.selected, lines), *about_seeds]
    texts = [(None, f"presets.{params.preset}.{text}") for text in about_preset]
    return [f"{printable(file or source)}: warning: {text}" for file, text in [*params._cautions, *texts]]
