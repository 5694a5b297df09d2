"""Intervals and comparisons of a table's rows: over seeds, from one sample set, against Default."""

import math

import pandas as pd
import pytest
import scipy.stats
from plans import changed_plan
from records import change_record, fill

from surrodiff.planning import recipes
from surrodiff.planning.plan import Row
from surrodiff.planning.recipes import Recipe
from surrodiff.report import columns, figures
from surrodiff.report.records import Records, Score
from surrodiff.store.runs import sha256


@pytest.fixture(scope="module")
def filled(plan, tmp_path_factory):
    results = tmp_path_factory.mktemp("rows") / "test"
    fill(plan, results, "classifier", 64)
    return results


def frame_of(recipe: Recipe, results) -> pd.DataFrame:
    return columns.frame(recipe, Records(results))


def scores_of(row: Row, results) -> list[Score]:
    return [Records(results).score(run.score) for run in row.runs]


def distances(row: Row, results) -> list[float]:
    return [score.train.frechet_distance for score in scores_of(row, results)]


def test_default_s_row_is_the_mean_of_its_training_and_calibration_seeds(plan, filled):
    for name in ("table_4_1", "table_4_3", "table_4_4", "table_4_5"):
        recipe = recipes.table(plan, name)
        frame = frame_of(recipe, filled)
        last = frame[[row.runs == recipe.default.runs for row in recipe.table.rows]].iloc[0]
        by_seed = distances(recipe.default, filled)
        assert len(by_seed) == last["seeds"] == 3
        assert last["fd_classifier"] == pytest.approx(sum(by_seed) / 3)
        half = scipy.stats.t.interval(0.95, 2, scale=scipy.stats.sem(by_seed))[1]
        assert last["fd_classifier_interval"] == pytest.approx(half)
        assert last["against_default"] == ""


def test_a_row_of_one_seed_varies_as_default_s_trainings_do(plan, filled):
    recipe = recipes.table(plan, "table_4_3")
    frame = frame_of(recipe, filled)
    spread = scipy.stats.tstd(distances(recipe.default, filled))
    errors = [score.train.frechet_error for score in scores_of(recipe.default, filled)]
    for row, (_, cells) in list(zip(recipe.table.rows, frame.iterrows(), strict=True))[1:]:
        (score,) = scores_of(row, filled)
        excess = max(0, score.train.frechet_error**2 - sum(e**2 for e in errors) / 3)
        half = scipy.stats.t.ppf(0.975, 2) * math.sqrt(spread**2 + excess)
        assert cells["fd_classifier_interval"] == pytest.approx(half)
        assert cells["seeds"] == 1


def test_one_seed_of_everything_gives_no_interval_and_no_verdict(raw, tmp_path):
    plan = changed_plan(raw, "seeds.calibration", [])
    fill(plan, tmp_path, "classifier", 64)
    frame = frame_of(recipes.table(plan, "table_4_4"), tmp_path)
    assert frame[["fd_classifier_interval", "is_classifier_interval", "loss_variance_interval"]].isna().all(axis=None)
    assert (frame["against_default"] == "").all()
    assert frame["fd_classifier"].notna().all()
    figures.write(recipes.figure(plan, "figure_4_2"), tmp_path)
    assert (tmp_path / "figures/figure_4_2.png").exists()


@pytest.mark.parametrize(("steps", "verdict"), [(1.01, "worse"), (-1.01, "better"), (0.99, "within interval")])
def test_a_difference_counts_from_its_interval_on(plan, tmp_path, steps, verdict):
    """One of Table 4.4's rows, moved to so many half widths from the mean of Default's seeds."""
    recipe = recipes.table(plan, "table_4_4")
    fill(plan, tmp_path, "classifier", 64)
    by_seed = distances(recipe.default, tmp_path)
    half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.tstd(by_seed) * math.sqrt(1 + 1 / 3)
    moved = {"frechet_distance": sum(by_seed) / 3 + steps * half, "frechet_error": 0.0}
    score = recipe.table.rows[2].runs[0].score
    change_record(tmp_path / "scores" / score, lambda record: record["train"].update(moved))
    assert frame_of(recipe, tmp_path)["against_default"][2] == verdict


def test_default_is_compared_with_nothing_and_every_other_row_with_it(plan, filled):
    frame = frame_of(recipes.table(plan, "table_4_5"), filled)
    assert frame["against_default"].iloc[-1] == ""
    assert frame["against_default"][:-1].isin(["better", "worse", "within interval"]).all()


