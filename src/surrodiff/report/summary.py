"""What `dvc metrics`, `dvc exp show` and `dvc plots` read: every row's scores and speed, and the training curves.

Names and columns are the same whatever the preset and its features, so that `dvc.yaml` can name them.
"""

from pathlib import Path
from statistics import fmean

import pandas as pd

from surrodiff.planning.recipes import Recipe, sidecar
from surrodiff.report.records import Records
from surrodiff.report.rows import Values, score_names
from surrodiff.report.tables import require_sources
from surrodiff.store.losses import training_losses
from surrodiff.store.runs import write_json, write_text

CURVE_POINTS = 200
COLUMNS = (
    *("name", "model", "train_steps", "t_mid", "frechet_distance", "frechet_column", "is_mean", "is_std"),
    *("kernel_distance", "precision", "recall", "num_samples", "seeds"),
    *("samples_per_second", "sampling_speed_ratio", "sampling_speed_ratio_interval"),
)
CURVES = ("model", "train_step", "loss_uniform_t")


def rows(recipe: Recipe, results: Path) -> pd.DataFrame:
    """One line for each sampler in any table that is no oracle, by the name of its samples; means over seeds."""
    values = Values(recipe, Records(results))
    by_name: dict[str, dict] = {}
    # A sampler can stand in several tables; those of its rows that have speeds come last and stay.
    scored = [row for row in recipe.rows() if row.runs and row.runs[0].sample and not (row.line.seeds or row.oracle)]
    for row in sorted(scored, key=lambda row: bool(row.timings)):
        scores, speed = values.scores(row), values.speed(row)
        name = row.runs[0].sample.rpartition("-")[0]
        by_name[name] = {
            "name": name,
            "model": row.line.subject,
            "train_steps": row.step,
            "t_mid": row.t_mid,
            "frechet_distance": fmean(score.train.frechet_distance for score in scores),
            "frechet_column": score_names(scores[0].features, scores[0].num_samples).distance,
            "is_mean": fmean(score.is_mean for score in scores),
            "is_std": fmean(score.is_std for score in scores),
            "kernel_distance": fmean(score.train.kernel_distance for score in scores),
            "precision": fmean(score.train.precision for score in scores),
            "recall": fmean(score.train.recall for score in scores),
            "num_samples": scores[0].num_samples,
            "seeds": len(row.seeds),
            "samples_per_second": speed and speed.value,
            "sampling_speed_ratio": speed and speed.ratio,
            "sampling_speed_ratio_interval": speed and speed.interval,
        }
    lines = sorted(by_name.values(), key=lambda row: row["name"])
    return pd.DataFrame(lines, columns=COLUMNS).astype({"t_mid": "Int64"})


def curves(recipe: Recipe, results: Path) -> pd.DataFrame:
    """Training loss at uniform t of every diffusion model in any table, in at most CURVE_POINTS averages; of several
    seeds the first."""
    frames = []
    for run_id in sorted(
        {row.runs[0].model for row in recipe.rows() if row.runs and row.runs[0].model and not row.line.seeds}
    ):
        losses = training_losses(results, run_id)
        if "loss_uniform_t" in losses:
            group = losses.index // -(-len(losses) // CURVE_POINTS)
            loss = losses["loss_uniform_t"].groupby(group).mean()
            step = losses["step"].groupby(group).last()
            name = run_id.rpartition("-")[0]
            frames.append(pd.DataFrame({"model": name, "train_step": step, "loss_uniform_t": loss}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=CURVES)


def write(recipe: Recipe, results: Path):
    """Write metrics.json, rows.csv, losses.csv and the recipe itself into `results`/summary.

    Raises UserError before anything is written if a run that the recipe names is not complete.
    """
    require_sources(recipe, results)
    folder, frame = results / "summary", rows(recipe, results)
    # By metric and then by row, so that `dvc exp show --keep` and `dvc metrics diff` have what compares side by side.
    metrics: dict[str, dict[str, float]] = {}
    for row in frame.to_dict("records"):
        values = {row["frechet_column"]: row["frechet_distance"], "is": row["is_mean"]}
        values["samples_per_second"] = row["samples_per_second"]
        for metric, value in values.items():
            if pd.notna(value):
                metrics.setdefault(metric, {})[row["name"]] = float(f"{value:.4g}")
    for name, table in (("rows", frame), ("losses", curves(recipe, results))):
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_json(folder / "metrics.json", metrics)
    write_text(folder / "summary.json", sidecar(recipe, results))
