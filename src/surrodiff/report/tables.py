"""The tables as CSV and as Markdown: every number as CSV, the readable ones with what they rest on as Markdown."""

import math
from pathlib import Path

import pandas as pd

from surrodiff.planning.recipes import sidecar, sources
from surrodiff.report import claims
from surrodiff.report.rows import Uncertainty, frame, score_names, scores_of
from surrodiff.scoring.uncertainty import Estimate, Measurement, jackknife_groups, student_95
from surrodiff.store.runs import load_run, write_text

TITLES = {
    "table_4_1": "Table 4.1: quality against training steps",
    "table_4_2": "Table 4.2: quality against training steps, short diffusion",
    "table_4_3": "Table 4.3: architectures",
    "table_4_4": "Table 4.4: objectives",
    "table_4_5": "Table 4.5: Surrogate Diffusion",
    "calibration": "Calibration: the scores of real images, whole and damaged",
    "likelihood": "Likelihood: bits per dimension of the variational bound",
}
# What the Markdown leaves to the CSV, or says once below the table.
_LEFT_OUT = ("num_samples", "data", "precision_held_out", "recall_held_out", "sampling_speed_ratio")


def _calibration(recipe: dict, results: Path) -> pd.DataFrame:
    """Real images, whole and damaged, scored as if they were samples, and Default trained with several seeds."""
    reference = load_run(results, "references", recipe["reference"])[2]
    lines = [({**line, "seed": None}, split) for line in reference["calibration"] for split in ("train", "held_out")]
    for row in recipe["rows"]:
        for score in scores_of(row, results):
            own = {"images": "Default", "seed": row["seed"], "num_images": score["num_samples"]}
            lines.append(({**score, **own, "damage": None, "amount": None}, "train"))
    names = score_names(reference["features"], None)
    distance, kernel, score = names["distance"], names["kernel"], names["score"]
    return pd.DataFrame(
        {
            "images": line["images"],
            "damage": line["damage"],
            "amount": line["amount"],
            "seed": line["seed"],
            "num_images": line["num_images"],
            "against": split,
            distance: line[split]["frechet_distance"],
            f"{distance}_interval": student_95(jackknife_groups(line["num_images"]) - 1) * line[split]["frechet_error"],
            f"{distance}_infinity": line[split]["frechet_infinity"],
            f"{kernel}_mean": line[split]["kernel_distance"],
            f"{kernel}_std": line[split]["kernel_distance_std"],
            "precision": line[split]["precision"],
            "recall": line[split]["recall"],
            f"{score}_mean": line["is_mean"],
            f"{score}_std": line["is_std"],
        }
        for line, split in lines
        if split in line
    ).astype({"seed": "Int64"})


def _bound_interval(row: dict, bounds: list[dict]) -> float:
    """Half of the 95 % interval of a row's bound: over its trainings, or of one training over the images."""
    measured = [Measurement(bound["bits_per_dim"], bound["bits_per_dim_error"]) for bound in bounds]
    if len(measured) == 1:
        return student_95(bounds[0]["num_images"] - 1) * measured[0].error
    return Estimate({run["seed"]: one for run, one in zip(row["runs"], measured, strict=True)}, None).interval


def _likelihood(recipe: dict, results: Path) -> pd.DataFrame:
    """The variational bound of every diffusion model, and its three parts."""
    lines = []
    for row in recipe["rows"]:
        bounds = [load_run(results, "likelihoods", run["likelihood"])[2] for run in row["runs"]]
        values = pd.DataFrame(bounds)
        lines.append(
            {
                "model": row["model"],
                "image_size": row["image_size"],
                "T": row["T"],
                "bits_per_dim": values["bits_per_dim"].mean(),
                "bits_per_dim_interval": _bound_interval(row, bounds),
                **{part: values[part].mean() for part in ("prior", "kl", "decoder")},
                "num_images": bounds[0]["num_images"],
                "train_steps": row["step"],
                "seeds": len(bounds),
                "data": bounds[0]["data"],
            }
        )
    return pd.DataFrame(lines)


def table(recipe: dict, results: Path) -> pd.DataFrame:
    """The table of a recipe (see recipes.recipe); raises UserError if a run that it needs is not complete."""
    make = {"calibration": _calibration, "likelihood": _likelihood}.get(recipe["output"], frame)
    return make(recipe, results)


