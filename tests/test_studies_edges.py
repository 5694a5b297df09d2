"""Studies at the edge: of few columns, of quoted rows alone, without scores, with numbers as sources print them."""

import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from plans import plan_of
from records import fill

from surrodiff.errors import UserError
from surrodiff.planning import recipes
from surrodiff.planning.plan import Plan
from surrodiff.report import columns, figures, summary, tables
from surrodiff.report.claims import FAILS, HOLDS, UNKNOWN, judge
from surrodiff.report.records import Records

GENERATOR = {"surrogate": "SNGAN", "t_mid": 0}
OF_GENERATOR = {"SNGAN": "step,loss,seconds\n1,0.5,0\n2,0.25,0\n"}
QUOTED = {"label": "someone", "paper": {"fid": 5.5, "is": "8.5 ± 0.25", "train_steps": 100}}


def filled(raw: dict, results, losses: dict | None = None, **studies: dict) -> Plan:
    """The plan of these studies alone, with records of its runs."""
    raw["studies"] = {name: {"title": name, "group": "paper", **study} for name, study in studies.items()}
    plan = plan_of(raw)
    fill(plan, results, "classifier", 64, losses)
    return plan


def written(plan: Plan, results, name: str = "own") -> tuple[pd.DataFrame, str]:
    tables.write(recipes.table(plan, name), results)
    return pd.read_csv(results / f"tables/{name}.csv"), (results / f"tables/{name}.md").read_text()


def stages(recipe: recipes.Recipe) -> set[str]:
    return {stage for stage, _ in recipe.sources()}


def test_a_table_of_steps_alone_rests_on_its_models(raw, tmp_path):
    plan = filled(raw, tmp_path / "test", own={"rows": [{"model": "IWDiff", "steps": [0.5, 1]}], "columns": ["steps"]})
    recipe = recipes.table(plan, "own")
    assert recipe.default is recipe.reference is None
    assert {plan.runs[run].name for _, run in recipe.sources()} == {"IWDiff"}
    frame, text = written(plan, tmp_path / "test")
    assert frame.to_dict("list") == {
        "model": ["IWDiff"] * 2,
        "train_steps": [4, 6],
        "seeds": [1, 1],
        "note": pytest.approx([float("nan")] * 2, nan_ok=True),
    }
    assert "Preset `test`; of models trained for 6 steps." in text


@pytest.mark.parametrize(
    ("columns", "needs"),
    [
        (["parameters"], {"models"}),
        (["speed"], {"models", "timings"}),
        (["loss_variance"], {"models"}),
        (["likelihood"], {"models", "likelihoods"}),
        (["scores"], {"models", "scores", "references"}),
    ],
)
def test_a_table_rests_on_what_its_columns_need_and_its_page_speaks_of_no_more(raw, tmp_path, columns, needs):
    plan = filled(raw, tmp_path, own={"rows": [{"model": ["Default", "IWDiff"]}], "columns": columns})
    assert stages(recipes.table(plan, "own")) == needs
    _, text = written(plan, tmp_path)
    assert ("Scores rest on" in text) == ("against_default" in text) == (columns == ["scores"])
    assert ("Measured on" in text) == (columns == ["speed"])
    assert ("bound on 8 held-out images" in text) == (columns == ["likelihood"])


def test_the_variance_of_losses_has_intervals_without_scores(raw, tmp_path):
    study = {"rows": [{"model": "IWDiff"}], "columns": ["loss_variance"]}
    plan = filled(raw, tmp_path, own=study, all={"rows": [{"study": "own"}], "columns": ["loss_variance", "scores"]})
    frames = [columns.frame(recipes.table(plan, name), Records(tmp_path)) for name in ("own", "all")]
    names = ["loss_variance", "loss_variance_interval"]
    pd.testing.assert_frame_equal(frames[0][names], frames[1][names])
    assert frames[0][names].notna().all(axis=None)


