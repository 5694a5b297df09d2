"""The rows of the paper's tables as numbers: means over seeds, 95 % intervals, the paper's values beside ours."""

import csv
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from surrodiff.scoring.uncertainty import Estimate, Measurement, Spread, difference
from surrodiff.store.losses import training_losses
from surrodiff.store.runs import load_run


def paper_lines() -> list[dict[str, str]]:
    """The paper's tables, all cells as text."""
    with open(Path(__file__).with_name("paper.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    """A cell of the paper's tables; None where it is blank."""
    return float(text) if text else None


def paper_row(table: str, row: dict) -> dict[str, str]:
    """The paper's row that a row of the plan repeats: same model and the same share of the training steps (Tables 4.1
    and 4.2) or of T (Table 4.5); a row of blanks with the model's name for a model of the user's own."""
    column, of_paper, share = "", 0, None
    if table in ("table_4_1", "table_4_2"):
        column, of_paper, share = "train_steps", 150_000, row["step"] / row["of_steps"]
    elif row.get("t_mid") is not None:
        column, of_paper, share = "t_mid", 1000, row["t_mid"] / row["default_T"]
    for line in paper_lines():
        same_share = share is None or (line[column] and abs(int(line[column]) / of_paper - share) < 1e-3)
        if (line["table"], line["model"]) == (table, row["model"]) and same_share:
            return line
    return dict.fromkeys(paper_lines()[0], "") | {"row": row["model"]}


def score_names(features: str, num_samples: int | None) -> dict[str, str]:
    """How the Frechet distance, the Inception Score and the kernel distance are called in a table: `fid`, `is`, `kid`
    only for the 2015 Inception's features, `fid` only for 50,000 samples; else the features are part of the name."""
    if features == "inception":
        return {"distance": "fid" if num_samples == 50_000 else "fd_inception", "score": "is", "kernel": "kid"}
    return {"distance": f"fd_{features}", "score": f"is_{features}", "kernel": f"kd_{features}"}


def scores_of(row: dict, results: Path) -> list[dict]:
    """The score records of a row, one for each pair of seeds."""
    return [load_run(results, "scores", run["score"])[2] for run in row["runs"]]


def _by_seed(row: dict, results: Path, measure: Callable[[dict], Measurement]) -> dict[int, Measurement]:
    """What a function measures of a row's score records, averaged over the sampling seeds of each training seed."""
    found: dict[int, list[Measurement]] = {}
    for run, score in zip(row["runs"], scores_of(row, results), strict=True):
        found.setdefault(run["seed"], []).append(measure(score))
    return {
        seed: Measurement(
            statistics.fmean(m.value for m in several), math.hypot(*(m.error for m in several)) / len(several)
        )
        for seed, several in found.items()
    }


def _distances(row: dict, results: Path) -> dict[int, Measurement]:
    return _by_seed(row, results, lambda s: Measurement(s["train"]["frechet_distance"], s["train"]["frechet_error"]))


def _inception_scores(row: dict, results: Path) -> dict[int, Measurement]:
    return _by_seed(row, results, lambda s: Measurement(s["is_mean"], s["is_std"] / math.sqrt(s["is_splits"])))


def _loss_variances(row: dict, results: Path) -> dict[int, Measurement]:
    """Variance of the training loss around its running mean, relative to that mean, after the first third of training;
    the error takes logged losses for independent normal ones. Of a log of three rows or fewer, NaN."""
    found = {}
    for seed, run in {run["seed"]: run["run"] for run in row["runs"]}.items():
        losses = training_losses(results, run)["loss"]
        losses = losses[len(losses) // 3 :]
        relative = losses / losses.rolling(max(3, len(losses) // 10), center=True, min_periods=1).mean()
        variance = float(relative.var()) if len(losses) > 3 else math.nan
        found[seed] = Measurement(variance, variance * math.sqrt(2 / max(1, len(losses) - 1)))
    return found


_MEASURED = {"distance": _distances, "score": _inception_scores, "loss_variance": _loss_variances}


class Uncertainty:
    """The estimates of a recipe's rows: values of several trainings with their intervals (see uncertainty).

    A row of one seed is taken to vary as Default's trainings do; its loss's variance, whose size differs much between
    rows, as they do relative to their mean.
    """

    def __init__(self, recipe: dict, results: Path):
        self.results, self.default = results, recipe["default"]
        self._of_default: dict[str, dict[int, Measurement]] = {}

    def estimate(self, metric: str, row: dict) -> Estimate:
        """A row's `distance`, `score` (the Inception Score) or `loss_variance`."""
        measure = _MEASURED[metric]
        if metric not in self._of_default:
            self._of_default[metric] = measure(self.default, self.results)
        own, default = measure(row, self.results), self._of_default[metric]
        spread = Spread.over(default)
        if spread and metric == "loss_variance":
            spread = spread.scaled(Estimate(own, None).value / Estimate(default, None).value)
        return Estimate(own, spread)

    def against_default(self, row: dict) -> str:
        """`better`, `worse` or `within interval`, that of the difference from the mean of Default's seeds; nothing
        where one seed is all there is."""
        found, interval = difference(self.estimate("distance", row), self.estimate("distance", self.default))
        if interval is None:
            return ""
        if abs(found) <= interval:
            return "within interval"
        return "better" if found < 0 else "worse"


def score_cells(row: dict, uncertainty: Uncertainty, line: dict[str, str]) -> dict:
    """Columns of a row's scores, against the training and the held-out split, beside those of the paper's line."""
    scores = scores_of(row, uncertainty.results)
    names = score_names(scores[0]["features"], scores[0]["num_samples"])
    distance, kernel, score = names["distance"], names["kernel"], names["score"]
    estimates = {what: uncertainty.estimate(what, row) for what in ("distance", "score")}

    def mean(key: str, split: str = "train") -> float | None:
        values = [s[split][key] for s in scores]
        return None if None in values else statistics.fmean(values)

    return {
        f"{score}_mean": estimates["score"].value,
        f"{score}_std": statistics.fmean(s["is_std"] for s in scores),
        "paper_is_mean": number(line["is_mean"]),
        "paper_is_std": number(line["is_std"]),
        f"{score}_interval": estimates["score"].interval,
        distance: estimates["distance"].value,
        "paper_fid": number(line["fid"]),
        f"{distance}_interval": estimates["distance"].interval,
        f"{distance}_infinity": mean("frechet_infinity"),
        f"{distance}_held_out": mean("frechet_distance", "held_out"),
        f"{kernel}_mean": mean("kernel_distance"),
        f"{kernel}_std": mean("kernel_distance_std"),
        f"{kernel}_held_out": mean("kernel_distance", "held_out"),
        "precision": mean("precision"),
        "recall": mean("recall"),
        "precision_held_out": mean("precision", "held_out"),
        "recall_held_out": mean("recall", "held_out"),
    }


def _relative_seconds_per_sample(row: dict, timing: dict) -> tuple[float, float]:
    """Seconds of this row's sampler over those of Default's whole chain, both measured in the same job, and the half
    width of their spread."""
    own, after, default_T = row["evaluations"], row["default_evaluations"], row["default_T"]
    ratio, spread = (timing[key]["evaluation_seconds_per_image"] for key in ("to_baseline", "to_baseline_interval"))
    return (ratio * own + after) / default_T, spread * own / default_T


def speeds(row: dict, results: Path) -> dict[str, float | None]:
    """`samples_per_second` of a row's sampler and its ratio to Default's; None where the row is not timed."""
    if "timing" not in row:
        return dict.fromkeys(("samples_per_second", "sampling_speed_ratio", "sampling_speed_ratio_interval"))
    relative, spread = _relative_seconds_per_sample(row, load_run(results, "timings", row["timing"])[2])
    default = load_run(results, "timings", row["default_timing"])[2]["model"]
    default_speed = 1 / (default["evaluation_seconds_per_image"] * row["default_T"])
    return {
        "samples_per_second": default_speed / relative,
        "sampling_speed_ratio": 1 / relative,
        "sampling_speed_ratio_interval": spread / relative**2,
    }


def train_times(row: dict, results: Path) -> dict[str, float]:
    """`train_time_ratio` of a timed row's model to Default's, and half of its interval."""
    timing = load_run(results, "timings", row["timing"])[2]
    ratio, spread = (timing[key]["train_step_seconds"] for key in ("to_baseline", "to_baseline_interval"))
    return {"train_time_ratio": ratio, "train_time_ratio_interval": spread}


def _own_cells(table: str, row: dict, line: dict[str, str], uncertainty: Uncertainty) -> dict:
    """Columns that only one of the tables has."""
    results = uncertainty.results
    run = row["runs"][0]["run"]
    _, config, record = load_run(results, "models", run)
    match table:
        case "table_4_1" | "table_4_2":
            return {
                "model": line["row"],
                "train_steps": row["step"],  # here the rows' subject, so it comes first
                "paper_train_steps": number(line["train_steps"]),
                "T": row["T"],
                "paper_T": number(line["T"]),
            }
        case "table_4_3":
            network = config["network"]
            default = load_run(results, "timings", row["default_timing"])[2]["model"]
            times = train_times(row, results)
            hours = times["train_time_ratio"] * default["train_step_seconds"] * row["of_steps"] / 3600
            return {
                "architecture": line["row"],
                "block": network["block"],
                "paper_block": line["block"],
                "channel_multipliers": "(" + ", ".join(map(str, network["channel_multipliers"])) + ")",
                "paper_channel_multipliers": line["channel_multipliers"],
                "num_res_blocks": network["num_res_blocks"],
                "paper_num_res_blocks": number(line["num_res_blocks"]),
                "base_channels": network["base_channels"],
                "paper_base_channels": number(line["base_channels"]),
                "parameters": record["parameters"],
                "parameters_m_by_paper": record["parameters_by_paper"],
                "paper_parameters_m": number(line["parameters_m"]),
                **speeds(row, results),
                "paper_samples_per_second": number(line["samples_per_second"]),
                "train_hours": hours,
                "paper_train_hours": number(line["train_hours"]),
                **times,
            }
        case "table_4_4":
            loss_variance = uncertainty.estimate("loss_variance", row)
            return {
                "setup": line["row"],
                **train_times(row, results),
                "paper_train_time_ratio": number(line["train_time_ratio"]),
                "loss_variance": loss_variance.value,
                "loss_variance_interval": loss_variance.interval,
            }
        case "table_4_5":
            return {
                "surrogate": line["row"],
                "surrogate_image_size": config["image_size"],
                "t_mid": row["t_mid"],
                "paper_t_mid": number(line["t_mid"]),
                "T": row["default_T"],
                "paper_T": number(line["T"]),
                **speeds(row, results),
                "paper_samples_per_second": number(line["samples_per_second"]),
            }
    raise ValueError(f"no table {table!r}")


def _cells(table: str, row: dict, uncertainty: Uncertainty) -> dict:
    line = paper_row(table, row)
    scores = scores_of(row, uncertainty.results)
    is_default = row["model"] == "Default" and row["step"] == row["of_steps"] and row.get("t_mid") is None
    last = {
        "against_default": "" if is_default else uncertainty.against_default(row),
        "seeds": len({run["seed"] for run in row["runs"]}),
        "num_samples": scores[0]["num_samples"],
        "train_steps": row["step"],
        "data": scores[0]["data"],
        "note": line["note"],
    }
    return _own_cells(table, row, line, uncertainty) | score_cells(row, uncertainty, line) | last


def frame(recipe: dict, results: Path) -> pd.DataFrame:
    """One of the paper's tables by its recipe: a row for each row of the parameters, then those that the paper quotes.

    Raises UserError if a run that it needs is not complete.
    """
    name, uncertainty = recipe["output"], Uncertainty(recipe, results)
    rows = [_cells(name, row, uncertainty) for row in recipe["rows"]]
    for line in paper_lines():
        if line["table"] == name and not line["model"]:
            quoted = {f"paper_{key}": number(line[key]) for key in ("train_steps", "T", "is_mean", "is_std", "fid")}
            rows.append({"model": line["row"], "note": line["note"], **quoted})
    made = pd.DataFrame(rows)
    counts = ("train_steps", "t_mid", "T", "num_res_blocks", "base_channels")
    whole = [*counts, *(f"paper_{count}" for count in counts), "num_samples", "seeds"]
    types = dict.fromkeys(whole, "Int64") | {c: float for c in made if c.endswith("_interval")}
    return made.astype({column: kind for column, kind in types.items() if column in made})
