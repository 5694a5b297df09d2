"""What DVC's reports read: every sampler once, the same columns for every preset, curves that stay small."""

import json

import pandas as pd
import pytest
from records import change_record, fill

from surrodiff.config import params
from surrodiff.config.models import DDPM
from surrodiff.errors import UserError
from surrodiff.planning import recipes
from surrodiff.planning.plan import build
from surrodiff.planning.recipes import sidecar
from surrodiff.report import summary


@pytest.fixture(scope="module")
def written(plan, tmp_path_factory):
    """A results folder with a summary; Default's curve has 1,000 rows, the others' 3."""
    results = tmp_path_factory.mktemp("summary") / "test"
    distances = fill(plan, results, "classifier", 64)
    for run_id in plan.of_stage("models"):
        run = plan.runs[run_id]
        count = 1000 if run.name == "Default" else 3
        rows = pd.DataFrame({"step": range(1, count + 1), "loss": 1.0})
        if isinstance(run.config.model, DDPM):
            rows["loss_uniform_t"] = [float(i % 5) for i in range(count)]
        folder = results / "models" / run_id
        rows.assign(seconds=0.0).to_csv(folder / "losses.csv", index=False)
        change_record(folder, lambda record: record.update(files={}))
    summary.write(recipes.summary(plan), results)
    return results, distances


def test_every_sampler_has_one_line_and_its_scores(written, plan):
    results, distances = written
    rows = pd.read_csv(results / "summary/rows.csv", index_col="name")
    others = set(plan.of_stage("scores")) - {run.score for run in plan.default.runs}
    assert sorted(rows.index) == sorted(["Default_6", *(run_id.rpartition("-")[0] for run_id in others)])
    for run_id in others:
        assert rows.loc[run_id.rpartition("-")[0], "frechet_distance"] == pytest.approx(distances[run_id], rel=1e-5)
    default = [distances[run.score] for run in plan.default.runs]
    assert rows.loc["Default_6", "frechet_distance"] == pytest.approx(sum(default) / 3, rel=1e-5)
    assert rows.loc["Default_6", "seeds"] == 3
    assert rows.loc["SNGAN_t2", "t_mid"] == 2
    assert rows.loc["Default_6", "sampling_speed_ratio"] == 1
    assert pd.isna(rows.loc["Default_2", "samples_per_second"])


def test_metrics_go_by_metric_and_then_by_row(written, plan):
    results, _ = written
    rows = pd.read_csv(results / "summary/rows.csv", index_col="name")
    metrics = json.loads((results / "summary/metrics.json").read_text())
    assert metrics.keys() == {"fd_classifier", "is", "samples_per_second"}
    assert metrics["fd_classifier"] == pytest.approx(rows["frechet_distance"].to_dict(), rel=1e-3)
    assert metrics["is"] == pytest.approx(rows["is_mean"].to_dict(), rel=1e-3)
    timed = rows["samples_per_second"].dropna()
    assert metrics["samples_per_second"] == pytest.approx(timed.to_dict(), rel=1e-3)


def test_curves_are_averages_of_every_diffusion_model(written, plan):
    results, _ = written
    losses = pd.read_csv(results / "summary/losses.csv")
    ddpms = {plan.runs[run].name for run in plan.of_stage("models") if isinstance(plan.runs[run].config.model, DDPM)}
    assert set(losses["model"]) == ddpms - {"Default_seed1", "Default_seed2"}
    default = losses[losses["model"] == "Default"]
    assert len(default) == summary.CURVE_POINTS
    assert default["train_step"].tolist() == list(range(5, 1001, 5))
    assert set(default["loss_uniform_t"]) == {2.0}  # the mean of 0, 1, 2, 3, 4
    assert losses[losses["model"] == "IWDiff"]["loss_uniform_t"].tolist() == [0.0, 1.0, 2.0]


def test_the_paper_s_preset_calls_its_distance_fid(raw, tmp_path):
    raw["preset"] = "paper"
    made = build(params.parse(raw))
    fill(made, tmp_path, "inception", 50000)
    rows = summary.rows(recipes.summary(made), tmp_path)
    assert set(rows["frechet_column"]) == {"fid"}


def test_what_it_was_made_from_lies_beside_it_and_a_missing_run_is_told(written, plan):
    results, _ = written
    recipe = recipes.summary(plan)
    beside = results / "summary/summary.json"
    assert beside.read_text() == sidecar(recipe, results)
    stage, run_id = recipe.sources()[-1]
    record = results / stage / run_id / "record.json"
    kept = record.read_bytes()
    record.unlink()
    with pytest.raises(UserError, match="missing"):
        summary.write(recipe, results)
    record.write_bytes(kept)
