"""The figures of studies from tables, loss logs and samples, as PNG and SVG."""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from surrodiff.config.studies import Scatter
from surrodiff.errors import UserError
from surrodiff.planning.recipes import Recipe, sidecar
from surrodiff.report import pictures, points
from surrodiff.report.by_timestep import diagnoses, logarithmic, terms
from surrodiff.report.columns import frame
from surrodiff.report.records import Records
from surrodiff.report.rows import Values
from surrodiff.report.tables import require_sources
from surrodiff.store.losses import training_losses
from surrodiff.store.runs import load_run, replacing, write_text

# The same numbers give the same file: no dates, no random ids, and margins set by hand: a solved layout can differ.
_STYLE = {"svg.hashsalt": "surrodiff", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
# A point of the curves is the mean of a tenth of the logged losses, and of no fewer than these. The paper's is of 1,000
# steps, each of them logged; ours logs one in 50, and a mean of 20 of those would show little but their noise.
WINDOWS, LEAST_WINDOW = 10, 10
# Of what a scatter may draw, our column and its label where they are not the same.
_OURS = {"parameters_m": "parameters_m_by_paper"}
_LABELS = {
    "parameters_m": "parameters, millions (of 2^20)",
    "samples_per_second": "sampling speed, samples/s",
    "train_hours": "train time, hours",
    "total_hours": "all trainings and samples, hours",
    "train_steps": "training steps",
    "train_evaluations": "network evaluations in training",
    "evaluations": "network evaluations for one image",
}
# Matplotlib's ten colours, and then their lighter ones.
PALETTE = [mpl.colormaps["tab20"].colors[number] for number in (*range(0, 20, 2), *range(1, 20, 2))]
WIDE = 10  # the ratio of distances from which a logarithmic figure shows them by their logarithm
_HIGH = ("samples_per_second",)  # of these more is better, of the others less


def scatter(recipe: Recipe, results: Path) -> Figure:
    """The distance against each of the figure's columns, ours with 95 % intervals beside the paper's; if asked for, a
    dotted line is the least-squares line through the standard blocks, and a dashed one the Pareto front. Oracles are
    hollow and on no front."""
    records = Records(results)
    values, rows = Values(recipe, records), frame(recipe, records, "scores", "t_mid", "sampler")
    distance, wanted = values.names.distance, recipe.drawing.figure
    oracles = {row.label for row in recipe.table.rows if row.oracle}
    papers = {
        name: f"paper_{name}_mean" if f"paper_{name}_mean" in rows else f"paper_{name}" for name in (*wanted.x, "fid")
    }
    # Of what no row has, and of what is printed as other text, blanks.
    drawn = [*(_OURS.get(x, x) for x in wanted.x), *papers.values(), distance, f"{distance}_interval"]
    blank = pd.Series(math.nan, rows.index)
    numbers = {name: pd.to_numeric(rows.get(name, blank), errors="coerce").astype(float) for name in drawn}
    rows = rows.assign(**numbers)
    rows = rows[rows[distance].notna() | rows[papers["fid"]].notna()].reset_index(drop=True)
    labels = dict(_LABELS)
    if "train_hours" in wanted.x and rows["train_hours"].max() < 1:
        rows["train_hours"] *= 3600
        labels["train_hours"] = "train time, seconds"
    printed = pd.concat([rows[[papers[x], papers["fid"]]].notna().all(axis=1) for x in wanted.x], axis=1).any(axis=1)
    beside = printed.any()
    rows = rows[rows[distance].notna() | printed].reset_index(drop=True)
    entries = rows.iloc[:, 0].nunique() + 1
    inches = 0.8 + 2.6 * len(wanted.x) + 0.4 * ((entries - 1) // 4)
    figure = Figure(figsize=(9, inches))
    legend = (0.35 + 0.2 * -(-entries // 4)) / inches
    figure.subplots_adjust(
        left=0.08, right=0.98, bottom=legend + 0.5 / inches, top=1 - 0.75 / inches, wspace=0.22, hspace=0.3
    )
    axes = figure.subplots(len(wanted.x), 1 + beside, squeeze=False)
    for x, (left, *right) in zip(wanted.x, axes, strict=True):
        ours = _OURS.get(x, x)
        drawn = _Axes(x, ours, distance, labels.get(x, x), distance, "t_mid")
        _scatter(left, rows, drawn, wanted, oracles)
        found = rows.dropna(subset=[ours, distance])
        intervals = found[f"{distance}_interval"]
        left.errorbar(found[ours], found[distance], intervals, fmt="none", ecolor="gray", zorder=0)
        _front(left, rows, drawn, wanted, oracles)
        for axis in right:
            if rows[papers[x]].notna().any():
                quoted = _Axes(x, papers[x], papers["fid"], _LABELS.get(x, x), "FID", "paper_t_mid")
                _scatter(axis, rows, quoted, wanted, oracles)
                _front(axis, rows, quoted, wanted, oracles)
            else:
                axis.axis("off")
    score = values.scores(recipe.default)[0]
    steps = sorted({row.of_steps for row in recipe.table.rows if row.of_steps})
    axes[0, 0].set_title(
        f"ours, preset {results.name}: {score.data}, {', '.join(map(str, steps))} training steps,\n"
        f"{score.features} features of {score.num_samples} samples; bars: 95 % intervals",
        fontsize=9,
    )
    if beside:
        study = recipe.table.study
        axes[0, 1].set_title(f"{study.source or 'as quoted'}\n{_in_lines(study.source_rests_on or '')}", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=4)
    return figure


def _in_lines(text: str, width: int = 60) -> str:
    return "\n".join(textwrap.wrap(text, width))


@dataclass(frozen=True)
class _Axes:
    """What a scatter's axes show: the figure's `x`, the columns of x, y and t_mid, and their labels."""

    wanted: str
    x: str
    y: str
    x_label: str
    y_label: str
    t_mid: str

    def described(self, row: pd.Series) -> str:
        """A row's point in words."""
        parts = [f"t_mid {row[self.t_mid]:g}"] if pd.notna(row.get(self.t_mid)) else []
        if self.t_mid == "t_mid":  # of our own
            parts += [row["sampler"]] * pd.notna(row["sampler"]) + [f"{row['evaluations']:g} evaluations"]
        interval = row.get(f"{self.y}_interval")
        spread = "" if pd.isna(interval) else f" ± {interval:.2g}"
        parts += [f"{self.x_label} {row[self.x]:.4g}", f"{self.y_label} {row[self.y]:.4g}{spread}"]
        return f"{row.iloc[0]}: {', '.join(parts)}"

    def names(self, rows: pd.DataFrame) -> list[str]:
        """What rows are called beside their points: by their label, and what else tells them apart."""
        names = [row.iloc[0] + _said("t_mid", row.get(self.t_mid)) for _, row in rows.iterrows()]
        if self.t_mid != "t_mid":  # of our own alone
            return names
        counts = [_said("evaluations", row.get("evaluations")) for _, row in rows.iterrows()]
        return [name + count * (names.count(name) > 1) for name, count in zip(names, counts, strict=True)]


def _said(what: str, number) -> str:
    return "" if pd.isna(number) or not number else f", {what} {number:g}"


def _scatter(axis, rows: pd.DataFrame, axes: _Axes, wanted: Scatter, oracles: set[str]):
    x, y = axes.x, axes.y
    block = rows.get("block", pd.Series("standard", rows.index))
    colors: dict[str, str] = {}  # rows of one label, a sweep, have one and are one entry of the legend
    for number, row in rows.iterrows():
        marker, label = "o" if block[number] == "standard" else "s", row.iloc[0]
        own = None if label in colors else label
        color = colors.setdefault(label, PALETTE[len(colors) % len(PALETTE)])
        fill = {"facecolors": "none", "edgecolors": color} if label in oracles else {"color": color}
        point = axis.scatter(row[x], row[y], s=60, marker=marker, label=own, **fill)
        if row[[x, y]].notna().all():
            point.set_gid(points.title(axes.described(row)))
    for label, sweep in rows.dropna(subset=[x, y]).groupby(rows.columns[0]) if wanted.join else ():
        sweep = sweep.sort_values(x)
        axis.plot(sweep[x], sweep[y], color=colors[label], linewidth=1)
    if wanted.log:
        logarithmic(axis)
        shown = rows[[x, y]].dropna()[y]
        if len(shown) and 0 < shown.min() < shown.max() / WIDE:
            logarithmic(axis, "y")
    standard = rows[block == "standard"].dropna(subset=[x, y])
    if wanted.fit and standard[x].nunique() > 1:
        slope, offset = np.polyfit(standard[x].astype(float), standard[y].astype(float), 1)
        ends = np.array([standard[x].min(), standard[x].max()], dtype=float)
        axis.plot(ends, slope * ends + offset, ":", color="gray", label="fit over standard blocks")
    axis.margins(0.12)
    axis.set_xlabel(axes.x_label)
    axis.set_ylabel(axes.y_label)


def _front(axis, rows: pd.DataFrame, axes: _Axes, wanted: Scatter, oracles: set[str]):
    """Draw the Pareto front of the rows that are no oracles, if it is asked for."""
    rows = rows[~rows.iloc[:, 0].isin(oracles)]
    on_front = rows.iloc[points.front(rows[axes.x], rows[axes.y], high=axes.wanted in _HIGH)]
    if wanted.front and len(on_front):
        points.draw_front(axis, on_front[axes.x], on_front[axes.y], axes.names(on_front))


def curves(recipe: Recipe, results: Path) -> Figure:
    """Training of diffusion models over the first third of its steps (the paper: 50,000 of 150,000): how low the loss
    at uniform t is, and how smooth the objective that each setup minimises.

    Above, means over a window of logged losses at uniform t, without weights, so that the setups compare; shaded, twice
    the standard error of such a mean, from the spread within the window. Below, that spread of the objective itself,
    weights included, relative to its mean: what importance sampling lowers. The spread is that of consecutive losses,
    the root of half the mean square of their differences, so that the curve's own fall is not in it. Both axes are cut
    to what lies wholly after the first quarter, since the first steps' losses would hide all else.
    """
    figure = Figure(figsize=(9, 8))
    figure.subplots_adjust(left=0.12, right=0.98, bottom=0.15, top=0.95, hspace=0.08)
    level, roughness = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    settled = {level: [], roughness: []}
    # One training of each diffusion model is drawn: the first seed's.
    first = {row.runs[0].model: row for row in reversed(recipe.table.rows) if row.runs and row.runs[0].model}
    logs = [(row, training_losses(results, run)) for run, row in reversed(first.items())]
    logs = [log for log in logs if "loss_uniform_t" in log[1]]
    if not logs:
        raise UserError(
            f"{recipe.output}: no row of {recipe.drawing.table} is about a diffusion model, whose losses to draw"
        )
    for number, (row, losses) in enumerate(logs):
        losses = losses[losses["step"] <= max(row.of_steps / 3, losses["step"].iloc[min(9, len(losses) - 1)])]
        window = min(max(LEAST_WINDOW, len(losses) // WINDOWS), max(1, len(losses) // 2))
        mean = losses.rolling(window).mean().iloc[window - 1 :]
        spread = (losses.diff().pow(2) / 2).rolling(max(1, window - 1)).mean().pow(0.5).iloc[window - 1 :]
        style = {"color": f"C{number % 10}", "linewidth": 1.5, "label": row.line.label}
        error = 2 * spread["loss_uniform_t"] / window**0.5
        low, high = mean["loss_uniform_t"] - error, mean["loss_uniform_t"] + error
        level.plot(mean["step"], mean["loss_uniform_t"], **style)
        level.fill_between(mean["step"], low, high, color=style["color"], alpha=0.15, linewidth=0)
        relative = 100 * spread["loss"] / mean["loss"]
        roughness.plot(mean["step"], relative, **style)
        after = losses["step"].shift(window - 1).iloc[window - 1 :] > losses["step"].iloc[-1] / 4
        settled[level].append(mean["loss_uniform_t"][after])
        settled[roughness].append(relative[after])
    level.set_xlim(left=0)
    _cut(level, settled[level])
    _cut(roughness, settled[roughness], lowest=0)
    data = load_run(results, "data", load_run(results, "models", logs[0][0].runs[0].model)[1].data)[2]
    level.set_title(f"Training over the first third of its steps, preset {results.name}: {data['source']}")
    level.set_ylabel("loss at uniform t, mean over pixels\n(axis cut to what lies after the first quarter)")
    roughness.set_ylabel("spread of the objective, %\n(standard deviation / mean)")
    every = losses["step"].iloc[-1] // len(losses)
    roughness.set_xlabel(
        f"training step; a point is the mean of {window} losses, one every {every} steps\n"
        "shaded: two standard errors of that mean, by the spread of the losses in it"
    )
    figure.legend(*level.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    return figure


def _cut(axis, curves: list[pd.Series], lowest: float | None = None):
    """Limit an axis to the values of `curves`, or from `lowest` to the highest of them, with a margin."""
    values = pd.concat(curves).dropna()
    if len(values):
        bottom, top = (values.min() if lowest is None else lowest), values.max()
        margin = max(0.15 * (top - bottom), 0.01 * top) or 1.0
        axis.set_ylim(bottom - (margin if lowest is None else 0), top + margin)


DRAW = {
    **{"scatter": scatter, "curves": curves, "pairs": pictures.pairs, "sweep": pictures.sweep},
    **{"terms": terms, "diagnoses": diagnoses},
}


def write(recipe: Recipe, results: Path):
    """Draw a recipe's figure as PNG and SVG, and write the recipe itself, into `results`/figures.

    In the SVG the points of a scatter say under the mouse what they are. Raises UserError before anything is written if
    a run that the recipe names is not complete.
    """
    require_sources(recipe, results)
    folder, name = results / "figures", recipe.output
    draw = DRAW[recipe.drawing.figure.kind]
    with mpl.rc_context(_STYLE):
        figure = draw(recipe, results)
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
        with replacing(folder / f"{name}.svg") as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
            points.add_titles(temporary)
    write_text(folder / f"{name}.json", sidecar(recipe, results))
