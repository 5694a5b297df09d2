"""The tables as CSV and as Markdown: every number as CSV, the readable ones with what they rest on as Markdown."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from surrodiff.config.studies import Study
from surrodiff.planning.plan import Row
from surrodiff.planning.recipes import Recipe, sidecar
from surrodiff.report import claims
from surrodiff.report.columns import frame
from surrodiff.report.records import Bound, Records
from surrodiff.report.rows import Values
from surrodiff.store.runs import load_run, write_text

# What the Markdown leaves to the CSV, or says once below the table.
_LEFT_OUT = ("num_samples", "data", "precision_held_out", "recall_held_out", "sampling_speed_ratio")


def _cell(value, spread=None) -> str:
    """Four digits of a number; with a spread, both to the digits that the spread has."""
    if pd.isna(value):
        return ""
    if not spread or pd.isna(spread):  # none, or 0: exact
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    decimals = max(2, -math.floor(math.log10(spread)))
    return f"{value:.{decimals}f} ± {spread:.{decimals}f}"


def _is_blank(column: pd.Series) -> bool:
    """All the way down."""
    return column.isin([None, ""]).all()


def _markdown(table: pd.DataFrame) -> str:
    """A table with each number and its spread in one cell: the standard deviation over splits or subsets if there is
    one, else half of the interval; columns that are blank all the way down are left out."""
    shown = {}
    for column in table:
        base = column.removesuffix("_mean")
        if column.endswith(("_std", "_interval")) or column in _LEFT_OUT or _is_blank(table[column]):
            continue
        values = table[column]
        if pd.api.types.is_float_dtype(values):
            blank = pd.Series(index=table.index, dtype=float)
            spread = table.get(f"{base}_std", blank).fillna(table.get(f"{base}_interval", blank))
            values = [_cell(value, value_spread) for value, value_spread in zip(values, spread, strict=True)]
        elif not pd.api.types.is_numeric_dtype(values):
            values = [" ".join(text.split()).replace("|", "\\|") if isinstance(text, str) else text for text in values]
        shown[base] = values
    text = pd.DataFrame(shown).astype(object)
    return text.where(text.notna(), "").to_markdown(index=False, disable_numparse=True)


def _pages_tables(table: pd.DataFrame, recipe: Recipe, values: Values) -> list[str]:
    """A table's Markdown; of scores first those that papers have, then ours of the same rows."""
    columns = recipe.table.study.columns
    if "scores" not in columns:
        return [_markdown(table)]
    names = values.names
    more_columns = [
        c
        for c in table
        if c.startswith(names.kernel) or c.endswith(("_infinity", "_held_out")) or c in ("precision", "recall")
    ]
    telling = ("corruption", "amount", "seed", "against", "train_steps", "t_mid", "sampler", "evaluations")
    subjects = [c for c in telling if c in table]
    subjects = [c for c in subjects if c != "train_steps" or "steps" in columns]
    main_table = table.drop(columns=[*more_columns, *({"train_steps"} & set(table) - set(subjects))])
    if not more_columns:  # only quoted
        return [_markdown(main_table)]
    ours = table[table[names.distance].notna()]
    return [_markdown(main_table), "## More scores", _markdown(ours[[table.columns[0], *subjects, *more_columns]])]


def _basis(table: pd.DataFrame, recipe: Recipe, results: Path, values: Values) -> list[str]:
    """What the numbers of a table rest on, a paragraph each."""
    study = recipe.table.study
    rows = [row for row in recipe.table.rows if row.runs]
    steps = sorted(
        {row.of_steps for row in rows if row.of_steps} | ({recipe.default.of_steps} if recipe.default else set())
    )
    trained = f"of models trained for {', '.join(map(str, steps))} steps" if steps else "no model of ours"
    paragraphs = []
    if {"likelihood", "nll"} & {*study.columns} and rows:
        paragraphs += _of_bounds(table, rows, recipe, results, values, trained)
    if "refinement" in study.columns and (refined := [row for row in rows if row.line.is_refined]):
        paragraphs.append(_of_refinements(refined, results, values, trained))
    shows_scores = recipe.reference and _shows_scores(study)
    if shows_scores:
        paragraphs.append(_of_scores(recipe, rows, results, values, trained))
    if any(row.line.images for row in recipe.table.rows):
        paragraphs.append(
            f"`{values.names.distance} ±` of real images, and of one training alone, is a 95 % interval over samples, "
            "by the jackknife; `_infinity` extrapolates to infinitely many. `against`: the split that a row is scored "
            "against. `amount`: of noise its standard deviation of 255, of blur its standard deviation in pixels, of "
            "classes their number."
        )
    elif shows_scores:
        paragraphs.append(_intervals(recipe, rows, values))
    if not paragraphs:
        paragraphs.append(f"Preset `{results.name}`; {trained}.")
    if study.source and any(row.line.paper for row in recipe.table.rows):
        rests = f" They rest on {study.source_rests_on}." if study.source_rests_on else ""
        paragraphs.append(f"Columns `paper_...` are those of {study.source}.{rests}" + _incomparable(recipe, values))
    timings = [values.records.timing(timing) for row in rows for timing, _ in row.timings]
    if timings:
        machines = sorted({timing.provenance.device for timing in timings})
        paragraphs.append(
            "Speeds and train times are medians of jobs that had the machine to themselves, extrapolated from single "
            f"steps; ratios are to Default, measured in turn within the same job. Measured on: {'; '.join(machines)}."
        )
    return paragraphs


