"""What studies ask of presets and of each other, and is not there."""

from collections import Counter
from collections.abc import Iterator

from surrodiff.config import studies
from surrodiff.config.columns import METRICS
from surrodiff.config.models import DDPM
from surrodiff.config.presets import Preset
from surrodiff.config.studies import OTHERS, Line, Study
from surrodiff.config.surrogates import FewSteps
from surrodiff.config.whole import Params


def mistakes(params: Params) -> Iterator[tuple[str, str]]:
    """What the studies ask for and is not there: the study's name, and the key with what is wrong."""
    missing = [*_missing_studies(params)]
    yield from missing
    if missing:
        return
    wrong_studies = set()
    for name, text in _unfit_rows(params):
        wrong_studies.add(name)
        yield name, text
    if not wrong_studies:
        yield from dict.fromkeys(_unfit_figures(params))
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


def _unfit_figures(params: Params) -> Iterator[tuple[str, str]]:
    """Figures of terms of which no row has any: they are of bounds over all timesteps, and v of a learned variance;
    likewise figures of diagnoses, which are of diffusion models by themselves."""
    for preset in params.presets.values():
        for name, study in params.made(preset).items():
            lines = [line for line in params.lines(study) if studies.as_share(line.evaluations or 1) == 1]
            whole = [model for line in lines if isinstance(model := preset.models.get(line.model), DDPM)]
            learned = [model for model in whole if model.network.learned_variance]
            alone = [line for line in params.lines(study) if not line.surrogate and line.model in preset.models]
            diffuses = any(isinstance(preset.models[line.model], DDPM) for line in alone)
            for number, figure in enumerate(study.figures):
                if figure.kind == "diagnoses" and not diffuses:
                    yield (
                        name,
                        f"figures.{number}.kind: diagnoses are of diffusion models by themselves, and no row is about "
                        "one; add one, or remove the figure",
                    )
                if figure.kind == "terms" and not (learned if figure.of == "v" else whole):
                    what = "a bound over all timesteps" + " and a learned variance" * (figure.of == "v")
                    yield name, f"figures.{number}.of: no row has {what}; add one, or remove the figure"


def _unnamed(study: Study, names: dict[str, Line]) -> Iterator[str]:
    """Claims and figures about rows that a study does not have."""
    known = {*names, "Default"}
    refined = {name: line for name, line in names.items() if line.is_refined}
    row_names, refined_names = ", ".join(sorted(known)), ", ".join(refined) or "none"
    must_be = "must be a row with a surrogate and t_mid beyond 0"
    for number, claim in enumerate(study.claims):
        for index, (metric, left, _, right) in enumerate(claim.comparisons):
            where = f"claims.{number}.comparisons.{index}"
            for row in (left, right):
                if isinstance(row, str) and row not in known and (row != OTHERS or row is left):
                    yield f"{where}: no row is called {row!r}; there are {row_names}"
                elif METRICS[metric][0] == "refinement" and row in known and row not in refined:
                    yield f"{where}: {metric} is of what is refined, so {row!r} {must_be}; there are {refined_names}"
    for number, figure in enumerate(study.figures):
        if figure.kind == "pairs" and figure.row not in refined:
            yield f"figures.{number}.row: {must_be}, got {figure.row!r}; there are {refined_names}"
        surrogates = dict.fromkeys(line.surrogate for line in refined.values())
        if figure.kind == "sweep" and figure.surrogate not in surrogates:
            yield (
                f"figures.{number}.surrogate: must be that of a row with t_mid beyond 0, got {figure.surrogate!r}; "
                f"there are {', '.join(surrogates) or 'none'}"
            )


def _unfit(line: Line, preset: Preset, where: str, needs: set[str]) -> Iterator[tuple[str, str]]:
    """What a row asks of a preset and is not there."""
    for key in ("surrogate", "model"):
        name = getattr(line, key)
        if key == "surrogate" and name in preset.surrogates:
            continue
        if name in preset.surrogates:
            yield key, f"{name} is an entry of `surrogates`; write `surrogate: {name}`, with t_mid: 0 for it alone"
            return
        if name is not None and name not in preset.models:
            known = ", ".join([*preset.models, *(preset.surrogates if key == "surrogate" else ())])
            yield key, f"{where}.models has no {name!r}; there are {known}; a new one is an entry under `models`"
            return
    if line.subject is None:
        return
    if line.sampler not in preset.samplers:
        yield "sampler", f"{where}.samplers has no {line.sampler!r}; there are {', '.join(preset.samplers)}"
        return
    yield from _unfit_sampler(line, preset, where)
    begun = preset.surrogates.get(line.surrogate)
    if isinstance(begun, FewSteps):
        for _, text in _unfit_sampler(begun.line(), preset, where):
            yield "surrogate", f"{where}.surrogates.{line.surrogate}: {text}"
    model = preset.models[line.model]
    if line.surrogate:
        surrogate = preset.models.get(line.surrogate)
        if not isinstance(model, DDPM):
            yield "model", f"{line.model} is no diffusion model, which takes over from a surrogate"
        elif isinstance(surrogate, DDPM) and not surrogate.diffusion.noises_like(model.diffusion):
            yield "surrogate", f"{where}.models.{line.surrogate}.diffusion: must be that of {line.model}"
    if "likelihood" in needs and (line.surrogate or not (isinstance(model, DDPM) or model.has_likelihood)):
        yield (
            "surrogate" if line.surrogate else "model",
            "only a diffusion model by itself has a bound, and a generator of a kind with a likelihood: vae, flow",
        )
    for key in ("surrogate", "model"):
        own = getattr(preset.models.get(getattr(line, key)), "data", None)
        if own and (line.surrogate or {"score", "timing"} & needs):
            yield key, f"{getattr(line, key)} is trained on {own}, which is not {where}.data: it has a likelihood alone"
    if "refinement" in needs and not line.surrogate:
        yield "model", "only a surrogate's samples are refined; give the row a surrogate and t_mid, or remove it"
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
    names = [name for name in (line.surrogate, line.model) if isinstance(preset.models.get(name), DDPM)]
    if line.surrogate and not studies.as_share(line.t_mid):
        names = names[: isinstance(preset.models.get(line.surrogate), DDPM)]
    if line.evaluations is not None and not names:
        yield (
            "evaluations",
            f"{line.subject} alone takes no steps of a diffusion that could be fewer; remove it",
        )
    wheres = {"timesteps": isinstance(sampler.timesteps, list), "t_start": sampler.t_start is not None}
    for key, says_where in wheres.items() if line.evaluations is not None else ():
        if says_where:
            yield "evaluations", f"{place}.{key} says which ones are taken; remove one of them"
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