def test_claims_without_scores_may_name_default_though_it_is_no_row(raw, tmp_path):
    comparisons = [
        ("parameters", "IWDiff", ">", "Default"),
        ("parameters", "IWDiff", "<", "Default"),
        ("sampling_speed", "IWDiff", "<", "Default"),
        ("bits_per_dim", "IWDiff", "<", "Default"),  # nobody asked for Default's
    ]
    claims = [{"claim": str(number), "comparisons": [found]} for number, found in enumerate(map(list, comparisons))]
    plan = filled(raw, tmp_path, own={"rows": [{"model": "IWDiff"}], "columns": ["steps"], "claims": claims})
    recipe = recipes.table(plan, "own")
    assert stages(recipe) == {"models", "timings", "likelihoods"}
    found = judge(recipe, Records(tmp_path))
    assert found["verdict"].tolist() == [HOLDS, FAILS, HOLDS, UNKNOWN]
    tables.write_claims(recipes.claims(plan), tmp_path)
    assert pd.read_csv(tmp_path / "claims.csv")["seeds"].tolist() == [1] * 4


def test_claims_about_default_s_bound_find_its_row_whatever_its_name(raw, tmp_path):
    """Of a study with scores, in which Default's last row has the seeds of the calibration."""
    claims = [{"claim": "yes", "comparisons": [["bits_per_dim", "Default", ">", "Default@0.5"]]}]
    rows = [{"model": "Default", "steps": [0.5, 1]}]
    plan = filled(raw, tmp_path, own={"rows": rows, "columns": ["likelihood", "scores"], "claims": claims})
    (found,) = judge(recipes.table(plan, "own"), Records(tmp_path)).to_dict("records")
    assert found["verdict"] != UNKNOWN


def test_a_claim_is_judged_alike_on_its_table_s_page_and_among_all_claims(raw, tmp_path):
    """Though another study has scores, and with them more of Default's seeds."""
    claims = [{"claim": "yes", "comparisons": [["bits_per_dim", "Default", ">", "Default@0.5"]]}]
    bounds = {"rows": [{"model": "Default", "steps": [0.5, 1]}], "columns": ["likelihood"], "claims": claims}
    of_score = [{"claim": "no", "comparisons": [["distance", "IWDiff", ">", "Default"]]}]
    scores = {"rows": [{"model": "IWDiff"}], "columns": ["scores"], "claims": of_score}
    plan = filled(raw, tmp_path, own=bounds, scored=scores)
    page = judge(recipes.table(plan, "own"), Records(tmp_path)).to_dict("records")
    every = judge(recipes.claims(plan), Records(tmp_path)).to_dict("records")
    assert page == every[:1]
    assert page[0]["verdict"] != UNKNOWN


def test_no_claims_at_all_are_a_file_without_lines(raw, tmp_path):
    plan = filled(raw, tmp_path, own={"rows": [{"model": "Default"}], "columns": ["scores"]})
    tables.write_claims(recipes.claims(plan), tmp_path)
    found = pd.read_csv(tmp_path / "claims.csv")
    assert found.empty
    assert list(found)[:4] == ["table", "claim", "verdict", "in_the_papers_numbers"]
    assert (tmp_path / "claims.json").exists()


def test_a_summary_without_scores_is_empty_and_keeps_its_columns(raw, tmp_path):
    plan = filled(raw, tmp_path, OF_GENERATOR, own={"rows": [GENERATOR], "columns": ["parameters"]})
    summary.write(recipes.summary(plan), tmp_path)
    for name in ("rows", "losses"):
        assert pd.read_csv(tmp_path / f"summary/{name}.csv").empty
    names, other = list(pd.read_csv(tmp_path / "summary/rows.csv")), tmp_path / "other"
    plan = filled(raw, other, own={"rows": [{"model": "Default"}], "columns": ["scores"]})
    assert names == list(summary.rows(recipes.summary(plan), other))


@pytest.mark.parametrize("names", [["scores", "steps"], ["steps", "T", "scores", "speed"]])
def test_a_table_may_quote_alone(raw, tmp_path, names):
    claims = [{"claim": "ours", "comparisons": [["distance", "Default", "<", 5]]}]
    plan = filled(raw, tmp_path, own={"rows": [QUOTED], "columns": names, "source": "Them", "claims": claims})
    frame, text = written(plan, tmp_path)
    papers = ["paper_fid", "paper_is_mean", "paper_is_std", "paper_train_steps"]
    assert frame.loc[0, papers].tolist() == [5.5, 8.5, 0.25, 100]
    assert "| 8.50 ± 0.25 " in text
    assert "those of Them." in text
    assert "More scores" not in text


