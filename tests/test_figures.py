"""Figures from records and made-up losses: what their axes enclose, and what a reader can tell from them."""

import numpy as np
import pandas as pd
import pytest
from plans import plan_of
from records import fill

from surrodiff.config.params import parse
from surrodiff.planning import recipes
from surrodiff.report import figures, pictures
from surrodiff.store.runs import open_run

SETUPS = ["Default", "ImportanceSampling", "ImportanceSamplingPlus2", "IWDiff", "IWDiffImportanceSampling"]
SETUPS += ["UniformNoises"]
SMOOTH = ["ImportanceSampling", "ImportanceSamplingPlus2", "IWDiffImportanceSampling"]
# Standard deviation of one step's objective over its mean, with a batch of 128: losses of independent t vary by twice
# their mean, and importance sampling leaves what images of one t differ by.
ROUGH_NOISE, SMOOTH_NOISE = 0.2, 0.035


def made_up_log(model: str, steps: int, every: int, low: float, high: float) -> pd.DataFrame:
    """A loss log whose level falls from `high` to `low` after a start at 1, with noise as a batch of 128 leaves it.

    The logged loss at uniform t is of the same images and noises in every setup.
    """
    number = SETUPS.index(model)
    step = np.arange(every, steps + 1, every)
    shared, own = np.random.default_rng(0), np.random.default_rng(1 + number)
    fall = np.exp(-step / (0.4 * steps))
    level = low + (high - low) * (0.03 * number + fall) + np.exp(-step / (3 * every))
    noise = ROUGH_NOISE if model not in SMOOTH else SMOOTH_NOISE
    uniform = level * (1 + 0.06 * shared.standard_normal(len(step)) + 0.01 * own.standard_normal(len(step)))
    objective = level * (1 + noise * own.standard_normal(len(step)))
    return pd.DataFrame({"step": step, "loss": objective, "loss_uniform_t": uniform, "seconds": 0.0})


@pytest.fixture
def drawn(raw, tmp_path):
    """Figure 4.3 of a preset from loss logs by model; models without one have the records' own."""

    def draw(preset: str, logs: dict[str, pd.DataFrame]):
        plan = plan_of(raw | {"preset": preset})
        losses = {model: log.to_csv(index=False) for model, log in logs.items()}
        fill(plan, tmp_path / preset, "classifier", 64, losses)
        return figures.curves(recipes.figure(plan, "figure_4_3"), tmp_path / preset)

    return draw


