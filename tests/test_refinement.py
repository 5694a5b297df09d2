"""What refinement does to images: measures against brute force, the run against its samples, the report's numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from plans import plan_of
from records import fill
from sklearn.neighbors import NearestNeighbors

from surrodiff.config import params
from surrodiff.data import pixels, sources
from surrodiff.errors import UserError
from surrodiff.planning import recipes
from surrodiff.planning.plan import build
from surrodiff.planning.runs import Run, SampleConfig
from surrodiff.report import claims, columns, tables
from surrodiff.report.records import Records
from surrodiff.scoring import refinement
from surrodiff.scoring.metrics import nearest
from surrodiff.scoring.uncertainty import student_95
from surrodiff.stages import sample
from surrodiff.store.runs import load_run

small = st.integers(0, 3)  # so that distances tie


def sets(least: int = 2):
    """Two sets of rows of the same shape, and a set of training rows."""
    shapes = st.tuples(st.integers(least, 9), st.integers(1, 4), st.integers(1, 14))
    return shapes.flatmap(
        lambda shape: st.tuples(
            *(arrays.arrays(np.uint8, (count, shape[1]), elements=small) for count in (shape[0], shape[0], shape[2]))
        )
    )


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """All pairs' (N, M)."""
    return np.sqrt(((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(-1))


@given(sets(), st.integers(1, 14))
def test_nearest_are_those_of_a_stable_sort_of_all_distances(found, count):
    rows, _, others = found
    count = min(count, len(others))
    expected = np.argsort(distances(rows, others), axis=1, kind="stable")[:, :count]
    assert nearest(torch.from_numpy(rows), torch.from_numpy(others), count).tolist() == expected.tolist()


def test_nearest_are_scikit_learn_s_whatever_the_blocks():
    rows, others = np.random.default_rng(0).standard_normal((2, 3000, 40)).astype(np.float32)
    expected = NearestNeighbors(n_neighbors=5).fit(others.astype(float)).kneighbors(rows.astype(float))[1]
    rows, others = torch.from_numpy(rows), torch.from_numpy(others)
    found = nearest(rows, others, 5)  # in blocks of 1,333 rows
    assert np.array_equal(found, expected)
    assert torch.cat([nearest(part, others, 5) for part in rows[:300].split(7)]).equal(found[:300])


@given(sets())
def test_images_move_as_far_as_all_pairs_say(found):
    """Of up to eleven images, ten pairings are all pairs of different numbers."""
    surrogate, refined, _ = found
    measured = refinement.movement(torch.from_numpy(surrogate), torch.from_numpy(refined))
    all_pairs = distances(surrogate, refined)
    moved = np.diagonal(all_pairs)
    others = all_pairs[~np.eye(len(moved), dtype=bool)].mean()
    assert measured["distance"] == pytest.approx(moved.mean())
    assert measured["distance_error"] == pytest.approx(moved.std(ddof=1) / math.sqrt(len(moved)))
    if others:
        assert measured["relative"] == pytest.approx(moved.mean() / others)
    assert all(math.isfinite(value) for value in measured.values())


@given(sets())
def test_neighbours_are_kept_as_all_pairs_say(found):
    surrogate, refined, training = found
    measured = refinement.neighbours(*map(torch.from_numpy, found))
    of_surrogate = distances(surrogate, training).argmin(1)  # of equal distances the first
    order = np.argsort(distances(refined, training), axis=1, kind="stable")
    others = ~np.eye(len(refined), dtype=bool)
    for count, name in ((1, "kept"), (10, "within")):
        shared = (of_surrogate[:, None, None] == order[None, :, :count]).any(-1)
        assert measured[name] == pytest.approx(np.diagonal(shared).mean())
        assert measured[f"{name}_by_chance"] == pytest.approx(shared[others].mean())
    assert measured["above_chance"] == pytest.approx(measured["kept"] - measured["kept_by_chance"])
    assert measured["above_chance_error"] >= measured["kept_error"] > 0


def test_what_does_not_change_keeps_all_and_moves_nowhere():
    images = torch.randint(0, 256, (40, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = refinement.compare(images, images, images)
    assert (found["distance"], found["relative"], found["kept"], found["within"]) == (0, 0, 1, 1)
    equal = refinement.compare(*[torch.ones(4, 3, dtype=torch.uint8)] * 3)
    assert (equal["relative"], equal["kept"], equal["kept_by_chance"]) == (0, 1, 1)


def test_intervals_hold_the_truth_and_ratios_have_the_delta_method_s_error():
    """300 sets of 60 images each, whose refined ones keep half of their noise."""
    rng = np.random.default_rng(1)
    training = torch.from_numpy(rng.standard_normal((25, 3)))
    found = []
    for _ in range(300):
        surrogate = rng.standard_normal((60, 3))
        refined = 0.7 * surrogate + 0.7 * rng.standard_normal((60, 3))
        found.append(refinement.compare(torch.from_numpy(surrogate), torch.from_numpy(refined), training))
    for name in ("distance", "relative", "kept", "above_chance"):
        values, errors = (np.array([one[key] for one in found]) for key in (name, f"{name}_error"))
        assert errors.mean() == pytest.approx(values.std(), rel=0.12)
        inside = np.abs(values - values.mean()) < student_95(59) * errors
        assert inside.mean() > 0.91, name  # 0.95 less three standard errors


def test_features_that_are_not_finite_are_refused():
    rows = torch.ones(3, 2)
    with pytest.raises(UserError, match="NaN or infinite"):
        refinement.compare(rows, rows * torch.nan, rows)


@pytest.fixture(scope="module")
def refined(root, tmp_path_factory, make):
    """The plan of table 5.5 at the preset `test`, and a folder with one run of each surrogate and all that it needs."""
    changes = {"preset": "test", "device": "cpu"}
    plan = build(params.load(root / "params.yaml", changes, groups=["beyond"]))
    folder = tmp_path_factory.mktemp("refined") / "test"
    runs = [named(plan, "refinements", name) for name in ("SNGAN_t2", "DDPMHalf_t4")]

    def make_with_needs(run: Run):
        for _, needed in run.config.needs():
            make_with_needs(plan.runs[needed])
        make(run, folder)

    for run in runs:
        make_with_needs(run)
    return plan, folder, runs


def named(plan, stage: str, name: str) -> Run:
    return next(run for run in plan.runs.values() if (run.stage, run.name) == (stage, name))


def test_the_run_compares_its_samples_image_by_image(refined):
    _, folder, runs = refined
    for run in runs:
        record = load_run(folder, "refinements", run.id)[2]
        alone, after = (sample.load(folder, name)[0] for name in (run.config.surrogate, run.config.refined))
        train = sources.load(folder, run.config.data)[0]["train_images"].numpy()
        moved = pixels.to_float(torch.from_numpy(alone)) - pixels.to_float(torch.from_numpy(after))
        assert record["pixels"]["distance"] == pytest.approx(float(moved.square().mean((1, 2, 3)).sqrt().mean()))
        flat = [images.reshape(len(images), -1) for images in (alone, after, train)]
        numbers = [distances(images, flat[2]).argmin(1) for images in flat[:2]]
        assert record["pixels"]["kept"] == np.mean(numbers[0] == numbers[1])
        assert (record["num_samples"], record["train_images"]) == (64, len(train))
        assert 0 < record["features"]["relative"] < 1


def test_the_batch_changes_nothing_beyond_rounding(refined, make, tmp_path):
    _, folder, (run, _) = refined
    before = load_run(folder, "refinements", run.id)[2]
    for name in ("data", "models", "references", "samples"):
        (tmp_path / name).symlink_to(folder / name)
    record = make(run, tmp_path, sampling_batch=7)
    assert record["pixels"] == before["pixels"]
    assert record["features"] == pytest.approx(before["features"], rel=1e-4)


@pytest.mark.parametrize("name", ["SNGAN_t2", "DDPMHalf_t4"])
def test_a_refined_sample_begins_where_the_surrogate_s_own_does(refined, cpu, name):
    """A generator's image is the same one; a diffusion at low resolution has the same x_t down to t_mid, and estimates
    x_0 there where its own sample takes the remaining steps."""
    plan, folder, _ = refined
    config: SampleConfig = named(plan, "samples", name).config
    alone = plan.runs[named(plan, "refinements", name).config.surrogate].config
    index = torch.tensor([3, 60, 11])
    whole = sample.sampler_of(config, folder, cpu)[0].surrogate
    own = sample.sampler_of(alone, folder, cpu)[0]
    if name.startswith("SNGAN"):
        assert whole(index).equal(own(index))
        return
    t_mid = config.surrogate.t_mid
    x_t = whole.reverse.run(whole.reverse.prior(index), index, 8, t_mid)
    assert whole(index).equal(pixels.resize(whole.reverse.predict(x_t, t_mid).x_0.clamp(-1, 1), 8))
    rest = own.reverse.run(x_t, index, t_mid, 0).clamp(-1, 1)
    assert own(index).equal(pixels.resize(rest, 8))


def test_the_surrogate_alone_is_drawn_as_in_the_refined_row(raw):
    """With the row's seeds, and a diffusion at low resolution with its sampler and as many steps."""
    rows = [{"surrogate": ["SNGAN", "DDPMHalf"], "t_mid": 0.5, "sampler": "ddim", "evaluations": 0.5}]
    study = {"title": "Own", "group": "paper", "rows": rows, "columns": ["t_mid", "refinement"]}
    raw["studies"] = {"own": study}
    raw["presets"]["test"]["seeds"] = {"training": [0, 3], "sampling": [5], "calibration": []}
    plan = plan_of(raw)
    assert plan.default.runs == (), "nothing is compared with Default"
    gan, half = (row.runs for row in plan.tables["own"].rows)
    for run in (*gan, *half):
        config = plan.runs[run.refinement].config
        alone, after = (plan.runs[name].config for name in (config.surrogate, config.refined))
        assert config.refined == run.sample
        assert (alone.seed, alone.surrogate.run) == (after.seed, after.surrogate.run)
        assert (alone.surrogate.t_mid, alone.model) == (0, None)
        assert alone.sampler == (None if run in gan else after.sampler)
    assert len({run.refinement for run in (*gan, *half)}) == 4


@pytest.fixture
def table(raw, tmp_path):
    """The plan, frame, page and verdicts of a study of SNGAN refined, from records; t_mid of 0 among its rows."""
    comparisons = [
        ["moved", "SNGAN@0.25", "<", "SNGAN@0.5"],
        ["moved_relative", "SNGAN@0.25", "<", 1],
        ["neighbour_above_chance", "SNGAN@0.25", ">", 0],
        ["feature_neighbour_kept", "SNGAN@0.25", "<", 0.5],
        ["moved", "SNGAN@0.25", "<", "others"],
    ]
    found = [{"claim": comparison[0], "comparisons": [comparison]} for comparison in comparisons]
    rows = [{"surrogate": "SNGAN", "t_mid": [0, 0.25, 0.5]}]
    study = {"title": "Own", "group": "paper", "rows": rows, "columns": ["t_mid", "refinement"], "claims": found}
    raw["studies"] = {"own": study}

    def make(**preset):
        raw["presets"]["test"] |= preset
        plan = plan_of(raw)
        fill(plan, tmp_path / "test", "classifier", 64)
        recipe, records = recipes.table(plan, "own"), Records(tmp_path / "test")
        tables.write(recipe, tmp_path / "test")
        page = (tmp_path / "test/tables/own.md").read_text()
        return plan, columns.frame(recipe, records), page, claims.judge(recipe, records)["verdict"].tolist()

    return make


def test_a_table_shows_what_became_of_refined_rows_and_nothing_of_others(table, tmp_path):
    plan, frame, page, verdicts = table()
    assert frame.loc[0, "moved":"feature_neighbour_within_by_chance"].isna().all()
    records = [load_run(tmp_path / "test", "refinements", run)[2] for run in plan.of_stage("refinements")]
    for row, record in zip(frame.loc[1:].to_dict("records"), records, strict=True):
        assert row["moved"] == record["pixels"]["distance"]
        assert row["moved_interval"] == pytest.approx(student_95(63) * record["pixels"]["distance_error"])
        assert row["moved_in_features"] == record["features"]["relative"]
        assert (row["neighbour_kept"], row["neighbour_within"], row["num_samples"]) == (0.75, 0.875, 64)
        assert (row["feature_neighbour_kept_by_chance"], row["data"]) == (0.25, "digits")
    assert "95 % interval over images, of the one training alone" in page
    assert "Scores rest on" not in page
    assert verdicts == ["holds", "holds", "holds", "fails", "not measured"], "one of the others is not refined"


def test_several_trainings_have_an_interval_over_them(table, tmp_path):
    seeds = {"training": [0, 1, 2], "sampling": [0, 1], "calibration": []}
    plan, frame, page, _ = table(seeds=seeds)
    row = plan.tables["own"].rows[1]
    of_seed = {}
    for run in row.runs:
        distance = load_run(tmp_path / "test", "refinements", run.refinement)[2]["pixels"]["distance"]
        of_seed.setdefault(run.seed, []).append(distance)
    means = [np.mean(values) for values in of_seed.values()]
    assert len(row.runs) == 6
    assert frame.loc[1, "moved"] == pytest.approx(np.mean(means))
    assert frame.loc[1, "moved_interval"] == pytest.approx(student_95(2) * np.std(means, ddof=1) / 3**0.5)
    assert "95 % interval over trainings." in page


def mistake(raw, **study) -> str:
    rows = [{"surrogate": "SNGAN", "t_mid": [0, 0.5]}, {"model": "Default"}]
    raw["studies"] = {"own": {"title": "Own", "group": "paper", "rows": rows, "columns": ["t_mid"]} | study}
    with pytest.raises(UserError) as caught:
        plan_of(raw)
    return str(caught.value).removeprefix("params.yaml: studies.own.")


def test_what_is_not_refined_is_refused_in_one_line(raw):
    text = "rows.1.model: only a surrogate's samples are refined; give the row a surrogate and t_mid, or remove it"
    assert mistake(raw, columns=["refinement"]) == text
    must_be = "must be a row with a surrogate and t_mid beyond 0; there are SNGAN@0.5"
    rows = [{"surrogate": "SNGAN", "t_mid": [0, 0.5]}]
    for left, right, wrong in (("SNGAN@0", 1, "SNGAN@0"), ("SNGAN@0.5", "Default", "Default")):
        said = mistake(raw, rows=rows, claims=[{"claim": "x", "comparisons": [["moved", left, "<", right]]}])
        assert said == f"claims.0.comparisons.0: moved is of what is refined, so {wrong!r} {must_be}"
    text = "figures.0.surrogate: must be that of a row with t_mid beyond 0, got 'DDPMHalf'; there are SNGAN"
    assert mistake(raw, figures=[{"kind": "sweep", "name": "f", "surrogate": "DDPMHalf"}]) == text