def _shows_scores(study: Study) -> bool:
    """Whether its columns or claims are about scores; its figures may need the samples alone."""
    metrics = (comparison[0] for claim in study.claims for comparison in claim.comparisons)
    return bool({"scores", "distance", "score"} & {*study.columns, *metrics})


def _incomparable(recipe: Recipe, values: Values) -> str:
    if recipe.reference and values.names.distance == "fid":
        return ""
    return " Ours here rest on something else and do not compare with them."


def _covers(rows: list[Row]) -> str:
    """What the intervals over images of rows are, in words (see report.rows.OVER_IMAGES)."""
    counts, alone = {len(row.seeds) for row in rows}, "over images, of the one training alone"
    return alone if counts == {1} else "over trainings" + f", and {alone} of a row of one seed" * (1 in counts)


_OF_NLL = {
    "nll_by_elbo": "by one sample",
    "nll_by_trained_bound": "by as many as in training",
    "least_rise": "by how much a bound exceeds the one by fewer samples, where that is least sure",
}


def _of_bounds(
    table: pd.DataFrame, rows: list[Row], recipe: Recipe, results: Path, values: Values, trained: str
) -> Iterator[str]:
    """What likelihoods rest on, of those columns that the table has: of models with a likelihood of their own, and of
    diffusions."""
    columns = [column for column in table if not _is_blank(table[column])]

    def begin(bounds: list[Bound]) -> str:
        return f"Preset `{results.name}`, data {', '.join(dict.fromkeys(f'`{bound.data}`' for bound in bounds))}. "

    if in_nats := [row for row in rows if values.has_nats(row)]:
        bounds = [bound for row in in_nats for bound in values.bounds(row)]
        samples = sorted({bound.bounds[-1].samples for bound in bounds})
        whats = {
            "nll": "`nll` is -log p of an image in nats",
            "bits_per_dim": "`bits_per_dim` of a model with a likelihood of its own is -log p per dimension",
        }
        what = ", and ".join(text for column, text in whats.items() if column in columns)
        more = "".join(f"; `{column}`: {text}" for column, text in _OF_NLL.items() if column in columns)
        compared = {comparison[0] for claim in recipe.table.study.claims for comparison in claim.comparisons}
        pairs = " Claims about `nll` compare two rows of one training each image by image." * ("nll" in compared)
        yield (
            f"{begin(bounds)}{what}, averaged over {bounds[0].num_images} held-out images, by the bound of "
            f"{', '.join(map(str, samples))} samples of an image, {trained}{more}. `±` is a 95 % interval "
            f"{_covers(in_nats)}.{pairs}"
        )
    rows = [row for row in rows if row not in in_nats]
    if not rows or "likelihood" not in recipe.table.study.columns:
        return
    bounds = [bound for row in rows for bound in values.bounds(row)]
    configs = [load_run(results, "likelihoods", run.likelihood)[1] for row in rows for run in row.runs]
    variances = ", ".join(dict.fromkeys(config.variance for config in configs))
    variances += " where the model has learned it" * ("learned" in variances and "," in variances)
    yield (
        f"{begin(bounds)}Bits per dimension of the variational bound on {bounds[0].num_images} held-out images, "
        f"{trained}; the parts sum to it. Variance of a reverse step: {variances}. `±` is a 95 % interval "
        f"{_covers(rows)}. Bounds of other image sizes or data do not compare."
    )


def _of_refinements(rows: list[Row], results: Path, values: Values, trained: str) -> str:
    record = values.refinements(rows[0])[0]
    return (
        f"Preset `{results.name}`, data `{record.data}`, {trained}. {record.num_samples} samples of a surrogate alone "
        f"beside those that the diffusion refined from the same ones, and {record.train_images} training images, in "
        f"pixels and in `{record.feature_network}` features. `moved`: the root mean square difference of an image's "
        "pixels in [-1, 1]; `_relative`, `_in_features`: in units of the mean distance of two images of different "
        "numbers. `_kept`: the share whose nearest training image stays the same; `_within`: that of which the "
        f"surrogate's nearest is among the {record.neighbours} nearest of what became of it; `_by_chance`: these "
        f"shares for images of different numbers. `±` is a 95 % interval {_covers(rows)}."
    )


