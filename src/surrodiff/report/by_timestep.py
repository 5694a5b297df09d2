"""Figures over timesteps: the terms of bounds, and how the gradients of objectives vary."""

from collections import Counter
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from surrodiff.planning.recipes import Recipe
from surrodiff.store.runs import load_run, verified

MANY = 1_000  # the ratio of an axis's ends from which only powers of ten are written out


def logarithmic(axis, which: str = "x"):
    """Make an axis, `x` or `y`, logarithmic, with numbers written out at 1, 2 and 5, or only at 1 where there are many.
    To be called when all is drawn."""
    axis.set(**{f"{which}scale": "log"})
    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    written = axis.xaxis if which == "x" else axis.yaxis
    written.set_major_locator(LogLocator(subs=(1,) if low < high / MANY else (1, 2, 5)))
    written.set_major_formatter("{x:g}")
    written.set_minor_formatter(NullFormatter())


_TERMS = {
    "bits_per_dim": "term of the bound, bits per dimension",
    "v": "learned variance by its logarithm\n(0: the posterior's, 1: beta)",
}


def terms(recipe: Recipe, results: Path) -> Figure:
    """Of the rows' likelihoods over all timesteps of a diffusion, what they have by timestep: terms of the bound, of
    which that of t is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) and at t = 1 -log p(x_0 | x_1); or the mean v of a
    learned variance. Both are means over images and pixels, of the first training seed."""
    column, rows = recipe.drawing.figure.of, {}
    for row in recipe.table.rows:
        if row.runs and row.runs[0].likelihood:
            path, config, record = load_run(results, "likelihoods", row.runs[0].likelihood)
            if config.samples is not None:  # of no diffusion
                continue
            table = pd.read_csv(verified(path, record, "terms.csv"))
            if config.timesteps is None and column in table and table[column].notna().any():
                rows.setdefault(row.runs[0].likelihood, (row, table[table["t"] > 0], record))
    figure = Figure(figsize=(9, 5.5))
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.24, top=0.9)
    axis = figure.subplots()
    for row, table, _ in rows.values():
        axis.plot(table["t"], table[column], ".-", markersize=3, linewidth=1.2, label=row.line.label)
    logarithmic(axis)
    if column == "bits_per_dim":
        axis.set_yscale("log")
    axis.set_xlabel("timestep t")
    axis.set_ylabel(_TERMS[column])
    counts = sorted({record["num_images"] for _, _, record in rows.values()})
    steps = sorted({row.of_steps for row, _, _ in rows.values()})
    data = next(iter(rows.values()))[2]["data"]
    axis.set_title(
        f"Preset {results.name}: {data}, {', '.join(map(str, steps))} training steps, means over "
        f"{', '.join(map(str, counts))} held-out images"
    )
    figure.legend(*axis.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    return figure


_STYLES = ("-", "--", ":", "-.")
# Of what a figure of diagnoses may draw, the columns of timesteps.csv with their labels; `relative` is made of them.
_DIAGNOSES = {
    "effective_sample_size": {"effective_sample_size": "effective sample size of the\nweights, relative to k"},
    "gradient_variance": {
        "relative": "variance of the gradient,\nrelative to its mean's square",
        "gradient_variance": "variance of the gradient",
    },
    "loss": {"loss": "mean loss, without weights"},
}


def diagnoses(recipe: Recipe, results: Path) -> Figure:
    """Of the rows' diagnoses, of the first training seed, what they have by timestep (see diffusion.diagnosis). Rows of
    one label have one colour, and of these each its own style of line. Where the estimate of the mean gradient's square
    is not positive, the relative variance is left out."""
    rows = {row.runs[0].diagnosis: row for row in reversed(recipe.table.rows) if row.runs and row.runs[0].diagnosis}
    rows = {run: rows[run] for run in reversed(rows)}
    counts, seen = Counter(row.line.label for row in rows.values()), Counter()
    panels = _DIAGNOSES[recipe.drawing.figure.of]
    legend_rows = -(-len(rows) // 4)
    inches = 0.6 + 3.6 * len(panels) + 0.6 + 0.2 * legend_rows
    figure = Figure(figsize=(9, inches))
    figure.subplots_adjust(
        left=0.12, right=0.98, bottom=(0.75 + 0.2 * legend_rows) / inches, top=1 - 0.4 / inches, hspace=0.08
    )
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    colors = {label: f"C{number % 10}" for number, label in enumerate(counts)}
    for run, row in rows.items():
        path, _, record = load_run(results, "diagnoses", run)
        table = pd.read_csv(verified(path, record, "timesteps.csv"))
        square = table["gradient_square"]
        table["relative"] = table["gradient_variance"] / square.where(square > 0)
        label = row.line.label
        style = _STYLES[seen[label] % len(_STYLES)]
        seen[label] += 1
        text = label if counts[label] == 1 else f"{label}: {row.line.name}"
        for axis, column in zip(axes, panels, strict=True):
            axis.plot(
                table["t"], table[column], f".{style}", color=colors[label], markersize=3, linewidth=1.2, label=text
            )
    for axis, (column, text) in zip(axes, panels.items(), strict=True):
        axis.set_ylabel(text)
        if column == "effective_sample_size":
            axis.set_ylim(0, 1.05)
        else:
            axis.set_yscale("log")
    logarithmic(axes[-1])
    axes[-1].set_xlabel("timestep t")
    axes[0].set_title(
        f"Preset {results.name}: {record['data']}, {record['num_images']} training images, {record['repetitions']} "
        "repetitions of their noises",
        fontsize=9,
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=8)
    return figure
