"""A study of a user's own, from its file's text to CSV, Markdown, verdicts and figures."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from plans import plan_of
from records import EVALUATION, OTHERS, RATIOS, fill

from surrodiff.config.documents import read
from surrodiff.planning import recipes
from surrodiff.planning.recipes import is_current
from surrodiff.report import columns, figures, tables
from surrodiff.report.claims import HOLDS, UNKNOWN, judge
from surrodiff.report.records import Records

OWN = """
title: Wider networks
source: Someone (2020), Table 7
source_rests_on: images of flowers
subject: setup
rows:
  - model: [Wide, Deep]
    steps: [0.5, 1]
    paper: {fid: [9.5, 8.5, 7.5, 7 ± 0.25], train_steps: [50, 100, 50, 100], samples_per_second: 2.5}
    note: [half of the training, "", half of the training, ""]
  - {surrogate: SNGAN, model: Wide, t_mid: [0, 0.3, 0.6], label: a generator first}
  - {model: Wide, sampler: careful, name: careful, label: small and clipped steps}
  - {label: someone else, paper: {fid: 5.5}, note: not run}
columns: [steps, t_mid, sampler, speed, scores]
claims:
  - claim: the last row has the lowest distance
    comparisons: [[distance, careful, "<", others]]
  - claim: half of a training is worse than the whole one, for all that someone printed
    quote: Train longer.
    comparisons: [[distance, Wide@0.5, ">", others]]
  - claim: a generator saves time, the more the later the diffusion begins
    comparisons:
      - [sampling_speed, SNGAN@0, ">", SNGAN@0.3]
      - [sampling_speed, SNGAN@0.3, ">", SNGAN@0.6]
      - [sampling_speed, SNGAN@0.6, ">", Wide@1]
      - [distance, SNGAN@0.3, ">", 5]
figures:
  - {kind: scatter, name: over_t_mid, x: [t_mid, samples_per_second]}
"""
BOUNDS = """
title: Bounds
rows:
  - model: [Wide, Default]
    steps: [0.5, 1]
columns: [steps, likelihood]
claims:
  - claim: more training gives the better bound
    comparisons: [[bits_per_dim, Wide@1, "<", Wide@0.5], [bits_per_dim, Wide@1, ">", 1]]
"""
INCLUDING = """
title: All of ours
rows: [{study: wider}, {model: Default}]
columns: [scores]
"""
WIDE, DEEP = "Wide", "Deep"


@pytest.fixture
def own(raw, tmp_path) -> dict:
    """The parameters with a user's studies, models and sampler."""
    raw["models"] |= {"Wide": {"network": {"base_channels": 256}}, "Deep": {"network": {"num_res_blocks": 3}}}
    raw["samplers"]["careful"] = {"kind": "ancestral", "variance": "fixed_small", "clip_x0": True}
    for name, text in {"wider": OWN, "bounds": BOUNDS, "including": INCLUDING}.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        raw["studies"][name] = read(file)
    return raw


@pytest.fixture
def made(own, tmp_path):
    """The plan, the results folder with its records, and each score's distance."""
    plan, results = plan_of(own), tmp_path / "test"
    return plan, results, fill(plan, results, "classifier", 64)


def written(made, name: str) -> tuple[pd.DataFrame, str]:
    """A table's CSV and Markdown."""
    plan, results, _ = made
    tables.write(recipes.table(plan, name), results)
    folder = results / "tables"
    return pd.read_csv(folder / f"{name}.csv"), (folder / f"{name}.md").read_text()


def test_a_table_has_the_rows_that_its_lists_stand_for(made):
    plan, _, distances = made
    frame, _ = written(made, "wider")
    labels = [WIDE, WIDE, DEEP, DEEP, *["a generator first"] * 3, "small and clipped steps", "someone else"]
    assert frame["setup"].tolist() == labels
    # A share that meets no snapshot or timestep shows the number that was used: 3 of 6 steps is 4, 2.4 of 8 is 2.
    assert frame["train_steps"].tolist()[:8] == [4, 6, 4, 6, 6, 6, 6, 6]
    assert frame["t_mid"].tolist()[4:7] == [0, 2, 5]
    assert frame["t_mid"].drop([4, 5, 6]).isna().all()
    assert frame["sampler"].tolist()[3:8] == ["ancestral", np.nan, "ancestral", "ancestral", "careful"]
    assert frame["evaluations"].tolist()[3:8] == [8, 1, 3, 6, 8]
    rows = [row for row in plan.tables["wider"].rows if row.runs]
    assert frame["fd_classifier"].tolist()[:8] == [distances[row.runs[0].score] for row in rows]
    assert len({row.runs[0].score for row in rows}) == 8
    careful = plan.runs[rows[-1].runs[0].sample]
    assert careful.name == "Wide_6_careful"
    assert (careful.config.sampler.variance, careful.config.sampler.clip_x0) == ("fixed_small", True)