def _cell(value, spread=None) -> str:
    """Four digits of a number; with a spread, both to the digits that the spread has."""
    if pd.isna(value):
        return ""
    if not spread or pd.isna(spread):  # none, or 0: exact
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    decimals = max(2, -math.floor(math.log10(spread)))
    return f"{value:.{decimals}f} ± {spread:.{decimals}f}"


def _markdown(made: pd.DataFrame) -> str:
    """A table with each number and its spread in one cell: the standard deviation over splits or subsets if there is
    one, else half of the interval; columns that are blank all the way down are left out."""
    shown = {}
    for column in made:
        base = column.removesuffix("_mean")
        if column.endswith(("_std", "_interval")) or column in _LEFT_OUT or made[column].isin([None, ""]).all():
            continue
        values = made[column]
        if pd.api.types.is_float_dtype(values):
            blank = pd.Series(index=made.index, dtype=float)
            spread = made.get(f"{base}_std", blank).fillna(made.get(f"{base}_interval", blank))
            values = [_cell(value, of) for value, of in zip(values, spread, strict=True)]
        shown[base] = values
    text = pd.DataFrame(shown).astype(object)
    return text.where(text.notna(), "").to_markdown(index=False, disable_numparse=True)


def _pages_tables(made: pd.DataFrame, recipe: dict, results: Path) -> list[str]:
    """A table's Markdown; of the paper's tables first what the paper has, then our other scores of the same rows."""
    if not recipe["output"].startswith("table_"):
        return [_markdown(made)]
    score = scores_of(recipe["default"], results)[0]
    kernel = score_names(score["features"], score["num_samples"])["kernel"]
    more = [
        c
        for c in made
        if c.startswith(kernel) or c.endswith(("_infinity", "_held_out")) or c in ("precision", "recall")
    ]
    subjects = [c for c in made if c in ("train_steps", "t_mid") and f"paper_{c}" in made]
    first = made.drop(columns=[*more, *({"train_steps"} - set(subjects))])
    rows = made[: len(recipe["rows"])]
    return [_markdown(first), "## More scores", _markdown(rows[[made.columns[0], *subjects, *more]])]


def _rest(recipe: dict, results: Path) -> list[str]:
    """What the numbers of a table rest on, a paragraph each."""
    reference = load_run(results, "references", recipe["reference"])[2]
    steps = sorted({row["of_steps"] for row in recipe["rows"]} | {recipe["default"]["of_steps"]})
    trained = f"of models trained for {', '.join(map(str, steps))} steps"
    if recipe["output"] == "likelihood":
        images = load_run(results, "likelihoods", recipe["rows"][0]["runs"][0]["likelihood"])[2]["num_images"]
        covers = "over trainings" if len(recipe["rows"][0]["runs"]) > 1 else "over images, of the one training alone"
        return [
            f"Preset `{results.name}`, data `{reference['data']}`. Bits per dimension of the variational bound on "
            f"{images} held-out images, {trained}; the parts sum to it. `±` is a 95 % interval {covers}. Bounds of "
            "other image sizes or data do not compare. The paper quotes 3.75 for the DDPM of Ho et al. (2020), "
            "800,000 steps, CIFAR-10."
        ]
    default = scores_of(recipe["default"], results)
    scores = [score for row in recipe["rows"] for score in scores_of(row, results)]
    names = score_names(reference["features"], scores[0]["num_samples"] if scores else None)
    samples = sorted({score["num_samples"] for score in scores + default})
    lines = [
        f"Preset `{results.name}`, data `{reference['data']}`. Scores rest on `{reference['features']}` features in "
        f"{reference['features_precision']} (weights' SHA-256 {reference['features_sha256'][:12]}), against "
        f"{reference['train_images']} training images (`_held_out`: {reference['held_out_images']} held-out images), "
        f"with {', '.join(map(str, samples))} samples a row, {trained}. `{names['score']}` is a mean and standard "
        f"deviation over {reference['is_splits']} splits; `{names['kernel']}` over subsets.",
    ]
    if recipe["output"] == "calibration":
        return [
            *lines,
            f"`{names['distance']} ±` is a 95 % interval over samples, by the jackknife; `_infinity` extrapolates to "
            "infinitely many. `against`: the split that a row is scored against. `amount`: of noise its standard "
            "deviation of 255, of blur its standard deviation in pixels, of classes their number.",
        ]
    lines.append(_intervals(recipe, results, names["distance"]))
    if names["distance"] != "fid":
        lines.append("Columns `paper_...` are the paper's CIFAR-10 results; ours here do not compare with them.")
    timings = [load_run(results, "timings", row["timing"])[2] for row in recipe["rows"] if "timing" in row]
    if timings:
        machines = sorted({timing["provenance"]["device"] for timing in timings})
        lines.append(
            "Speeds and train times are medians of jobs that had the machine to themselves, extrapolated from single "
            f"steps; ratios are to Default, measured in turn within the same job. Measured on: {'; '.join(machines)}. "
            "The paper's speeds are relative to its Default on one V100."
        )
    return lines


