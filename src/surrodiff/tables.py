"""The paper's tables from the records of runs: our value and the paper's side by side, as CSV and as Markdown."""

import csv
from pathlib import Path

import pandas as pd

from surrodiff.recipes import sidecar, sources
from surrodiff.runs import complete, write_text

TITLES = {
    "table_4_1": "Table 4.1: quality against training steps",
    "table_4_2": "Table 4.2: quality against training steps, short diffusion",
    "table_4_3": "Table 4.3: architectures",
    "table_4_4": "Table 4.4: objectives",
    "table_4_5": "Table 4.5: Surrogate Diffusion",
    "calibration": "Calibration: the scores of real images",
}


def _paper() -> list[dict[str, str]]:
    with open(Path(__file__).with_name("paper.csv"), newline="") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float | None:
    return float(text) if text else None


def paper_row(table: str, row: dict) -> dict[str, str]:
    """The paper's row that a row of the plan repeats: same model and the same share of the training steps (Tables 4.1
    and 4.2) or of T (Table 4.5); a row of blanks with the model's name for a model of the user's own."""
    column, of_paper, share = "", 0, None
    if table in ("table_4_1", "table_4_2"):
        column, of_paper, share = "train_steps", 150_000, row["step"] / row["of_steps"]
    elif row.get("t_mid") is not None:
        column, of_paper, share = "t_mid", 1000, row["t_mid"] / row["default_T"]
    for line in _paper():
        same_share = share is None or (line[column] and abs(int(line[column]) / of_paper - share) < 1e-3)
        if (line["table"], line["model"]) == (table, row["model"]) and same_share:
            return line
    return dict.fromkeys(_paper()[0], "") | {"row": row["model"]}


def score_columns(score: dict) -> tuple[str, str]:
    """Names of the Frechet distance's and the Inception Score's columns: `fid` and `is` only for Inception features on
    50,000 samples, else the features' name is part of them."""
    if score["features"] == "inception":
        return ("fid" if score["num_samples"] == 50000 else "fd_inception"), "is"
    return f"fd_{score['features']}", f"is_{score['features']}"


def _score_cells(score: dict, row: dict, line: dict[str, str]) -> dict:
    distance, inception_score = score_columns(score)
    return {
        f"{inception_score}_mean": score["is_mean"],
        f"{inception_score}_std": score["is_std"],
        "paper_is_mean": _number(line["is_mean"]),
        "paper_is_std": _number(line["is_std"]),
        distance: score["frechet_distance"],
        "paper_fid": _number(line["fid"]),
        "num_samples": score["num_samples"],
        "train_steps": row["step"],
        "data": score["data"],
    }


def _relative_seconds_per_sample(row: dict, timing: dict) -> float:
    """Seconds of this row's sampler over those of Default's whole chain, both measured in the same job."""
    evaluation = timing["to_baseline"]["evaluation_seconds_per_image"]
    t_mid, default_evaluations = row.get("t_mid"), row["default_T"]
    if t_mid is None:
        return evaluation * row["T"] / default_evaluations
    # A low-resolution surrogate runs the steps down to t_mid and estimates x_0 there; a generator runs once.
    evaluations = row["T"] - t_mid + (t_mid > 0) if "T" in row else 1
    return (evaluation * evaluations + t_mid) / default_evaluations


def speeds(row: dict, results: Path) -> dict[str, float | None]:
    """`samples_per_second` of a row's sampler and its ratio to Default's; None where the row is not timed."""
    if "timing" not in row:
        return {"samples_per_second": None, "sampling_speed_ratio": None}
    relative = _relative_seconds_per_sample(row, complete(results, "timings", row["timing"])[2])
    default = complete(results, "timings", row["default_timing"])[2]["model"]
    default_speed = 1 / (default["evaluation_seconds_per_image"] * row["default_T"])
    return {"samples_per_second": default_speed / relative, "sampling_speed_ratio": 1 / relative}


