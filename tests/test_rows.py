"""Intervals and comparisons of a table's rows: over seeds, from one sample set, against Default."""

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from plans import changed_plan
from records import change_record, distances_to, fill

from surrodiff import rows
from surrodiff.recipes import recipe

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


@given(VALUES)
def test_the_interval_of_several_seeds_is_student_s(values):
    interval = rows.interval(values, [9.0] * len(values), 9.0)
    error = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, len(values) - 1, loc=0, scale=error)[1] if error else 0
    assert interval == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.floats(0, 10), st.floats(0, 10))
def test_the_interval_of_one_seed_is_its_error_s_or_that_of_the_seeds_if_larger(error, floor):
    expected = scipy.stats.norm.interval(0.95, scale=max(error, floor))[1] if max(error, floor) else 0
    assert rows.interval([5.0], [error], floor) == pytest.approx(expected, rel=1e-4)


def with_scores(monkeypatched: dict, distance: float) -> list[dict]:
    return [{"train": distances_to(distance), "is_mean": 5.0, "is_std": 0.5, "is_splits": 4, **monkeypatched}]


@pytest.fixture(scope="module")
def filled(plan, tmp_path_factory):
    results = tmp_path_factory.mktemp("rows") / "test"
    fill(plan, results, "classifier", 64)
    return results


def test_the_spread_of_default_s_seeds_is_the_least_of_an_interval(plan, filled):
    made = recipe(plan, "table_4_3")
    uncertainty = rows.Uncertainty(made, filled)
    seeds = [rows.scores_of(row, filled)[0] for row in made["seeds"]]
    spread = scipy.stats.tstd([score["train"]["frechet_distance"] for score in seeds])
    assert spread > seeds[0]["train"]["frechet_error"]
    assert uncertainty.distance(with_scores({}, 10.0)) == pytest.approx(rows.NORMAL_95 * spread)
    far = 64 * 100 * spread
    assert uncertainty.distance(with_scores({}, far)) == pytest.approx(rows.NORMAL_95 * far / 64)


def test_without_the_calibration_s_seeds_the_interval_is_the_jackknife_s(raw, tmp_path):
    made = changed_plan(raw, "seeds.calibration", [])
    fill(made, tmp_path, "classifier", 64)
    uncertainty = rows.Uncertainty(recipe(made, "table_4_3"), tmp_path)
    assert uncertainty.distance(with_scores({}, 64.0)) == pytest.approx(rows.NORMAL_95)


@pytest.mark.parametrize(("steps", "verdict"), [(1.01, "worse"), (-1.01, "better"), (0.99, "within interval")])
def test_a_difference_counts_from_the_interval_of_the_difference_on(plan, filled, steps, verdict):
    uncertainty = rows.Uncertainty(recipe(plan, "table_4_3"), filled)
    own = 3.0
    half_width = math.hypot(own, uncertainty.default_interval)
    assert uncertainty.against_default(uncertainty.default + steps * half_width, own) == verdict


def test_default_is_compared_with_nothing_and_every_other_row_with_it(plan, filled):
    frame = rows.frame(recipe(plan, "table_4_5"), filled)
    assert frame["against_default"].iloc[-1] == ""
    assert frame["against_default"][:-1].isin(["better", "worse", "within interval"]).all()


def test_several_seeds_are_shown_as_their_mean_and_standard_deviation(raw, tmp_path):
    made = changed_plan(raw, "seeds", {"training": [0, 1], "sampling": [0, 3], "calibration": []})
    distances = fill(made, tmp_path, "classifier", 64)
    found = recipe(made, "table_4_3")
    frame = rows.frame(found, tmp_path)
    for row, (_, cells) in zip(found["rows"], frame.iterrows(), strict=True):
        own = [distances[run["score"]] for run in row["runs"]]
        assert len(own) == cells["seeds"] == 4
        assert cells["fd_classifier"] == pytest.approx(sum(own) / 4)
        assert cells["fd_classifier_std"] == pytest.approx(scipy.stats.tstd(own))
        assert cells["fd_classifier_held_out"] == pytest.approx(sum(own) / 4 + 2)
        scores = [score["is_mean"] for score in rows.scores_of(row, tmp_path)]
        assert cells["is_classifier_mean"] == pytest.approx(sum(scores) / 4)
        assert cells["is_classifier_std"] == pytest.approx(scipy.stats.tstd(scores))


@pytest.mark.parametrize(("num_samples", "extrapolated"), [(64, True), (50_000, False)])
def test_the_extrapolated_distance_stands_beside_those_of_few_samples(plan, tmp_path, num_samples, extrapolated):
    fill(plan, tmp_path, "classifier", num_samples)
    for path in tmp_path.glob("scores/*"):
        if not extrapolated:  # as scoring writes it
            change_record(path, lambda record: record["train"].update(frechet_infinity=None))
    frame = rows.frame(recipe(plan, "table_4_1"), tmp_path)
    assert frame["fd_classifier_infinity"][:3].notna().all() == extrapolated


def test_a_speed_s_interval_is_that_of_the_rounds(plan, filled):
    frame = rows.frame(recipe(plan, "table_4_5"), filled)
    # Of the generator alone: one evaluation at 0.04 +- 0.04/16 of Default's, against 8 of Default's.
    alone = frame.iloc[4]
    assert alone["sampling_speed_ratio"] == pytest.approx(8 / 0.04)
    assert alone["sampling_speed_ratio_interval"] == pytest.approx(8 / 0.04 / 16)


def test_the_variance_of_the_loss_is_relative_to_its_running_mean(plan, filled):
    frame = rows.frame(recipe(plan, "table_4_4"), filled)
    # The records' losses alternate between 1 and 2 around 1.5.
    assert frame["loss_variance"].tolist() == pytest.approx([0.25 / 1.5**2] * 6, rel=0.05)
    count = 120  # of 180, after the first third
    assert frame["loss_variance_interval"][0] / frame["loss_variance"][0] == pytest.approx(
        1.96 * math.sqrt(2 / (count - 1)), rel=1e-6
    )
