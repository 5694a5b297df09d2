"""Tables of other presets, features, models and steps than the preset `test` has, and of runs that are missing."""

import pandas as pd
import pytest
from plans import plan_of
from records import fill

from surrodiff.errors import UserError
from surrodiff.planning import recipes
from surrodiff.report import columns, tables
from surrodiff.report.records import Records


@pytest.mark.parametrize(
    ("preset", "features", "num_samples", "distance", "inception_score"),
    [
        ("paper", "inception", 50000, "fid", "is_mean"),
        ("quick", "inception", 5000, "fd_inception", "is_mean"),
        ("test", "classifier", 50000, "fd_classifier", "is_classifier_mean"),
    ],
)
def test_only_inception_on_50000_samples_gives_a_fid(
    raw, tmp_path, preset, features, num_samples, distance, inception_score
):
    plan = plan_of(raw | {"preset": preset})
    results = tmp_path / preset
    fill(plan, results, features, num_samples)
    frame = columns.frame(recipes.table(plan, "table_4_1"), Records(results))
    assert {distance, f"{distance}_interval", inception_score} <= set(frame)
    assert ("fid" in frame, "is_mean" in frame) == (distance == "fid", inception_score == "is_mean")
    calibration = columns.frame(recipes.table(plan, "calibration"), Records(results))
    assert distance in calibration
    assert ("fid" in calibration) == (distance == "fid")
    tables.write(recipes.table(plan, "table_4_1"), results)
    markdown = (results / "tables" / "table_4_1.md").read_text()
    assert ("do not compare" in markdown) == (distance != "fid")


def test_a_model_of_one_s_own_has_its_name_and_no_paper_values(raw, tmp_path):
    raw["models"]["Mine"] = {"network": {"num_res_blocks": 3}}
    added = {
        "table_4_1": {"model": "Mine", "steps": ["1/3", "2/3", 1]},
        "table_4_3": {"model": "Mine"},
        "table_4_4": {"model": "Mine"},
        "table_4_5": {"surrogate": "Mine", "t_mid": [0, 0.25, 0.5, 0.75]},
    }
    for table, row in added.items():
        raw["studies"][table]["rows"].insert(1, row)
    plan = plan_of(raw)
    fill(plan, tmp_path, "classifier", 64)
    names = {
        "table_4_1": "model",
        "table_4_3": "architecture",
        "table_4_4": "setup",
        "table_4_5": "surrogate",
    }
    for table, column in names.items():
        tables.write(recipes.table(plan, table), tmp_path)
        frame = pd.read_csv(tmp_path / "tables" / f"{table}.csv")
        mine = frame[frame[column] == "Mine"]
        assert len(mine) == {"table_4_1": 3, "table_4_5": 4}.get(table, 1)
        assert mine[[c for c in frame if c.startswith("paper_")]].isna().all(axis=None)
        assert mine[["fd_classifier", "is_classifier_mean"]].notna().all(axis=None)
        assert "Mine" in (tmp_path / "tables" / f"{table}.md").read_text()


def test_a_share_that_no_snapshot_has_shows_the_step_that_was_sampled(raw, tmp_path):
    """The paper's numbers stay beside their shares, whatever steps these come to."""
    raw["presets"]["test"]["models"]["Default"]["training"] |= {"steps": 10, "snapshot_every": 2}
    plan = plan_of(raw)
    fill(plan, tmp_path, "classifier", 64)
    frame = columns.frame(recipes.table(plan, "table_4_1"), Records(tmp_path))
    assert frame["train_steps"].tolist()[:3] == [4, 6, 10]
    assert frame["paper_fid"].tolist()[:3] == [11.52, 6.05, 4.93]


def test_a_missing_run_is_told_and_the_table_does_not_count_as_made(plan, tmp_path):
    fill(plan, tmp_path, "classifier", 64)
    recipe = recipes.table(plan, "table_4_3")
    for stage, run_id in recipe.sources():
        record = tmp_path / stage / run_id / "record.json"
        kept = record.read_bytes()
        record.unlink()
        with pytest.raises(UserError) as caught:
            tables.write(recipe, tmp_path)
        assert str(caught.value).startswith(f"{record}: missing")
        record.write_bytes(kept)
    assert not (tmp_path / "tables" / "table_4_3.json").exists()