def of_scale(raw: dict, preset: str, low: float, high: float) -> dict[str, pd.DataFrame]:
    """Made-up logs of all of a preset's setups, as long and as dense as its own."""
    # Those that the demo logs in its few steps show little but the transient.
    raw["presets"]["demo"]["models"]["Default"]["training"] |= {"steps": 750, "snapshot_every": 250}
    numbers = parse(raw | {"preset": preset}).selected
    steps, every = numbers.models["Default"].training.steps, numbers.execution.log_every
    return {model: made_up_log(model, steps // 3, every, low, high) for model in SETUPS}


SCALES = [("paper", 0.0292, 0.033), ("quick", 0.03, 0.04), ("demo", 0.1, 0.2)]


def curves(axis, log: pd.DataFrame) -> list[np.ndarray]:
    """The values of each curve that are of no step of the first quarter."""
    points, steps = axis.lines[0].get_xdata(), log["step"].to_numpy()
    first = steps[: len(points)]  # of each point's window
    return [line.get_ydata()[first > steps[-1] / 4] for line in axis.lines]


def band_width(axis, number: int) -> float:
    """The mean height of a curve's band."""
    (path,) = axis.collections[number].get_paths()
    middle = axis.lines[number]
    x, y = path.vertices.T
    return np.mean([np.ptp(y[x == step]) for step in middle.get_xdata()])


@pytest.mark.parametrize(("preset", "low", "high"), SCALES)
def test_the_axis_is_cut_to_the_curves_after_the_transient(raw, drawn, preset, low, high):
    logs = of_scale(raw, preset, low, high)
    level, _ = drawn(preset, logs).axes
    values = np.concatenate(curves(level, logs["Default"]))
    bottom, top = level.get_ylim()
    assert bottom < values.min()
    assert top > values.max()
    assert top - bottom < 1.5 * np.ptp(values)
    assert bottom > 0.7 * low
    assert top < 1.2 * high
    assert all(log["loss_uniform_t"].max() > 2 * top for log in logs.values())  # the first steps are outside


@pytest.mark.parametrize(("preset", "low", "high"), SCALES)
def test_setups_of_a_smoother_objective_lie_apart_from_the_others(raw, drawn, preset, low, high):
    logs = of_scale(raw, preset, low, high)
    _, roughness = drawn(preset, logs).axes
    spread = dict(zip(SETUPS, (float(np.mean(curve)) for curve in curves(roughness, logs["Default"])), strict=True))
    rough = {model: spread.pop(model) for model in SETUPS if model not in SMOOTH}
    assert max(spread.values()) < 0.5 * min(rough.values())
    if preset == "paper":
        assert list(spread.values()) == pytest.approx([100 * SMOOTH_NOISE] * len(spread), rel=0.1)
        assert list(rough.values()) == pytest.approx([100 * ROUGH_NOISE] * len(rough), rel=0.1)
    assert roughness.get_ylim()[0] == 0
    assert roughness.get_ylim()[1] > max(rough.values())


def test_points_are_means_of_the_window_and_bands_their_errors(raw, drawn):
    logs = of_scale(raw, "paper", 0.0292, 0.033)
    level, _ = drawn("paper", logs).axes
    values = logs["Default"]["loss_uniform_t"].to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(values, 100)
    spread = ((np.diff(windows) ** 2).mean(1) / 2) ** 0.5
    line = level.lines[0]
    assert line.get_ydata() == pytest.approx(windows.mean(1))
    assert line.get_xdata()[0] == pytest.approx(logs["Default"]["step"][:100].mean())
    assert band_width(level, 0) == pytest.approx(np.mean(4 * spread / 100**0.5), rel=1e-6)


def test_a_noisier_loss_has_the_wider_band(raw, drawn):
    logs = of_scale(raw, "paper", 0.0292, 0.033)
    noise = np.random.default_rng(9).standard_normal(len(logs["IWDiff"]))
    logs["IWDiff"]["loss_uniform_t"] += 0.006 * noise
    level, _ = drawn("paper", logs).axes
    widths = {model: band_width(level, number) for number, model in enumerate(SETUPS)}
    assert widths.pop("IWDiff") > 1.5 * max(widths.values())


@pytest.mark.parametrize("rows", [1, 2, 3, 9, 12])
def test_short_logs_are_drawn(drawn, rows):
    logs = {model: made_up_log(model, 2 * rows, 2, 0.5, 0.9) for model in SETUPS}
    figure = drawn("test", logs)
    level, _ = figure.axes
    assert all(np.isfinite(line.get_ydata()).any() for line in level.lines)
    bottom, top = level.get_ylim()
    assert bottom < np.nanmin(level.lines[0].get_ydata()[-1:]) < top
    figure.canvas.draw()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28)])