@pytest.mark.parametrize("columns", [["likelihood"], ["steps"]])
def test_a_table_without_scores_may_quote_alone(raw, tmp_path, columns):
    key = {"likelihood": "bits_per_dim", "steps": "train_steps"}[columns[0]]
    plan = filled(raw, tmp_path, own={"rows": [{"label": "x|y", "paper": {key: 3}}], "columns": columns})
    frame, text = written(plan, tmp_path)
    assert frame[f"paper_{key}"].tolist() == [3]
    assert recipes.table(plan, "own").sources() == []
    assert "| x\\|y " in text


CELLS = st.one_of(
    st.integers(-1000, 10**6),
    st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.5g}")),
    st.tuples(st.integers(0, 999), st.integers(0, 99)).map(lambda pair: f"{pair[0] / 10} ± {pair[1] / 10}"),
    st.sampled_from(["about 5", "e ± 1", "800k", "5 +- 1", "-", "1 ± 2 ± 3", "±"]),
)
KEYS = st.sampled_from(["fid", "is", "train_steps", "T", "block", "parameters_m", "samples_per_second", "evaluations"])


@given(st.lists(st.dictionaries(KEYS, CELLS, min_size=1), min_size=1, max_size=4), st.booleans())
def test_no_number_of_a_source_is_lost(tmp_path_factory, raw, papers, beside_ours):
    results = tmp_path_factory.mktemp("quoted")
    row = {"model": "DeepRes1"} if beside_ours else {}
    rows = [{"label": f"row {number}", "paper": paper, **row} for number, paper in enumerate(papers)]
    # Names are for claims; equal rows need different ones.
    rows = [one | ({"name": f"row{number}"} if beside_ours else {}) for number, one in enumerate(rows)]
    groups = ["steps", "T", "network", "parameters", "speed", "sampler", "scores"]
    claims = [{"claim": "c", "comparisons": [["distance", "row0", "<", "others"], ["parameters", "row0", "<", 5]]}]
    own = {"rows": rows, "columns": groups, "claims": claims * beside_ours}
    plan = filled(raw, results, own=own)
    frame = columns.frame(recipes.table(plan, "own"), Records(results))
    assert len(set(frame)) == len(list(frame))
    for (_, cells), paper in zip(frame.iterrows(), papers, strict=True):
        for key, value in paper.items():
            number = columns.printed(value)
            if number and number[1] is not None:
                assert (cells[f"paper_{key}_mean"], cells[f"paper_{key}_std"]) == number
            else:
                found = cells[f"paper_{key}_mean" if f"paper_{key}_mean" in frame else f"paper_{key}"]
                assert found == value
    written(plan, results)


def test_rows_of_two_studies_that_are_called_the_same_are_both_among_the_others(raw, tmp_path):
    one = {"rows": [{"surrogate": "DDPMHalf", "t_mid": [0.5]}, {"model": "IWDiff"}], "columns": ["scores"]}
    other = {"rows": [{"surrogate": "DDPMHalf", "t_mid": [0.5], "handover": "x_t"}], "columns": ["scores"]}
    claims = [{"claim": "c", "comparisons": [["distance", "IWDiff", "<", "others"]]}]
    both = {"rows": [{"study": "one"}, {"study": "other"}], "columns": ["scores"], "claims": claims}
    plan = filled(raw, tmp_path, one=one, other=other, both=both)
    (found,) = judge(recipes.table(plan, "both"), Records(tmp_path))["comparisons"]
    assert "the 2 others" in found[0]


def test_a_label_stays_below_a_heading_that_a_column_has(raw, tmp_path):
    rows = [{"model": "Default", "label": "ours"}]
    frame, _ = written(
        filled(raw, tmp_path, own={"rows": rows, "columns": ["sampler"], "subject": "sampler"}), tmp_path
    )
    assert frame["sampler"].tolist() == ["ours"]


