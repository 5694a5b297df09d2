"""Rows that name samplers and shares of evaluations: their runs, what these are called, and what the table shows."""

from collections import Counter

import pandas as pd
import pytest
from plans import plan_of
from records import fill

from surrodiff.planning import recipes
from surrodiff.report import tables

# T = 8. A share of 0.1 is 1 timestep, of 0.5 there are 4; Heun's method takes 2 n - 1 evaluations for n timesteps.
SHARES = [0.1, 0.5, 1]


def study(*rows: dict) -> dict:
    return {"title": "Mine", "rows": [*rows], "columns": ["t_mid", "T", "sampler", "speed", "scores"]}


def planned(raw: dict, *rows: dict):
    """The plan of a study alone."""
    raw["studies"] = {"mine": study(*rows)}
    raw["presets"]["paper"]["groups"] = []
    raw["presets"]["paper"]["seeds"]["calibration"] = []
    return plan_of(raw)


def samples(made) -> list[str]:
    """The names of the rows' samples."""
    return [made.runs[row.runs[0].sample].name for row in made.tables["mine"].rows]


def ids(made) -> list[str]:
    return [row.runs[0].sample for row in made.tables["mine"].rows]


def shown(made, folder) -> pd.DataFrame:
    """The table's CSV, as if all runs had been made."""
    fill(made, folder, "classifier", 64)
    tables.write(recipes.table(made, "mine"), folder)
    return pd.read_csv(folder / "tables" / "mine.csv")


