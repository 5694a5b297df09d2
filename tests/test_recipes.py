"""What outputs are made from: recipes change with exactly what their output rests on."""

import pytest
from plans import changed_plan

from surrodiff.planning import recipes
from surrodiff.planning.plan import Plan
from surrodiff.planning.recipes import is_current, sidecar
from surrodiff.planning.runs import canonical


def contents(plan: Plan) -> dict[str, str]:
    """What the recipe of each output says."""
    tables = [recipes.table(plan, name) for name in plan.tables]
    figures = [recipes.figure(plan, name) for name in plan.figures]
    return {recipe.output: canonical(recipe.content()) for recipe in [*tables, *figures, recipes.claims(plan)]}


ALL = ("all_samplers", "claims")  # made from all of the paper's rows


@pytest.mark.parametrize(
    ("key", "value", "outputs"),
    [
        ("models.DeepRes1.training", {"learning_rate": 0.001}, {"table_4_3", "figure_4_2", "likelihood", *ALL}),
        ("models.ShortDiffusion.diffusion.beta_T", 0.8, {"table_4_2", "likelihood", *ALL}),
        ("models.IWDiff.objective.noises", 3, {"table_4_4", "figure_4_3", "likelihood", *ALL}),
        ("models.SNGAN.training.learning_rate", 0.5, {"table_4_5", "figure_4_4", *ALL}),
        ("models.DDPMHalf.training", {"learning_rate": 0.001}, {"table_4_5", "likelihood", *ALL}),
        ("timing.rounds", 3, {"table_4_3", "table_4_4", "table_4_5", "figure_4_2", "claims"}),
        ("likelihood.seed", 1, {"likelihood"}),
        ("execution.threads", 2, set()),
        (
            "data.seed",
            1,
            {
                *[f"table_4_{n}" for n in range(1, 6)],
                *[f"figure_4_{n}" for n in (2, 3, 4)],
                *("calibration", "likelihood", *ALL),
            },
        ),
    ],
)
def test_a_recipe_changes_with_the_runs_of_its_output_and_only_then(raw, plan, key, value, outputs):
    before, after = contents(plan), contents(changed_plan(raw, key, value))
    assert {output for output in before if before[output] != after[output]} == outputs


def test_a_recipe_says_which_code_makes_the_output(plan):
    report = ("claims.py", "columns.py", "records.py", "rows.py", "tables.py")
    of_tables = {f"report/{name}" for name in report} | {"scoring/uncertainty.py"}
    assert set(recipes.table(plan, "table_4_1").content()["code"]) == of_tables
    of_figures = {f"report/{name}.py" for name in ("figures", "by_timestep", "pictures", "points")}
    assert set(recipes.figure(plan, "figure_4_2").content()["code"]) == of_tables | of_figures
    assert set(recipes.summary(plan).content()["code"]) == of_tables | {"report/summary.py"}


def test_what_lies_beside_an_output_changes_with_any_record_that_it_rests_on(plan, tmp_path):
    recipe = recipes.table(plan, "table_4_1")
    assert sidecar(recipe, tmp_path) is None
    for stage, run_id in recipe.sources():
        path = tmp_path / stage / run_id / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    before = sidecar(recipe, tmp_path)
    assert sidecar(recipe, tmp_path) == before
    for stage, run_id in recipe.sources():
        path = tmp_path / stage / run_id / "record.json"
        path.write_text('{"made": "anew"}')
        assert sidecar(recipe, tmp_path) != before
        path.write_text("{}")
    assert sidecar(recipe, tmp_path) == before
    (tmp_path / "scores" / recipe.table.rows[0].runs[0].score / "record.json").unlink()
    assert sidecar(recipe, tmp_path) is None


def test_an_output_is_current_only_while_what_lies_beside_it_says_so(plan, tmp_path):
    recipe, beside = recipes.table(plan, "table_4_1"), tmp_path / "table_4_1.json"
    beside.write_text("")
    assert not is_current(beside, recipe, tmp_path)  # and no record is there
    for stage, run_id in recipe.sources():
        path = tmp_path / stage / run_id / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    beside.write_text(sidecar(recipe, tmp_path))
    assert is_current(beside, recipe, tmp_path)
    for damaged in (b"", b"\xff\xfe", b"[]", beside.read_bytes()[:-2]):
        beside.write_bytes(damaged)
        assert not is_current(beside, recipe, tmp_path)
    beside.unlink()
    assert not is_current(beside, recipe, tmp_path)
    beside.mkdir()
    assert not is_current(beside, recipe, tmp_path)
    path.unlink()
    path.mkdir()
    assert sidecar(recipe, tmp_path) is None
