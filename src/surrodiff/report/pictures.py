"""Figures that show samples: a surrogate's, and what the diffusion makes of them."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from surrodiff.data.grids import tile
from surrodiff.planning.plan import Row
from surrodiff.planning.recipes import Recipe
from surrodiff.store.runs import load_run, verified

_GAP = 2  # white pixels between the images of one sample


def _shown(recipe: Recipe, results: Path, count: int) -> list[np.ndarray]:
    """Of each sample run that a recipe shows the first images, uint8 (N, C, S, S)."""
    images = []
    for sample in recipe.samples():
        path, _, record = load_run(results, "samples", sample)
        images.append(np.load(verified(path, record, "samples.npy"), allow_pickle=False)[:count])
    return images


def _picture(images: np.ndarray, columns: int, top: float, width: float = 9):
    """A figure with uint8 images (N, C, H, W) in rows of `columns`, so many inches wide, with `top` inches above them;
    returns it and the axis with the images, in pixels."""
    picture = tile(images, columns)
    height = width * picture.shape[0] / picture.shape[1]
    figure = Figure(figsize=(width, height + top))
    axis = figure.add_axes((0, 0, 1, height / (height + top)))
    axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
    axis.axis("off")
    return figure, axis


def pairs(recipe: Recipe, results: Path, count: int = 24, columns: int = 6) -> Figure:
    """The surrogate's samples and what the diffusion makes of them from t_mid on, side by side."""
    images = _shown(recipe, results, count)
    left, right = (np.stack([_enlarged(image) for image in half]) for half in images)
    left = np.pad(left, ((0, 0), (0, 0), (0, 0), (0, _GAP)), constant_values=255)
    together = np.pad(np.concatenate([left, right], 3), ((0, 0), (0, 0), (8, 8), (8, 8)), constant_values=255)
    figure, axis = _picture(together, columns, 0.5)
    size, (_, refined) = images[0].shape[-1], recipe.drawing.shown
    axis.set_title(
        f"Pairs: {refined.label}'s sample on the left, refined from t_mid = {refined.t_mid} (T = {refined.T}) on "
        "the right\n"
        f"preset {results.name}; {size}x{size} pixels, enlarged bicubically",
        fontsize=9,
    )
    return figure


def _column_label(row: Row, rows: list[Row]) -> str:
    """What tells a row's column from the others: t_mid, and the sampler where there are several."""
    samplers = {other.sampler for other in rows}
    return f"t_mid = {row.t_mid}" + f"\n{row.sampler}" * (len(samplers) > 1)


def sweep(recipe: Recipe, results: Path, count: int = 8) -> Figure:
    """A row of images for each sample: the surrogate's, then what the diffusion makes of it from each t_mid on."""
    images = _shown(recipe, results, count)
    alone, *refined = recipe.drawing.shown
    large = np.stack([_enlarged(image) for column in zip(*images, strict=True) for image in column])
    framed = np.pad(large, ((0, 0), (0, 0), (_GAP, _GAP), (_GAP, _GAP)), constant_values=255)
    figure, axis = _picture(framed, len(images), 0.85, width=1.1 * max(len(images), 5))
    labels = ["surrogate alone", *(_column_label(row, refined) for row in refined)]
    side = framed.shape[-1]
    for number, label in enumerate(labels):
        axis.text((number + 0.5) * side, -0.03 * side, label, ha="center", va="bottom", fontsize=8)
    size = images[0].shape[-1]
    figure.suptitle(
        f"{alone.label}'s samples, refined from t_mid down (T = {refined[0].T})\n"
        f"preset {results.name}; {size}x{size} pixels, enlarged bicubically",
        fontsize=9,
    )
    return figure


def _enlarged(image: np.ndarray, least: int = 96) -> np.ndarray:
    """A uint8 image (C, S, S) enlarged by a whole factor to `least` pixels or more. Bicubic, because squares hide the
    strokes of so few pixels."""
    size = image.shape[-1]
    side = size * -(-least // size)
    planes = [Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC) for plane in image]
    return np.stack(planes)
