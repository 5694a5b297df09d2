"""What is planned: the rows of the tables, what runs need, figures, for every preset."""

import pytest
from plans import plan_of
from test_plan import all_of, changes, made_rows, named

from surrodiff.config import params as params_module
from surrodiff.errors import UserError
from surrodiff.planning import recipes


def test_rows_stand_in_the_paper_s_order(plan):
    def models(table: str) -> list[str]:
        return [row.line.model for row in made_rows(plan.tables[table])]

    for table, model in (("table_4_1", "Default"), ("table_4_2", "ShortDiffusion")):
        assert [(r.line.model, r.step) for r in made_rows(plan.tables[table])] == [(model, s) for s in (2, 4, 6)]
    architectures = ["Default", "DeepRes1", "ShallowRes2", "ShallowRes1", "MBConv64", "MBConv96"]
    assert models("table_4_3") == architectures
    sampling, both = "ImportanceSampling", "IWDiffImportanceSampling"
    assert models("table_4_4") == ["Default", sampling, f"{sampling}Plus2", "IWDiff", both, "UniformNoises"]
    surrogates = [(r.line.subject, r.t_mid) for r in made_rows(plan.tables["table_4_5"])]
    assert surrogates == [
        *[("DDPMHalf", t) for t in (0, 2, 4, 6)],
        *[("SNGAN", t) for t in (0, 2, 4, 6)],
        ("Default", None),
    ]
    every = [made_rows(plan.tables[f"table_4_{number}"]) for number in range(1, 6)]
    assert [r.runs for r in made_rows(plan.tables["all_samplers"])] == [r.runs for rows in every for r in rows]


@pytest.mark.parametrize("preset", ["test", "demo", "quick", "paper"])
def test_every_preset_plans(raw, preset):
    raw["preset"] = preset
    made = plan_of(raw)
    assert set(made.tables) == {f"table_4_{n}" for n in range(1, 6)} | {"all_samplers", "calibration", "likelihood"}
    assert set(made.figures) == {"figure_4_2", "figure_4_3", "figure_4_4"}
    assert made.runs[made.data].stage == "data"
    assert made.runs[made.reference].stage == "references"
    uses_classifier = params_module.parse(raw).selected.scoring.features == "classifier"
    assert any(run.name == "classifier" for run in made.runs.values()) == uses_classifier
    for run in made.runs.values():
        for stage, needed in run.config.needs():
            assert made.runs[needed].stage == stage
        if run.stage == "scores":
            assert made.runs[run.config.sample].stage == "samples"
    outputs = [*(recipes.table(made, name) for name in made.tables), recipes.claims(made), recipes.summary(made)]
    for asked in [*outputs, *(recipes.figure(made, name) for name in made.figures)]:
        for stage, source in asked.sources():
            assert made.runs[source].stage == stage
        assert {made.runs[sample].stage for sample in asked.samples()} <= {"samples"}


def test_presets_share_no_run_but_what_is_the_same(raw, plan):
    raw["preset"] = "demo"
    assert named(plan, plan_of(raw).runs.keys() & plan.runs.keys()) == {("data", "digits")}


def test_needs_of_every_stage(run_named):
    default, reference = run_named("models", "Default"), run_named("references", "classifier")
    classifier, data, gan = run_named("models", "classifier"), run_named("data", "digits"), run_named("models", "SNGAN")

    def found(stage: str, name: str) -> set[tuple[str, str]]:
        return set(run_named(stage, name).config.needs())

    assert found("data", "digits") == set()
    assert found("models", "Default") == {("data", data.id)}
    assert found("references", "classifier") == {("data", data.id), ("models", classifier.id)}
    assert found("samples", "Default_6") == {("models", default.id)}
    assert found("samples", "SNGAN_t0") == {("models", gan.id)}
    assert found("samples", "SNGAN_t2") == {("models", gan.id), ("models", default.id)}
    for name in ("Default_6", "SNGAN_t0", "SNGAN_t2"):
        sample = ("samples", run_named("samples", name).id)
        assert found("scores", name) == {sample, ("references", reference.id)}
    assert found("likelihoods", "Default") == {("data", data.id), ("models", default.id)}
    assert found("timings", "Default") == set()


def test_the_figure_of_pairs_is_drawn_from_one_generator(plan, run_named):
    drawing = plan.figures["figure_4_4"]
    alone, refined = drawing.shown
    assert (drawing.table, refined.t_mid, refined.T) == ("table_4_5", 2, 8)
    assert alone.runs[0].sample == run_named("samples", "SNGAN_t0").id
    assert refined.runs[0].sample == run_named("samples", "SNGAN_t2").id
    assert recipes.figure(plan, "figure_4_4").samples() == [alone.runs[0].sample, refined.runs[0].sample]


def test_a_study_without_figures_draws_none(raw):
    del raw["studies"]["table_4_5"]["figures"]
    assert set(plan_of(raw).figures) == {"figure_4_2", "figure_4_3"}