def test_a_source_s_numbers_stand_beside_their_rows(made):
    frame, text = written(made, "wider")
    assert frame["paper_fid_mean"].tolist()[:4] == [9.5, 8.5, 7.5, 7]
    assert frame["paper_fid_std"].tolist()[3] == 0.25
    assert frame["paper_fid_mean"].iloc[-1] == 5.5
    assert frame["paper_train_steps"].tolist()[:4] == [50, 100, 50, 100]
    assert frame["paper_samples_per_second"].tolist()[:4] == [2.5] * 4
    assert frame[[c for c in frame if c.startswith("paper_")]][4:8].isna().all(axis=None)
    found = list(frame)
    assert found[found.index("fd_classifier") + 1 :][:2] == ["paper_fid_mean", "paper_fid_std"]
    assert "Columns `paper_...` are those of Someone (2020), Table 7. They rest on images of flowers." in text
    assert "Baryshnikov" not in text


def test_the_markdown_shows_numbers_with_intervals_notes_and_verdicts(made):
    frame, text = written(made, "wider")
    first, _, rest = text.partition("## More scores")
    assert text.startswith("# Wider networks\n")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines() if "|" in line]
    column = lines[0].index("fd_classifier")
    for row, line in zip(frame.to_dict("records"), lines[2:], strict=True):
        ours = f"{row['fd_classifier']:.2f} ± {row['fd_classifier_interval']:.2f}"
        assert line[column] == ("" if row["setup"] == "someone else" else ours)
        assert line[0] == row["setup"]
    assert "7.00 ± 0.25" in first
    assert "half of the training" in first
    more = [line for line in rest.splitlines() if line.startswith("|")]
    assert len(more) == 2 + 8
    assert "careful" in more[-1]
    assert "trained for 6 steps" in rest
    section = rest.partition("## Claims")[2]
    assert (
        ': half of a training is worse than the whole one, for all that someone printed ("Train longer.")\n' in section
    )
    assert ": the last row has the lowest distance\n" in section


def test_claims_are_judged_against_all_rows_or_those_that_the_source_has(made):
    plan, results, distances = made
    found = judge(recipes.table(plan, "wider"), Records(results)).set_index("claim")
    last = found.loc["the last row has the lowest distance"]
    assert last["comparisons"][0].startswith("fd_classifier: careful")
    assert "the 7 others" in last["comparisons"][0]
    assert last["in_the_papers_numbers"] == UNKNOWN
    printed = found.loc["half of a training is worse than the whole one, for all that someone printed"]
    assert "the 3 others" in printed["comparisons"][0]
    assert printed["in_the_papers_numbers"] == HOLDS
    rows = [row for row in plan.tables["wider"].rows if row.line.paper and row.runs]
    first, *others = [distances[row.runs[0].score] for row in rows]
    assert printed["verdict"] != HOLDS
    assert first < max(others)
    assert found.loc["a generator saves time, the more the later the diffusion begins", "verdict"] == HOLDS
    assert {"wider", "bounds", "table_4_1"} <= set(judge(recipes.claims(plan), Records(results))["table"])


def test_bounds_are_a_table_with_claims_and_without_scores(made):
    plan, results, _ = made
    recipe = recipes.table(plan, "bounds")
    assert {stage for stage, _ in recipe.sources()} == {"models", "likelihoods"}
    frame, text = written(made, "bounds")
    records = Records(results)
    bounds = [records.bound(row.runs[0].likelihood) for row in recipe.table.rows]
    assert frame["bits_per_dim"].tolist() == pytest.approx([bound.bits_per_dim for bound in bounds], rel=1e-5)
    assert frame["train_steps"].tolist() == [4, 6, 4, 6]
    half = scipy.stats.t.ppf(0.975, 7) * 0.25
    assert frame["bits_per_dim_interval"].tolist() == pytest.approx([half] * 4, rel=1e-5)
    assert f"| {bounds[0].bits_per_dim:.2f} ± {half:.2f} " in text
    assert "against_default" not in frame
    assert "Scores rest on" not in text
    (claim,) = judge(recipe, records).to_dict("records")
    assert claim["verdict"] == "undecided"  # the records' bounds differ by less than their intervals
    assert "bits_per_dim: Wide@1" in claim["comparisons"][0]