def test_sampling_seeds_are_averaged_before_trainings_are_compared(raw, tmp_path):
    plan = changed_plan(raw, "seeds", {"training": [0, 1], "sampling": [0, 3], "calibration": []})
    by_run = fill(plan, tmp_path, "classifier", 64)
    recipe = recipes.table(plan, "table_4_3")
    frame = frame_of(recipe, tmp_path)

    def of_seeds(row: Row) -> list[float]:
        return [sum(by_run[run.score] for run in row.runs if run.seed == seed) / 2 for seed in (0, 1)]

    default = of_seeds(recipe.default)
    for row, (_, cells) in zip(recipe.table.rows, frame.iterrows(), strict=True):
        by_seed = of_seeds(row)
        assert len(row.runs) == 4
        assert cells["seeds"] == 2
        assert cells["fd_classifier"] == pytest.approx(sum(by_seed) / 2)
        assert cells["fd_classifier_interval"] == pytest.approx(scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem(by_seed))
        assert cells["fd_classifier_held_out"] == pytest.approx(sum(by_seed) / 2 + 2)
        scores = [score.is_mean for score in scores_of(row, tmp_path)]
        assert cells["is_classifier_mean"] == pytest.approx(sum(scores) / 4)
        splits = [score.is_std for score in scores_of(row, tmp_path)]
        assert cells["is_classifier_std"] == pytest.approx(sum(splits) / 4)
        if row.line.model != "Default":  # pair by pair
            pairs = [a - b for a, b in zip(by_seed, default, strict=True)]
            half = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem(pairs)
            sure = abs(sum(pairs) / 2) > half
            assert (cells["against_default"] != "within interval") == sure


@pytest.mark.parametrize(("num_samples", "extrapolated"), [(64, True), (50_000, False)])
def test_the_extrapolated_distance_stands_beside_those_of_few_samples(plan, tmp_path, num_samples, extrapolated):
    fill(plan, tmp_path, "classifier", num_samples)
    for path in tmp_path.glob("scores/*"):
        if not extrapolated:  # as scoring writes it
            change_record(path, lambda record: record["train"].update(frechet_infinity=None))
    frame = frame_of(recipes.table(plan, "table_4_1"), tmp_path)
    assert frame["fd_classifier_infinity"][:3].notna().all() == extrapolated


def test_a_speed_s_interval_is_that_of_the_rounds(plan, filled):
    frame = frame_of(recipes.table(plan, "table_4_5"), filled)
    # Of the generator alone: one evaluation at 0.04 +- 0.04/16 of Default's, against 8 of Default's.
    alone = frame.iloc[4]
    assert alone["sampling_speed_ratio"] == pytest.approx(8 / 0.04)
    assert alone["sampling_speed_ratio_interval"] == pytest.approx(8 / 0.04 / 16)


def test_the_variance_of_the_loss_is_relative_to_its_running_mean(plan, filled):
    frame = frame_of(recipes.table(plan, "table_4_4"), filled)
    # The records' losses alternate between 1 and 2 around 1.5.
    assert frame["loss_variance"].tolist() == pytest.approx([0.25 / 1.5**2] * 6, rel=0.05)
    # Default's three trainings all have this variance; what is left is rounding.
    assert frame["loss_variance_interval"].tolist() == pytest.approx([0] * 6, abs=1e-9)


def test_the_loss_s_variance_varies_with_the_training_relative_to_its_size(plan, tmp_path):
    fill(plan, tmp_path, "classifier", 64)
    recipe = recipes.table(plan, "table_4_4")
    for number, run in enumerate(recipe.default.runs):
        _write_losses(tmp_path, run.model, high=2 + number)
    _write_losses(tmp_path, recipe.table.rows[1].runs[0].model, high=1.1)
    frame = frame_of(recipe, tmp_path)

    def variance(high: float) -> float:
        """Of losses that alternate between 1 and this one, relative to their mean."""
        return ((high - 1) / (high + 1)) ** 2

    default = [variance(high) for high in (2, 3, 4)]
    relative = scipy.stats.tstd(default) / (sum(default) / 3)
    expected = scipy.stats.t.ppf(0.975, 2) * relative * variance(1.1)
    assert frame["loss_variance"][1] == pytest.approx(variance(1.1), rel=0.05)
    assert frame["loss_variance_interval"][1] == pytest.approx(expected, rel=0.05)


def _write_losses(results, run: str, high: float):
    text = "step,loss,loss_uniform_t,seconds\n" + "".join(f"{n},{(1, high)[n % 2]},1.0,0\n" for n in range(1, 181))
    path = results / "models" / run / "losses.csv"
    path.write_text(text)
    entry = {"sha256": sha256(path), "bytes": path.stat().st_size}
    change_record(path.parent, lambda record: record["files"].update({path.name: entry}))