def _cells(table: str, row: dict, results: Path) -> dict:
    line = paper_row(table, row)
    _, config, record = complete(results, "models", row["run"])
    scores = _score_cells(complete(results, "scores", row["score"])[2], row, line)
    speed = {**speeds(row, results), "paper_samples_per_second": _number(line["samples_per_second"])}
    if "timing" in row:
        train_ratio = complete(results, "timings", row["timing"])[2]["to_baseline"]["train_step_seconds"]
        default = complete(results, "timings", row["default_timing"])[2]["model"]
    match table:
        case "table_4_1" | "table_4_2":
            cells = {
                "model": line["row"],
                "train_steps": row["step"],  # here the rows' subject, so it comes first
                "paper_train_steps": _number(line["train_steps"]),
                "T": row["T"],
                "paper_T": _number(line["T"]),
            }
        case "table_4_3":
            network = config["network"]
            cells = {
                "architecture": line["row"],
                "block": network["block"],
                "paper_block": line["block"],
                "channel_multipliers": "(" + ", ".join(map(str, network["channel_multipliers"])) + ")",
                "paper_channel_multipliers": line["channel_multipliers"],
                "num_res_blocks": network["num_res_blocks"],
                "paper_num_res_blocks": _number(line["num_res_blocks"]),
                "base_channels": network["base_channels"],
                "paper_base_channels": _number(line["base_channels"]),
                "parameters": record["parameters"],
                "parameters_m_by_paper": record["parameters_by_paper"],
                "paper_parameters_m": _number(line["parameters_m"]),
                **speed,
                "train_hours": train_ratio * default["train_step_seconds"] * row["of_steps"] / 3600,
                "paper_train_hours": _number(line["train_hours"]),
            }
        case "table_4_4":
            cells = {
                "setup": line["row"],
                "train_time_ratio": train_ratio,
                "paper_train_time_ratio": _number(line["train_time_ratio"]),
            }
        case "table_4_5":
            cells = {
                "surrogate": line["row"],
                "surrogate_image_size": config["image_size"],
                "t_mid": row["t_mid"],
                "paper_t_mid": _number(line["t_mid"]),
                "T": row["default_T"],
                "paper_T": _number(line["T"]),
                **speed,
            }
    return cells | scores | {"note": line["note"]}


def _calibration(recipe: dict, results: Path) -> pd.DataFrame:
    """The scores of real images, and those of Default trained with several seeds."""
    reference = complete(results, "references", recipe["reference"])[2]
    found = reference["calibration"]
    distance, inception_score = _calibration_columns(reference)
    real = (("train", 0.0), ("held_out", found["frechet_distance_held_out"]))
    rows = [
        (name, reference[f"{name}_images"], value, found[f"is_{name}_mean"], found[f"is_{name}_std"])
        for name, value in real
    ]
    for row in recipe["seeds"]:
        score = complete(results, "scores", row["score"])[2]
        numbers = (score[key] for key in ("num_samples", "frechet_distance", "is_mean", "is_std"))
        rows.append((row["model"], *numbers))
    columns = ["images", "num_images", distance, f"{inception_score}_mean", f"{inception_score}_std"]
    return pd.DataFrame(rows, columns=columns)


def _calibration_columns(reference: dict) -> tuple[str, str]:
    """As score_columns; never `fid`, because the real images are fewer than 50,000 or the reference itself."""
    return score_columns({"features": reference["features"], "num_samples": None})


def table(recipe: dict, results: Path) -> pd.DataFrame:
    """The table of a recipe (see recipes.recipe), one row for each row of the paper and of the parameters.

    Raises UserError if a run that it needs is not complete.
    """
    name = recipe["output"]
    if name == "calibration":
        return _calibration(recipe, results)
    rows = [_cells(name, row, results) for row in recipe["rows"]]
    for line in _paper():
        if line["table"] == name and not line["model"]:
            quoted = {f"paper_{key}": _number(line[key]) for key in ("train_steps", "T", "is_mean", "is_std", "fid")}
            rows.append({"model": line["row"], "note": line["note"], **quoted})
    frame = pd.DataFrame(rows)
    counts = ("train_steps", "t_mid", "T", "num_res_blocks", "base_channels")
    whole = [*counts, *(f"paper_{count}" for count in counts), "num_samples"]
    return frame.astype({column: "Int64" for column in whole if column in frame})


