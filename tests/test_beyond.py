"""The studies beyond the paper's tables: their rows, columns and figures, from records as if all had been made."""

import numpy as np
import pandas as pd
import pytest
from records import fill

from surrodiff.config import params
from surrodiff.errors import UserError
from surrodiff.planning import plan, recipes
from surrodiff.report import figures, tables

STUDIES = [
    *("iwdiff_weights", "likelihoods", "parameterisations", "table_2_4"),
    *(f"table_5_{number}" for number in range(1, 8)),
]
PRESETS = ["demo", "paper"]


@pytest.fixture(scope="module")
def beyond(root, tmp_path_factory):
    """Plans of the group and folders with their records, by preset."""
    made = {}
    for preset in PRESETS:
        made[preset] = plan.build(params.load(root / "params.yaml", preset=preset, groups=["beyond"]))
    folders = {preset: tmp_path_factory.mktemp(preset) for preset in PRESETS}
    for preset, planned in made.items():
        fill(planned, folders[preset], "classifier", 64)
    return {preset: (made[preset], folders[preset]) for preset in PRESETS}


def table(beyond, name: str, preset: str = "demo") -> tuple[pd.DataFrame, str]:
    planned, folder = beyond[preset]
    tables.write(recipes.table(planned, name), folder)
    return pd.read_csv(folder / "tables" / f"{name}.csv"), (folder / "tables" / f"{name}.md").read_text()


def test_a_group_can_be_made_instead_of_a_presets_own(root, beyond):
    planned, _ = beyond["demo"]
    assert list(planned.tables) == STUDIES
    both = params.load(root / "params.yaml", preset="demo", groups=["paper", "beyond"])
    assert {*STUDIES, "table_4_1"} <= plan.build(both).tables.keys()
    one = params.load(root / "params.yaml", {"groups": "beyond", "preset": "demo"})
    assert plan.build(one).runs.keys() == planned.runs.keys()
    chosen = plan.build(params.load(root / "params.yaml", {"groups": ["table_2_4", "table_5_5"], "preset": "demo"}))
    assert list(chosen.tables) == ["table_2_4", "table_5_5"]
    assert chosen.runs.keys() < planned.runs.keys()
    with pytest.raises(
        UserError,
        match=r"groups of --config: no study is of the group 'beyind', or called so; there are paper, beyond",
    ):
        params.load(root / "params.yaml", preset="demo", groups=["beyind"])


@pytest.mark.parametrize("preset", PRESETS)
def test_models_of_the_papers_tables_are_shared(root, beyond, preset):
    papers, (planned, _) = plan.build(params.load(root / "params.yaml", preset=preset)), beyond[preset]
    shared = {run.name for run in planned.runs.values() if run.stage == "models" and run.id in papers.runs}
    assert {"Default", "ShortDiffusion", "SNGAN"} <= shared


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", STUDIES)
def test_every_table_is_made_and_its_claims_are_judged(beyond, name, preset):
    frame, page = table(beyond, name, preset)
    assert frame["note"].notna().sum() >= 0
    assert "not measured" not in page
    assert "## Claims" in page


def test_a_short_diffusion_s_table_names_its_schedules(beyond):
    frame, _ = table(beyond, "table_5_1", "paper")
    assert frame["schedule"].tolist() == [
        "linear",
        "linear",
        "linear, rescaled from 1000",
        "cosine",
        "sigmoid",
        "linear",
        "linear",
    ]
    assert frame["T"].tolist() == [100] * 5 + [1000] * 2
    assert frame["evaluations"].tolist() == [100] * 5 + [1000] * 2


def test_samplers_stand_at_equal_evaluations_with_and_without_a_surrogate(beyond):
    frame, _ = table(beyond, "table_5_2", "paper")
    counts = {label: rows["evaluations"].tolist() for label, rows in frame.groupby("sampler_of_default", sort=False)}
    for label in ("ancestral", "DDIM", "DPM-Solver++", "UniPC"):
        assert counts[label] == [10, 20, 50, 100, 250, 1000]
    assert counts["Heun"] == [9, 19, 49, 99, 249, 999], "two evaluations a step, and one in the last"
    for label in ("SNGAN and ancestral", "SNGAN and DDIM", "SNGAN and DPM-Solver++"):
        assert counts[label] == [11, 21, 51, 101, 251, 501], "one of them the surrogate's"
    assert set(frame["t_mid"].dropna()) == {0, 500}


def test_improved_ddpm_s_table_has_objectives_and_quoted_likelihoods(beyond):
    frame, page = table(beyond, "table_5_3", "paper")
    objectives = frame.loc[:5, ["loss", "timesteps", "schedule", "sampler"]].values.tolist()
    assert objectives[0] == ["simple", "uniform", "linear", "clipped"]
    assert objectives[3] == ["hybrid", "uniform", "cosine", "learned"]
    assert objectives[4] == ["vlb", "importance", "linear", "learned"]
    assert frame["paper_bits_per_dim"].dropna().tolist() == [3.75, 2.94]
    assert "quoted, not run" in page


def test_terms_are_drawn_by_timestep_of_every_model_s_whole_bound(beyond):
    planned, folder = beyond["demo"]
    (axis,) = figures.terms(recipes.figure(planned, "figure_5_3_terms"), folder).axes
    labels = [line.get_label() for line in axis.lines]
    assert labels == [f"L_{loss}, {kind}" for loss in ("simple", "hybrid", "vlb") for kind in ("linear", "cosine")]
    t = np.arange(1, 61)
    for line in axis.lines:
        assert line.get_xdata().tolist() == t.tolist()
        assert np.allclose(line.get_ydata(), 1 / (t + 1))
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    (variances,) = figures.terms(recipes.figure(planned, "figure_5_3_variance"), folder).axes
    assert len(variances.lines) == 4
    assert np.allclose(variances.lines[0].get_ydata(), t / 100)