def _intervals(recipe: dict, results: Path, distance: str) -> str:
    """What `±` and `against_default` rest on."""
    score = scores_of(recipe["default"], results)[0]
    biased = (
        f" With {score['num_samples']} samples the distance is biased upwards; `{distance}_infinity` extrapolates to "
        "infinitely many."
    ) * (score["num_samples"] < 50_000)
    by_seed = Uncertainty(recipe, results).estimate("distance", recipe["default"]).by_seed
    if len(by_seed) == 1:
        return (
            "Every row is one training, which does not show how trainings differ: there are no intervals and no "
            "verdicts (`seeds.calibration` gives them)." + biased
        )
    alone = any(len({run["seed"] for run in row["runs"]}) == 1 for row in recipe["rows"])
    return (
        f"`{distance} ±` is a 95 % interval over trainings, by Student's t."
        + f" A row of one seed is taken to vary as Default's {len(by_seed)} trainings do." * alone
        + biased
        + " `against_default`: whether the difference from the mean of Default's seeds is larger than its 95 % "
        f"interval. Default trained with the seeds {', '.join(map(str, by_seed))} scores "
        f"{', '.join(f'{measurement.value:.2f}' for measurement in by_seed.values())}."
    )


def _claims(judged: pd.DataFrame) -> list[str]:
    """The section of a table's claims: each with its verdicts, by our numbers and the paper's, and its comparisons."""
    if judged.empty:
        return []
    lines = ["Each verdict is by our numbers, and then by those that the paper prints.", ""]
    for claim in judged.to_dict("records"):
        said = [f'"{claim["quote"]}"'] * bool(claim["quote"]) + [claim["note"]] * bool(claim["note"])
        lines.append(
            f"- **{claim['verdict']}**, {claim['in_the_papers_numbers']}: {claim['claim']} ({'; '.join(said)})"
        )
        lines += [f"  - {comparison}" for comparison in claim["comparisons"]]
    return ["## The paper's claims", "\n".join(lines)]


def require_sources(recipe: dict, results: Path):
    """Raise UserError if a run that the recipe names is not complete."""
    for stage, run_id in sources(recipe):
        load_run(results, stage, run_id)


def _csv(made: pd.DataFrame) -> str:
    return made.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def write(recipe: dict, results: Path):
    """Write a recipe's table as CSV and Markdown, and then the recipe itself, into `results`/tables.

    Raises UserError before anything is written if a run that the recipe names is not complete.
    """
    folder, name = results / "tables", recipe["output"]
    require_sources(recipe, results)
    made = table(recipe, results)
    judged = claims.judge(recipe, results) if name.startswith("table_") else pd.DataFrame()
    write_text(folder / f"{name}.csv", _csv(made))
    sections = [f"# {TITLES[name]}", *_pages_tables(made, recipe, results), *_rest(recipe, results), *_claims(judged)]
    write_text(folder / f"{name}.md", "\n\n".join(sections) + "\n")
    write_text(folder / f"{name}.json", sidecar(recipe, results))


def write_claims(recipe: dict, results: Path):
    """Write the verdicts on all claims as `results`/claims.csv, and then the recipe itself beside it.

    Raises UserError before anything is written if a run that the recipe names is not complete.
    """
    require_sources(recipe, results)
    judged = claims.judge(recipe, results).assign(**claims.what_they_rest_on(recipe, results))
    judged["comparisons"] = judged["comparisons"].str.join("; ")
    write_text(results / "claims.csv", _csv(judged))
    write_text(results / "claims.json", sidecar(recipe, results))
