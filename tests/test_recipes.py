"""What outputs are made from: recipes change with exactly what their output rests on."""

import pytest
from plans import changed_plan

from surrodiff.planning.plan import Plan, canonical
from surrodiff.planning.recipes import is_current, recipe, sidecar, sources


def recipes(made: Plan) -> dict[str, str]:
    outputs = [*made.tables, *made.figures, "claims"]
    return {output: canonical(recipe(made, output)) for output in outputs}


@pytest.mark.parametrize(
    ("key", "value", "outputs"),
    [
        ("models.DeepRes1.training", {"learning_rate": 0.001}, {"table_4_3", "figure_4_2", "likelihood", "claims"}),
        ("models.ShortDiffusion.diffusion.beta_T", 0.8, {"table_4_2", "likelihood", "claims"}),
        ("models.IWDiff.objective.noises", 3, {"table_4_4", "figure_4_3", "likelihood", "claims"}),
        ("models.SNGAN.training.learning_rate", 0.5, {"table_4_5", "figure_4_4", "claims"}),
        ("models.DDPMHalf.training", {"learning_rate": 0.001}, {"table_4_5", "likelihood", "claims"}),
        ("timing.rounds", 3, {"table_4_3", "table_4_4", "table_4_5", "figure_4_2", "claims"}),
        ("likelihood.seed", 1, {"likelihood"}),
        ("execution.threads", 2, set()),
        (
            "data.seed",
            1,
            {
                *[f"table_4_{n}" for n in range(1, 6)],
                *[f"figure_4_{n}" for n in (2, 3, 4)],
                *("calibration", "likelihood", "claims"),
            },
        ),
    ],
)
def test_a_recipe_changes_with_the_runs_of_its_output_and_only_then(raw, plan, key, value, outputs):
    before, after = recipes(plan), recipes(changed_plan(raw, key, value))
    assert {output for output in before if before[output] != after[output]} == outputs


def test_a_recipe_says_which_code_makes_the_output(plan):
    report = ("claims.py", "claims.yaml", "paper.csv", "rows.py", "tables.py")
    of_tables = {f"report/{name}" for name in report} | {"scoring/uncertainty.py"}
    assert set(recipe(plan, "table_4_1")["code"]) == of_tables
    assert set(recipe(plan, "figure_4_2")["code"]) == of_tables | {"report/figures.py"}


def test_what_lies_beside_an_output_changes_with_any_record_that_it_rests_on(plan, tmp_path):
    made = recipe(plan, "table_4_1")
    assert sidecar(made, tmp_path) is None
    for stage, run_id in sources(made):
        path = tmp_path / stage / run_id / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    before = sidecar(made, tmp_path)
    assert sidecar(made, tmp_path) == before
    for stage, run_id in sources(made):
        path = tmp_path / stage / run_id / "record.json"
        path.write_text('{"made": "anew"}')
        assert sidecar(made, tmp_path) != before
        path.write_text("{}")
    assert sidecar(made, tmp_path) == before
    (tmp_path / "scores" / made["rows"][0]["runs"][0]["score"] / "record.json").unlink()
    assert sidecar(made, tmp_path) is None


def test_an_output_is_current_only_while_what_lies_beside_it_says_so(plan, tmp_path):
    made, beside = recipe(plan, "table_4_1"), tmp_path / "table_4_1.json"
    beside.write_text("")
    assert not is_current(beside, made, tmp_path)  # and no record is there
    for stage, run_id in sources(made):
        path = tmp_path / stage / run_id / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    beside.write_text(sidecar(made, tmp_path))
    assert is_current(beside, made, tmp_path)
    for damaged in (b"", b"\xff\xfe", b"[]", beside.read_bytes()[:-2]):
        beside.write_bytes(damaged)
        assert not is_current(beside, made, tmp_path)
    beside.unlink()
    assert not is_current(beside, made, tmp_path)
    beside.mkdir()
    assert not is_current(beside, made, tmp_path)
    path.unlink()
    path.mkdir()
    assert sidecar(made, tmp_path) is None