def test_the_rows_of_a_sweep_are_joined_over_a_logarithmic_axis(beyond):
    planned, folder = beyond["paper"]
    recipe = recipes.figure(planned, "figure_5_2")
    evaluations, speeds = figures.scatter(recipe, folder).axes
    assert evaluations.get_xscale() == speeds.get_xscale() == "log"
    joined = [line.get_xdata().tolist() for line in evaluations.lines if len(line.get_xdata()) == 6]
    assert len(joined) == 8
    assert [10, 20, 50, 100, 250, 1000] in joined


def test_the_noises_of_iwdiff_stand_beside_the_evaluations_that_they_cost(beyond):
    frame, _ = table(beyond, "table_5_6", "paper")
    assert frame["noises"].tolist() == [1, 1, 1, 1, 2, 4, 8, 2, 4, 8, 2, 2, 4, 8, *2 * (2, 4, 8)]
    whole = 150_000 * 128
    ratios = [1, 2, 4, 8, 2, 4, 8, 2, 4, 8, 1.333333, 2, 4, 8, *2 * (2, 4, 8)]
    assert (frame["train_evaluations"] / whole).round(6).tolist() == ratios
    assert frame["weights"].isna().tolist() == [True] * 4 + [False] * 16
    assert set(frame["reduction"].dropna()) == {"mean", "sum"}
    assert frame.loc[frame["weights"] == "uniform", "reduction"].isna().all()
    longer = frame["objective"] == "one noise, longer"
    hours = frame.loc[longer, "train_hours"].to_numpy()
    assert np.allclose(hours[1:] / hours[:-1], 2), "up to the row's step"


def test_diagnoses_are_drawn_by_timestep_a_line_for_each_row(beyond):
    planned, folder = beyond["demo"]
    (axis,) = figures.diagnoses(recipes.figure(planned, "figure_5_6_effective"), folder).axes
    labels = [line.get_label() for line in axis.lines]
    assert len(labels) == 20 == len(set(labels))
    assert {"one noise", "equal weights: equal8", "one noise, longer: longer@1/4"} <= {*labels}
    t = np.arange(1, 9)
    for line in axis.lines:
        assert np.allclose(line.get_xdata(), t)
        assert np.allclose(line.get_ydata(), 1 / t)
    relative, absolute = figures.diagnoses(recipes.figure(planned, "figure_5_6_variance"), folder).axes
    assert np.allclose(absolute.lines[0].get_ydata(), 3 * t)
    drawn = relative.lines[0].get_ydata()
    assert np.isnan(drawn[:2]).all(), "where the mean gradient's square is not known to be positive"
    assert np.allclose(drawn[2:], (3 * t / (t - 2.0 + (t == 2)))[2:])
    (loss,) = figures.diagnoses(recipes.figure(planned, "figure_5_6_loss"), folder).axes
    assert np.allclose(loss.lines[0].get_ydata(), 2 / t)


def test_diagnoses_are_of_the_first_training_alone_and_in_no_recipe_of_a_table(raw):
    raw["presets"]["test"] |= {
        "seeds": {"training": [4, 0], "sampling": [0, 1], "calibration": []},
        "groups": ["beyond"],
    }
    planned = plan.build(params.parse(raw))
    models = [planned.runs[planned.runs[run].config.model.run] for run in planned.of_stage("diagnoses")]
    assert {model.config.seed for model in models} == {4}
    stages = {stage for stage, _ in recipes.figure(planned, "figure_5_6_loss").sources()}
    assert stages == {"models", "diagnoses"}
    for recipe in (recipes.table(planned, "table_5_6"), recipes.figure(planned, "figure_5_6"), recipes.claims(planned)):
        assert "diagnoses" not in {stage for stage, _ in recipe.sources()}


def test_a_figure_of_diagnoses_without_a_diffusion_is_refused(raw):
    figure = {"kind": "diagnoses", "name": "drawn", "of": "loss"}
    study = {"title": "Generators", "group": "paper", "rows": [{"model": "SNGAN"}], "columns": ["parameters"]}
    raw["studies"] = {"generators": study | {"figures": [figure]}}
    with pytest.raises(UserError) as caught:
        params.parse(raw)
    expected = (
        "params.yaml: studies.generators.figures.0.kind: diagnoses are of diffusion models by themselves, and no "
    )
    assert str(caught.value) == expected + "row is about one; add one, or remove the figure"


@pytest.mark.parametrize(
    ("row", "of", "lacks"),
    [
        ({"model": "Default"}, "v", "a bound over all timesteps and a learned variance"),
        ({"model": "Default", "evaluations": [0.25, 0.5]}, "bits_per_dim", "a bound over all timesteps"),
    ],
)
def test_a_figure_of_terms_that_no_row_has_is_refused(raw, row, of, lacks):
    study = {"title": "Bounds", "group": "paper", "rows": [row], "columns": ["likelihood"]}
    raw["studies"] = {"bounds": study | {"figures": [{"kind": "terms", "name": "drawn", "of": of}]}}
    with pytest.raises(UserError) as caught:
        params.parse(raw)
    message = "params.yaml: studies.bounds.figures.0.of: no row has {}; add one, or remove the figure"
    assert str(caught.value) == message.format(lacks)