def test_without_a_surrogate_there_is_no_figure_of_pairs(raw):
    study = raw["studies"]["table_4_5"]
    study["rows"] = study["rows"][2:]
    del study["claims"]
    with pytest.raises(UserError, match=r"figures\.0\.row: must be a row with a surrogate .*; there are none$"):
        plan_of(raw)


def test_a_model_in_no_table_is_not_made(raw, plan):
    study = raw["studies"]["table_4_3"]
    del study["claims"]
    for values in (study["rows"][0]["model"], *study["rows"][0]["paper"].values()):
        del values[1]
    raw["studies"]["likelihood"]["rows"][0]["model"].remove("DeepRes1")
    assert changes(plan, plan_of(raw)) == {
        (stage, name)
        for stage, name in all_of(plan, "models", "samples", "scores", "likelihoods", "timings")
        if name.startswith("DeepRes1")
    }


def test_a_row_drawn_in_another_way_is_other_samples_of_the_same_model(raw, plan, run_named):
    raw["samplers"]["clipped"] = {"kind": "ancestral", "variance": "fixed_small", "clip_x0": True}
    rows = [{"model": "Default", "sampler": ["ancestral", "clipped"]}, {"surrogate": "SNGAN", "t_mid": [0, 0.5]}]
    rows[1]["sampler"] = "clipped"
    raw["studies"]["mine"] = {"title": "Mine", "rows": rows, "columns": ["scores"]}
    after = plan_of(raw)
    added = {(stage, name) for stage in ("samples", "scores") for name in ("Default_6_clipped", "SNGAN_t4_clipped")}
    assert changes(plan, after) == added
    table = after.tables["mine"]
    usual, clipped, alone, _ = [after.runs[row.runs[0].sample] for row in table.rows]
    assert usual.id == run_named("samples", "Default_6").id
    assert alone.id == run_named("samples", "SNGAN_t0").id  # no diffusion takes part
    assert clipped.config == usual.config.model_copy(update={"sampler": clipped.config.sampler})
    assert clipped.config.sampler.clip_x0
    assert [len(row.runs) for row in table.rows] == [3, 1, 1, 1]  # Default's usual samples are the calibration's


def test_what_draws_a_sample_changes_samples_and_scores_only(raw, plan):
    raw["samplers"]["ancestral"]["clip_x0"] = True
    kept = {(stage, "SNGAN_t0") for stage in ("samples", "scores")}
    assert changes(plan, plan_of(raw)) == all_of(plan, "samples", "scores") - kept


def test_what_bounds_a_likelihood_is_not_what_draws_samples(raw, plan):
    raw["presets"]["paper"]["likelihood"]["variance"] = "fixed_small"
    assert changes(plan, plan_of(raw)) == all_of(plan, "likelihoods")


def test_a_generator_by_itself_is_its_surrogate_at_t_mid_0(raw, plan):
    row = {"model": "SNGAN", "label": "generator"}
    raw["studies"]["mine"] = {"title": "Mine", "rows": [row], "columns": ["t_mid", "sampler", "scores"]}
    after = plan_of(raw)
    assert changes(plan, after) == set()
    (row,) = after.tables["mine"].rows
    assert (row.T, row.t_mid, row.evaluations, row.step) == (None, None, 1, 6)


def test_rows_count_evaluations_of_every_network(plan):
    rows = {row.line.name: row for row in plan.tables["table_4_5"].rows}
    assert {name: row.evaluations for name, row in rows.items()} == {
        **{"DDPMHalf@0": 8, "DDPMHalf@0.25": 6 + 1 + 2, "DDPMHalf@0.5": 4 + 1 + 4, "DDPMHalf@0.75": 2 + 1 + 6},
        **{"SNGAN@0": 1, "SNGAN@0.25": 1 + 2, "SNGAN@0.5": 1 + 4, "SNGAN@0.75": 1 + 6, "Default": 8},
    }
    for row in rows.values():
        assert sum(count for _, count in row.timings) == row.evaluations
        assert {plan.runs[timing].stage for timing, _ in row.timings} == {"timings"}


def test_a_table_that_needs_no_runs_but_models_asks_for_no_others(raw, plan):
    rows = [{"model": ["Default", "DDPMHalf"], "steps": [0.5, 1]}]
    raw["studies"] = {"mine": {"title": "Mine", "rows": rows, "columns": ["steps", "T", "loss_variance"]}}
    raw["presets"]["paper"]["groups"] = []
    after = plan_of(raw)
    assert {run.sample for row in after.tables["mine"].rows for run in row.runs} == {None}
    assert [(row.line.name, row.step) for row in after.tables["mine"].rows] == [
        *[("Default@0.5", 4), ("Default@1", 6), ("DDPMHalf@0.5", 4), ("DDPMHalf@1", 6)]
    ]
    assert ("models", "DDPMHalf") in all_of(after, "models")
    assert ("scores", "DDPMHalf_6") not in all_of(after, "scores")