def test_a_bound_s_interval_is_over_images_however_often_one_training_is_sampled(raw, tmp_path):
    raw["presets"]["test"]["seeds"] = {"training": [0], "sampling": [0, 1], "calibration": [0, 1]}
    plan = filled(raw, tmp_path, own={"rows": [{"model": ["IWDiff", "Default"]}], "columns": ["likelihood", "scores"]})
    frame, text = written(plan, tmp_path)
    assert frame["bits_per_dim_interval"][0] == pytest.approx(scipy.stats.t.ppf(0.975, 7) * 0.25, rel=1e-5)
    records = Records(tmp_path)
    bounds = {run.seed: records.bound(run.likelihood).bits_per_dim for run in plan.tables["own"].rows[1].runs}
    half = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem(list(bounds.values()))
    assert frame["bits_per_dim_interval"][1] == pytest.approx(half, rel=1e-5)
    assert "interval over trainings, and over images, of the one training alone of a row of one seed" in text


def drawing(kind: str, **more) -> list[dict]:
    return [{"kind": kind, "name": "drawn", **more}]


@pytest.mark.parametrize("rows", [[{"model": "Default"}], [{"model": "Default"}, QUOTED], [QUOTED]])
def test_a_scatter_is_drawn_whatever_is_blank(raw, tmp_path, rows):
    """Of no row here there is a t_mid, and nobody prints one."""
    own = {
        "rows": rows,
        "columns": ["steps", "t_mid", "scores"],
        "figures": drawing("scatter", x=["t_mid", "train_steps"]),
    }
    plan = filled(raw, tmp_path, own=own)
    figures.write(recipes.figure(plan, "drawn"), tmp_path)
    assert (tmp_path / "figures/drawn.svg").exists()


def test_a_scatter_needs_no_columns_of_scores(raw, tmp_path):
    own = {
        "rows": [{"model": ["Default", "IWDiff"]}],
        "columns": ["steps"],
        "figures": drawing("scatter", x=["train_steps"]),
    }
    plan = filled(raw, tmp_path, own=own)
    (axes,) = figures.scatter(recipes.figure(plan, "drawn"), tmp_path).axes
    assert axes.get_ylabel() == "fd_classifier"
    assert [points.get_offsets()[0, 0] for points in axes.collections[:2]] == [6, 6]
    assert "fd_classifier" not in written(plan, tmp_path)[0]


def test_curves_are_those_of_diffusion_models(raw, tmp_path):
    own = {"rows": [GENERATOR, {"model": "IWDiff"}], "columns": ["steps"], "figures": drawing("curves")}
    plan = filled(raw, tmp_path, OF_GENERATOR, own=own)
    recipe = recipes.figure(plan, "drawn")
    assert stages(recipe) == {"models"}
    level, _ = figures.curves(recipe, tmp_path).axes
    assert [line.get_label() for line in level.lines] == ["IWDiff"]
    raw["studies"]["own"]["rows"] = [GENERATOR]
    with pytest.raises(UserError, match="drawn: no row of own is about a diffusion model"):
        figures.write(recipes.figure(plan_of(raw), "drawn"), tmp_path)
    assert not (tmp_path / "figures").exists()


def test_a_figure_of_pairs_rests_on_its_samples_alone(plan):
    recipe = recipes.figure(plan, "figure_4_4")
    assert stages(recipe) == {"models", "scores"}
    assert {plan.runs[run].name for stage, run in recipe.sources() if stage == "scores"} == {"SNGAN_t0", "SNGAN_t2"}


def test_claims_may_name_rows_whose_runs_are_another_s_and_rows_that_only_quote(raw, tmp_path):
    """SNGAN keeps weights after 2, 4 and 6 steps: 0.9 and 1 of its training come to the same."""
    quoted = {"label": "theirs", "name": "Theirs", "paper": {"fid": 5.5}}
    rows = [{"model": "SNGAN", "steps": [0.9, 1]}, {"model": "Default"}, quoted]
    comparisons = [["distance", "SNGAN@1", "<", "SNGAN@0.9"], ["distance", "Default", "<", "Theirs"]]
    claims = [{"claim": "c", "comparisons": [one]} for one in comparisons]
    plan = filled(raw, tmp_path, own={"rows": rows, "columns": ["scores"], "claims": claims})
    table, _ = written(plan, tmp_path)
    assert len(table) == 4
    judged = judge(recipes.table(plan, "own"), Records(tmp_path))
    assert judged["verdict"].tolist()[1] == UNKNOWN
    assert "SNGAN@1" in judged["comparisons"][0][0]