ROWS = {
    "alone": {"model": "Default"},
    "SNGAN": {"surrogate": "SNGAN", "t_mid": 0.5},
    "DDPMHalf": {"surrogate": "DDPMHalf", "t_mid": 0.5},
}
# By row: the names of the samples, t_mid and all evaluations that the table shows.
EXPECTED = {
    "alone": [
        *[("Default_6_ddim_1", None, 1), ("Default_6_ddim_4", None, 4), ("Default_6_ddim", None, 8)],
        *[("Default_6_heun_1", None, 1), ("Default_6_heun_2", None, 3), ("Default_6_heun_4", None, 7)],
    ],
    "SNGAN": [
        *[("SNGAN_t4_ddim_1", 4, 1 + 1), ("SNGAN_t4_ddim", 4, 1 + 4), ("SNGAN_t4_ddim", 4, 1 + 4)],
        *[("SNGAN_t4_heun_1", 4, 1 + 1), ("SNGAN_t4_heun_2", 4, 1 + 3), ("SNGAN_t4_heun", 4, 1 + 7)],
    ],
    # One of 1 timestep, 8, and 4 of 1, 3, 6, 8: the nearest to 4 takes over. One evaluation more estimates x_0.
    "DDPMHalf": [
        *[("DDPMHalf_t8_ddim_1", 8, 1 + 1), ("DDPMHalf_t3_ddim_4", 3, 2 + 1 + 2), ("DDPMHalf_t4_ddim", 4, 4 + 1 + 4)],
        *[("DDPMHalf_t8_heun_1", 8, 1 + 1), ("DDPMHalf_t1_heun_2", 1, 2 + 1 + 1)],
        ("DDPMHalf_t3_heun_4", 3, 4 + 1 + 3),
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_a_table_shows_the_numbers_that_shares_came_to(name, raw, tmp_path):
    row = ROWS[name] | {"sampler": ["ddim", "heun"], "evaluations": SHARES}
    made = planned(raw, row)
    assert samples(made) == [sample for sample, _, _ in EXPECTED[name]]
    assert [row.t_mid for row in made.tables["mine"].rows] == [t_mid for _, t_mid, _ in EXPECTED[name]]
    frame = shown(made, tmp_path)
    assert frame["evaluations"].tolist() == [count for _, _, count in EXPECTED[name]]
    assert frame["t_mid"].astype(object).where(frame["t_mid"].notna(), None).tolist() == [
        t_mid for _, t_mid, _ in EXPECTED[name]
    ]
    assert frame["sampler"].tolist() == ["ddim"] * 3 + ["heun"] * 3
    for line, row in zip(frame.to_dict("records"), made.tables["mine"].rows, strict=True):
        assert sum(count for _, count in row.timings) == line["evaluations"]


def test_different_samples_have_different_names(raw):
    every = ["ancestral", "ddim", "dpm_solver", "unipc", "heun", "euler"]
    made = planned(raw, *(row | {"sampler": every, "evaluations": SHARES} for row in ROWS.values()))
    runs = [run for run in made.runs.values() if run.stage == "samples"]
    assert Counter(run.name for run in runs).most_common(1)[0][1] == 1
    assert {run.id for run in runs} == set(ids(made))
    assert len(runs) == len(set(samples(made)))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_whole_share_of_ancestral_sampling_is_what_no_share_is(row, raw):
    plain = ids(planned(raw, row))
    assert ids(planned(raw, row | {"evaluations": 1})) == plain
    assert ids(planned(raw, row | {"evaluations": 1, "sampler": "ancestral"})) == plain
    (kept,) = plain
    assert "ancestral" not in kept


def test_a_share_replaces_the_number_of_timesteps_of_a_sampler(raw):
    raw["samplers"]["ancestral"]["timesteps"] = 3
    made = planned(raw, {"model": "Default", "evaluations": [0.5, 1]}, {"model": "Default", "name": "few"})
    assert [row.evaluations for row in made.tables["mine"].rows] == [4, 8, 3]
    assert len(set(ids(made))) == 3


def test_shares_that_come_to_one_number_share_a_run(raw):
    made = planned(raw, {"model": "Default", "sampler": "ddim", "evaluations": [0.01, 0.1, 0.4, "3/8"]})
    first, second, third, fourth = ids(made)
    assert first == second
    assert third == fourth != first
    names = [run.name for run in made.runs.values() if run.stage == "scores"]
    assert names == ["Default_6", "Default_6_ddim_1", "Default_6_ddim_3"]


def test_the_share_that_leaves_nothing_out_up_to_t_mid_shares_the_paper_s_run(raw):
    row = {"surrogate": "SNGAN", "t_mid": 0.5, "name": "half"}
    plain, half = ids(planned(raw, ROWS["SNGAN"], row | {"evaluations": 0.5}))
    assert plain == half


@pytest.mark.parametrize(
    ("timesteps", "expected"), [([1, 3, 8], [1, 3, 3, 8]), ([2, 6], [2, 2, 6, 6]), (2, [1, 1, 8, 8])]
)
def test_t_mid_is_the_nearest_of_the_timesteps_taken(timesteps, expected, raw):
    raw["samplers"]["ddim"]["timesteps"] = timesteps
    row = {"sampler": "ddim", "t_mid": [0, 0.125, 0.5, 0.625, 0.8, 1]}
    made = planned(raw, row | {"surrogate": "DDPMHalf"}, row | {"surrogate": "SNGAN"})
    found = [row.t_mid for row in made.tables["mine"].rows]
    assert found == [0, *expected, 8] * 2


def test_a_sampler_s_settings_are_its_runs_settings(raw):
    raw["samplers"]["ddim"] |= {"eta": 0.5, "timesteps": [1, 4, 8], "clip_x0": True}
    made = planned(raw, {"model": "Default", "sampler": "ddim"})
    (sample,) = [made.runs[name].config for name in ids(made)]
    assert sample.sampler.model_dump() == {"kind": "ddim", "eta": 0.5, "timesteps": [1, 4, 8], "clip_x0": True}


def test_presets_may_sample_in_their_own_way(raw):
    raw["samplers"]["ddim"]["timesteps"] = 50
    raw["presets"]["test"]["samplers"] = {"ddim": {"timesteps": 2}}
    raw["presets"]["demo"]["samplers"] = {"ddim": {"timesteps": 20}}
    row = {"model": "Default", "sampler": "ddim"}
    assert [row.evaluations for row in planned(raw, row).tables["mine"].rows] == [2]
    for preset, expected in (("demo", 20), ("paper", 50)):
        made = planned(raw | {"preset": preset}, row)
        assert [row.evaluations for row in made.tables["mine"].rows] == [expected]