def _of_scores(recipe: Recipe, rows: list[Row], results: Path, values: Values, trained: str) -> str:
    reference, names = values.records.reference(recipe.reference), values.names
    scored = [row for row in rows if row.runs[0].score]
    samples = sorted({score.num_samples for row in [*scored, recipe.default] for score in values.scores(row)})
    return (
        f"Preset `{results.name}`, data `{reference.data}`. Scores rest on `{reference.features}` features in "
        f"{reference.features_precision} (weights' SHA-256 {reference.features_sha256[:12]}), against "
        f"{reference.train_images} training images (`_held_out`: {reference.held_out_images} held-out images), with "
        f"{', '.join(map(str, samples))} samples a row, {trained}. `{names.score}` is a mean and standard deviation "
        f"over {reference.is_splits} splits; `{names.kernel}` over subsets."
    )


def _intervals(recipe: Recipe, rows: list[Row], values: Values) -> str:
    """What `±` and `against_default` rest on."""
    distance, score = values.names.distance, values.scores(recipe.default)[0]
    biased = (
        f" With {score.num_samples} samples the distance is biased upwards; `{distance}_infinity` extrapolates to "
        "infinitely many."
    ) * (score.num_samples < 50_000)
    by_seed = values.estimate("distance", recipe.default).by_seed
    if len(by_seed) == 1:
        return (
            "Every row is one training, which does not show how trainings differ: there are no intervals and no "
            "verdicts (`seeds.calibration` gives them)." + biased
        )
    alone = any(len(row.seeds) == 1 for row in rows)
    return (
        f"`{distance} ±` is a 95 % interval over trainings, by Student's t."
        + f" A row of one seed is taken to vary as Default's {len(by_seed)} trainings do." * alone
        + biased
        + " `against_default`: whether the difference from the mean of Default's seeds is larger than its 95 % "
        f"interval. Default, sampled with `ancestral` and trained with the seeds {', '.join(map(str, by_seed))} scores "
        f"{', '.join(f'{measurement.value:.2f}' for measurement in by_seed.values())}."
    )


def _claims(judged: pd.DataFrame) -> list[str]:
    """The section of a table's claims: each with its verdicts, and its comparisons."""
    if judged.empty:
        return []
    lines = ["Each verdict is by our numbers, and then, where it prints them, by the paper's.", ""]
    for claim in judged.to_dict("records"):
        remarks = [f'"{claim["quote"]}"'] * bool(claim["quote"]) + [claim["note"]] * bool(claim["note"])
        papers = claim["in_the_papers_numbers"]
        verdicts = f"**{claim['verdict']}**" + f", {papers}" * (papers != claims.UNKNOWN)
        lines.append(f"- {verdicts}: {claim['claim']}" + f" ({'; '.join(remarks)})" * bool(remarks))
        lines += [f"  - {comparison}" for comparison in claim["comparisons"]]
    return ["## Claims", "\n".join(lines)]


def require_sources(recipe: Recipe, results: Path):
    """Raise UserError if a run that the recipe names is not complete."""
    for stage, run_id in recipe.sources():
        load_run(results, stage, run_id)


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def write(recipe: Recipe, results: Path):
    """Write a recipe's table as CSV and Markdown, and then the recipe itself, into `results`/tables.

    Raises UserError before anything is written if a run that the recipe names is not complete.
    """
    folder, name, study = results / "tables", recipe.output, recipe.table.study
    require_sources(recipe, results)
    records = Records(results)
    values = Values(recipe, records)
    table = frame(recipe, records)
    judged = claims.judge(recipe, records)
    write_text(folder / f"{name}.csv", _csv(table))
    sections = [f"# {study.title}", *_pages_tables(table, recipe, values), *_basis(table, recipe, results, values)]
    write_text(folder / f"{name}.md", "\n\n".join([*sections, *_claims(judged)]) + "\n")
    write_text(folder / f"{name}.json", sidecar(recipe, results))


def write_claims(recipe: Recipe, results: Path):
    """Write the verdicts on all claims as `results`/claims.csv, and then the recipe itself beside it.

    Raises UserError before anything is written if a run that the recipe names is not complete.
    """
    require_sources(recipe, results)
    records = Records(results)
    judged = claims.judge(recipe, records).assign(**claims.what_they_rest_on(recipe, records))
    judged["comparisons"] = judged["comparisons"].str.join("; ")
    write_text(results / "claims.csv", _csv(judged))
    write_text(results / "claims.json", sidecar(recipe, results))