def _markdown(frame: pd.DataFrame) -> str:
    """The frame with each mean and its standard deviation in one cell, four digits of each number."""
    shown = frame.copy()
    for column in [c for c in frame if c.endswith("_mean")]:
        spread = column.replace("_mean", "_std")
        pairs = zip(frame[column], frame[spread], strict=True)
        shown[column] = ["" if pd.isna(m) else f"{m:.2f} ± {s:.2f}" for m, s in pairs]
        shown = shown.drop(columns=spread).rename(columns={column: column.removesuffix("_mean")})
    if not shown.get("note", pd.Series([""])).any():
        shown = shown.drop(columns="note", errors="ignore")
    for column in shown.select_dtypes("float"):
        shown[column] = ["" if pd.isna(v) else f"{v:.4g}" if abs(v) < 1000 else f"{v:.0f}" for v in shown[column]]
    return shown.astype(object).where(shown.notna(), "").to_markdown(index=False, disable_numparse=True)


def _footnote(recipe: dict, results: Path) -> str:
    """What the numbers of a table rest on."""
    reference = complete(results, "references", recipe["reference"])[2]
    found = reference["calibration"]
    distance, _ = _calibration_columns(reference)
    scores, seeds = (
        [complete(results, "scores", row["score"])[2] for row in recipe[rows]] for rows in ("rows", "seeds")
    )
    samples = ", ".join(f"{n}" for n in sorted({score["num_samples"] for score in scores + seeds}))
    steps = ", ".join(f"{n}" for n in sorted({row["of_steps"] for row in recipe["rows"] + recipe["seeds"]}))
    lines = [
        f"Preset `{results.name}`, data `{reference['data']}`. Scores rest on `{reference['features']}` features "
        f"(weights' SHA-256 {reference['features_sha256'][:12]}), against {reference['train_images']} training images, "
        f"with {samples} samples a row and {reference['is_splits']} splits, of models trained for {steps} steps. "
        f"{reference['held_out_images']} held-out real images score {distance} "
        f"{found['frechet_distance_held_out']:.2f} and IS {found['is_held_out_mean']:.2f} ± "
        f"{found['is_held_out_std']:.2f}.",
    ]
    if len(seeds) > 1:
        ours = score_columns(seeds[0])[0]
        distances = ", ".join(f"{score['frechet_distance']:.2f}" for score in seeds)
        lines.append(
            f"The same model trained with {len(seeds)} seeds ({', '.join(row['model'] for row in recipe['seeds'])}) "
            f"scores {ours} {distances}: smaller differences between rows are noise."
        )
    if any(score_columns(score)[0] != "fid" for score in scores):
        lines.append("Columns `paper_...` are the paper's CIFAR-10 results; ours here do not compare with them.")
    timings = [complete(results, "timings", row["timing"])[2] for row in recipe["rows"] if "timing" in row]
    if timings:
        machines = sorted({t["provenance"]["device"] for t in timings})
        lines.append(
            "Speeds and train times are medians of jobs that had the machine to themselves, extrapolated from single "
            f"steps; ratios are to Default, measured in turn within the same job. Measured on: {'; '.join(machines)}. "
            "The paper's speeds are relative to its Default on one V100."
        )
    return "\n\n".join(lines)


def require_sources(recipe: dict, results: Path):
    """Raise UserError if a run that the recipe names is not complete."""
    for stage, run_id in sources(recipe):
        complete(results, stage, run_id)


def write(recipe: dict, results: Path):
    """Write a recipe's table as CSV and Markdown, and then the recipe itself, into `results`/tables.

    Raises UserError before anything is written if a run that the recipe names is not complete.
    """
    folder, name = results / "tables", recipe["output"]
    require_sources(recipe, results)
    frame = table(recipe, results)
    write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    note = _footnote(recipe, results)
    write_text(folder / f"{name}.md", f"# {TITLES[name]}\n\n{_markdown(frame)}\n\n{note}\n")
    write_text(folder / f"{name}.json", sidecar(recipe, results))