def test_rows_of_another_study_bring_what_the_table_has_columns_for(made):
    frame, text = written(made, "including")
    own, _ = written(made, "wider")
    assert frame["model"].tolist() == [*own["setup"], "Default"]
    pd.testing.assert_series_equal(frame["paper_fid_mean"][:9], own["paper_fid_mean"])
    assert frame["note"][:9].tolist() == own["note"].tolist()
    shared = [c for c in frame if c in own]
    pd.testing.assert_frame_equal(frame[shared][:9], own[shared])
    assert [c for c in frame if c.startswith("paper_")] == ["paper_fid_mean", "paper_fid_std"]
    assert "samples_per_second" not in frame
    assert "Slide rule" not in text


def points_of(axes) -> list[PathCollection]:
    return [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]


def test_a_figure_is_drawn_over_what_rows_have(made):
    plan, results, distances = made
    recipe = recipes.figure(plan, "over_t_mid")
    figures.write(recipe, results)
    folder = results / "figures"
    assert (folder / "over_t_mid.png").read_bytes().startswith(b"\x89PNG")
    assert "a generator first" in (folder / "over_t_mid.svg").read_text()
    assert is_current(folder / "over_t_mid.json", recipe, results)
    ours, _, speeds, papers = figures.scatter(recipe, results).axes  # no one prints a t_mid
    drawn = [tuple(map(float, point)) for points in points_of(ours) for point in np.ma.getdata(points.get_offsets())]
    expected = [(row.t_mid, distances[row.runs[0].score]) for row in recipe.table.rows if row.t_mid is not None]
    assert [point for point in drawn if not np.isnan(point[0])] == expected
    assert ours.get_xlabel() == "t_mid"
    _, labels = ours.get_legend_handles_labels()
    assert labels == [WIDE, DEEP, "a generator first", "small and clipped steps"]  # someone else prints no speed
    sweep = [points.get_facecolor().tolist() for points in points_of(ours)[4:7]]
    assert sweep[0] == sweep[1] == sweep[2]
    assert (speeds.get_xlabel(), papers.get_xlabel()) == ("sampling speed, samples/s",) * 2


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True),
    st.sampled_from(["SNGAN", "DDPMHalf"]),
    st.sampled_from(["Default", "DeepRes1", "IWDiff"]),
    st.sampled_from(["x0", "x_t"]),
)
def test_the_speed_of_two_networks_is_that_of_their_evaluations(
    tmp_path_factory, raw, thousandths, surrogate, model, handover
):
    """Counted here by the timesteps that each network sees."""
    row = {"surrogate": surrogate, "model": model, "t_mid": [f"{number}/1000" for number in thousandths]}
    row["handover"] = handover
    raw["studies"] = {"own": {"title": "Own", "group": "paper", "rows": [row], "columns": ["t_mid", "T", "speed"]}}
    plan, results = plan_of(raw), tmp_path_factory.mktemp("speeds")
    fill(plan, results, "classifier", 64)
    frame = columns.frame(recipes.table(plan, "own"), Records(results))
    cheap, dear = (RATIOS.get(name, OTHERS)[0] * EVALUATION for name in (surrogate, model))
    for cells in frame.to_dict("records"):
        steps = list(range(8, 0, -1))  # T = 8
        of_surrogate = [t for t in steps if t > cells["t_mid"]]
        of_model = [t for t in steps if t <= cells["t_mid"]]
        count = 1 if surrogate == "SNGAN" else len(of_surrogate) + (handover == "x0" and cells["t_mid"] > 0)
        seconds = count * cheap + len(of_model) * dear
        assert cells["samples_per_second"] == pytest.approx(1 / seconds)
        assert cells["sampling_speed_ratio"] == pytest.approx(8 * EVALUATION / seconds)
        spread = np.hypot(count * cheap, len(of_model) * dear) / 16  # of each evaluation, by its record
        assert cells["sampling_speed_ratio_interval"] == pytest.approx(8 * EVALUATION * spread / seconds**2)


def test_what_a_table_of_one_s_own_was_made_from_lies_beside_it(made):
    plan, results, _ = made
    for name in ("wider", "bounds", "including"):
        written(made, name)
        beside = results / "tables" / f"{name}.json"
        recipe = recipes.table(plan, name)
        assert is_current(beside, recipe, results)
        assert json.loads(beside.read_text())["tables"].keys() == {name}
    assert not is_current(results / "tables/wider.json", recipes.table(plan, "bounds"), results)