def test_pairs_are_drawn_large_and_in_order(tmp_path, plan, shape):
    """Each left half shows one of the surrogate's images, its right one what became of it."""
    recipe = recipes.figure(plan, "figure_4_4")
    assert [plan.runs[sample].name for sample in recipe.samples()] == ["SNGAN_t0", "SNGAN_t2"]
    for sample, offset in zip(recipe.samples(), (0, 5), strict=True):
        run = plan.runs[sample]
        images = np.stack([np.full(shape, 10 * number + offset, np.uint8) for number in range(25)])
        with open_run(tmp_path, run) as folder:
            np.save(folder.path / "samples.npy", images)
            folder.finish({}, ["samples.npy"])
    figure = pictures.pairs(recipe, tmp_path)
    (drawn,) = figure.axes[0].images
    picture = np.asarray(drawn.get_array())
    picture = picture if picture.ndim == 2 else picture[:, :, 0]
    assert f"{shape[-1]}x{shape[-1]} pixels" in figure.axes[0].get_title()
    assert "SNGAN-ResNet-32's sample on the left, refined from t_mid = 2 (T = 8)" in figure.axes[0].get_title()
    rows, columns = 4, 6
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    assert min(height, width // 2) >= 96
    for number in range(rows * columns):
        pair = picture[number // columns * height :, number % columns * width :][:height, :width]
        assert pair[height // 2, width // 4] == 10 * number
        assert pair[height // 2, 3 * width // 4] == 10 * number + 5


@pytest.mark.parametrize("several_samplers", [False, True])
def test_a_sweep_shows_each_sample_over_all_t_mid(raw, tmp_path, several_samplers):
    """Rows in any order, with another surrogate's between them; a column for each, by t_mid."""
    rows = [
        {"surrogate": "SNGAN", "t_mid": [0.75, 0, 0.25]},
        {"surrogate": "DDPMHalf", "t_mid": 0.5},
        {"surrogate": "SNGAN", "name": "more", "t_mid": 0.5, "sampler": "ddim" if several_samplers else "ancestral"},
    ]
    study = {"title": "Own", "group": "paper", "rows": rows, "columns": ["t_mid"]}
    raw["studies"] = {"own": study | {"figures": [{"kind": "sweep", "name": "swept", "surrogate": "SNGAN"}]}}
    plan = plan_of(raw)
    recipe = recipes.figure(plan, "swept")
    more = "_ddim" * several_samplers
    assert [plan.runs[run].name for run in recipe.samples()] == ["SNGAN_t0", "SNGAN_t2", f"SNGAN_t4{more}", "SNGAN_t6"]
    for column, sample in enumerate(recipe.samples()):
        images = np.stack([np.full((3, 8, 8), 20 * number + column, np.uint8) for number in range(12)])
        with open_run(tmp_path, plan.runs[sample]) as folder:
            np.save(folder.path / "samples.npy", images)
            folder.finish({}, ["samples.npy"])
    axis = pictures.sweep(recipe, tmp_path).axes[0]
    picture = np.asarray(axis.images[0].get_array())
    side = picture.shape[1] // 4
    assert side >= 96
    centres = picture[side // 2 :: side, side // 2 :: side, 0]
    assert centres.tolist() == [[20 * number + column for column in range(4)] for number in range(8)]
    labels = [text.get_text().replace("\n", " ") for text in axis.texts]
    samplers = [" ancestral", " ddim", " ancestral"] if several_samplers else [""] * 3
    assert labels == ["surrogate alone", *(f"t_mid = {t}{name}" for t, name in zip((2, 4, 6), samplers, strict=True))]
    middles = [text.get_position()[0] // side for text in axis.texts]
    assert middles == [0, 1, 2, 3]


def test_strokes_stay_where_they_were_when_enlarged():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8), dtype=np.uint8)
    large = pictures._enlarged(image)
    assert large.shape == (1, 96, 96)
    coarse = large.reshape(1, 8, 12, 8, 12).mean((2, 4))
    assert np.corrcoef(coarse.flatten(), image.flatten())[0, 1] > 0.95


def test_train_times_have_a_unit_that_can_be_read(plan, tmp_path):
    """Records of 6 steps of half a second."""
    fill(plan, tmp_path / "test", "classifier", 64)
    *_, ours, papers = figures.scatter(recipes.figure(plan, "figure_4_2"), tmp_path / "test").axes
    assert ours.get_xlabel() == "train time, seconds"
    assert papers.get_xlabel() == "train time, hours"
    assert [points.get_offsets()[0, 0] for points in ours.collections[:2]] == pytest.approx([6 * 0.5, 6 * 0.5 * 0.8])
