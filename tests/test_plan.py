"""From parameters to runs: identities that change with exactly what they depend on, and the tables' rows."""

import contextlib
import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import changed_plan, plan_of
from pydantic import ValidationError

from surrodiff.planning.plan import WEIGHTS_SHA256, Plan, Table
from surrodiff.planning.runs import Run, canonical

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
OF_DEEP_RES1 = {
    ("models", "DeepRes1"),
    ("samples", "DeepRes1_6"),
    ("scores", "DeepRes1_6"),
    ("likelihoods", "DeepRes1"),
}
BLOCKS = st.dictionaries(st.text(max_size=5), JSON, max_size=5)


def reordered(value):
    """The same value with the keys of every block in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(inner) for key, inner in reversed(value.items())}
    return [reordered(inner) for inner in value] if isinstance(value, list) else value


def numbers(value, path=()):
    """Paths of all numbers inside."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in numbers(inner, (*path, key))]
    if isinstance(value, list):
        return [found for key, inner in enumerate(value) for found in numbers(inner, (*path, key))]
    return [path] if isinstance(value, int | float) and not isinstance(value, bool) else []


def named(made: Plan, ids) -> set[tuple[str, str]]:
    return {(made.runs[run].stage, made.runs[run].name) for run in ids}


def changes(before: Plan, after: Plan) -> set[tuple[str, str]]:
    """Stage and name of every run whose id is not as before."""
    return named(before, before.runs.keys() - after.runs.keys()) | named(after, after.runs.keys() - before.runs.keys())


def made_rows(table: Table) -> list:
    """Its rows but those that quote, and those of real images."""
    return [row for row in table.rows if row.runs]


def all_of(made: Plan, *stages: str) -> set[tuple[str, str]]:
    return {(run.stage, run.name) for run in made.runs.values() if run.stage in stages}


def test_an_id_does_not_depend_on_the_order_of_keys(plan):
    for run in plan.runs.values():
        turned = type(run.config).model_validate(reordered(run.config.json_value()))
        assert Run(run.name, turned).id == run.id


@given(BLOCKS)
def test_canonical_text_does_not_depend_on_the_order_of_keys(config):
    assert canonical(reordered(config)) == canonical(config)


@given(BLOCKS)
def test_canonical_text_has_one_form_and_loses_nothing(config):
    text = canonical(config)
    assert json.loads(text) == config
    assert canonical(json.loads(text)) == text
    assert "\n" not in text


@given(data=st.data(), delta=st.integers(1, 10**6))
def test_any_changed_number_changes_the_id(plan, data, delta):
    run = data.draw(st.sampled_from([r for r in plan.runs.values() if numbers(r.config.json_value())]))
    config = run.config.json_value()
    path = data.draw(st.sampled_from(numbers(config)))
    before, block = canonical(config), config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] += delta
    assert canonical(config) != before
    assert run.id != f"{run.name}-{hashlib.sha256(canonical(config).encode()).hexdigest()[:8]}"
    with contextlib.suppress(ValidationError):  # a number out of its range has no id at all
        assert Run(run.name, type(run.config).model_validate(config)).id != run.id


def test_an_id_is_the_name_and_the_checksum_of_the_configuration(plan):
    for run_id, run in plan.runs.items():
        text = json.dumps(run.config.json_value(), sort_keys=True, separators=(",", ":"))
        assert run_id == run.id == f"{run.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def test_not_a_number_has_no_identity():
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


def test_another_process_finds_the_same_ids_and_needs_neither_torch_nor_snakemake(root, plan):
    script = (
        "import pathlib, sys\n"
        "from surrodiff.config import params\nfrom surrodiff.planning import plan, recipes\n"
        "made = plan.build(params.load(pathlib.Path('params.yaml'), preset='test'))\n"
        "recipes.table(made, 'table_4_1').content()\n"
        "print(*made.runs)\n"
        "print([name for name in ('torch', 'snakemake', 'pandas', 'numpy') if name in sys.modules])\n"
    )
    env = {"PYTHONPATH": str(root / "src"), "PYTHONHASHSEED": "7"}
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=env, capture_output=True, text=True, check=True
    )
    ids, imported = process.stdout.splitlines()
    assert ids.split() == list(plan.runs)
    assert imported == "[]"


def test_a_model_s_number_changes_its_own_runs_and_no_other(raw, plan):
    after = changed_plan(raw, "models.DeepRes1.training.learning_rate", 0.001)
    assert changes(plan, after) == OF_DEEP_RES1


def test_what_a_model_s_speed_depends_on_changes_its_timing_too(raw, plan):
    after = changed_plan(raw, "models.DeepRes1.network.num_res_blocks", 3)
    assert changes(plan, after) == OF_DEEP_RES1 | {("timings", "DeepRes1")}


def test_a_surrogate_s_number_changes_its_samples_at_every_t_mid(raw, plan):
    after = changed_plan(raw, "models.SNGAN.training.learning_rate", 0.5)
    own = {(stage, f"SNGAN_t{t_mid}") for stage in ("samples", "scores") for t_mid in (0, 2, 4, 6)}
    assert changes(plan, after) == {("models", "SNGAN"), *own}


def test_default_s_number_changes_all_that_inherit_it_and_nothing_else(raw, plan):
    after = changed_plan(raw, "models.Default.training.learning_rate", 0.001)
    kept = {("models", "SNGAN"), ("models", "classifier"), ("samples", "SNGAN_t0"), ("scores", "SNGAN_t0")}
    assert changes(plan, after) == all_of(plan, "models", "samples", "scores", "likelihoods") - kept


def test_samples_at_t_mid_0_do_not_depend_on_default(raw, plan, run_named):
    for name in ("SNGAN", "DDPMHalf"):
        assert run_named("samples", f"{name}_t0").config.model is None
        assert run_named("samples", f"{name}_t2").config.model.run == run_named("models", "Default").id
    own = raw["presets"]["test"]["models"]
    own["DDPMHalf"]["training"] = {"learning_rate": 0.002}
    after = changed_plan(raw, "models.Default.training.learning_rate", 0.001)
    assert ("samples", "DDPMHalf_t0") not in changes(plan, after)
    assert ("samples", "DDPMHalf_t2") in changes(plan, after)


def test_a_sampling_number_changes_samples_and_scores_only(raw, plan):
    assert changes(plan, changed_plan(raw, "sampling.num_samples", 65)) == all_of(plan, "samples", "scores")


def test_another_sampling_seed_adds_samples_and_scores_and_keeps_the_others(raw, plan):
    after = changed_plan(raw, "seeds.sampling", [0, 1])
    assert plan.runs.keys() <= after.runs.keys()
    added = {(stage, f"{name}_sampling_seed1") for stage, name in all_of(plan, "samples", "scores")}
    assert named(after, after.runs.keys() - plan.runs.keys()) == added


def test_another_training_seed_adds_every_model_and_keeps_the_others(raw, plan):
    after = changed_plan(raw, "seeds.training", [0, 5])
    assert plan.runs.keys() <= after.runs.keys()
    added = named(after, after.runs.keys() - plan.runs.keys())
    models = {name for _, name in all_of(plan, "models") if "seed" not in name} - {"classifier"}
    assert {name for stage, name in added if stage == "models"} == {f"{name}_seed5" for name in models}
    assert ("likelihoods", "IWDiff_seed5") in added
    for table in ("table_4_1", "table_4_5"):
        own = [row.seeds for row in made_rows(after.tables[table])]
        assert own == [[run.seed for run in row.runs] for row in made_rows(after.tables[table])]
        # Default's last row has the calibration's as well.
        assert own == [[0, 5]] * (len(made_rows(plan.tables[table])) - 1) + [[0, 5, 1, 2]]


def test_a_study_s_own_training_seeds_are_those_of_its_rows_alone(raw, plan):
    after = changed_plan(raw, "seeds.studies", {"table_4_4": [3, 4]})
    assert plan.runs.keys() <= after.runs.keys(), "the other studies' runs stay, Default's calibration among them"
    seeds = {row.line.subject: row.seeds for row in made_rows(after.tables["table_4_4"])}
    assert seeds.pop("Default") == [3, 4, 0, 1, 2]
    assert set(map(tuple, seeds.values())) == {(3, 4)}
    for table in ("table_4_1", "table_4_3"):
        assert [r.seeds for r in made_rows(after.tables[table])] == [r.seeds for r in made_rows(plan.tables[table])]
    assert after.default == plan.default


def test_a_seed_that_is_listed_first_or_last_names_the_same_run(raw):
    both, turned = (changed_plan(raw, "seeds.training", seeds) for seeds in ([0, 1], [1, 0]))
    assert both.runs.keys() == turned.runs.keys()


def test_a_surrogate_and_its_diffusion_are_trained_with_the_same_seed(raw):
    after = changed_plan(raw, "seeds.training", [0, 5])
    found = next(run for run in after.runs.values() if (run.stage, run.name) == ("samples", "SNGAN_t2_seed5"))
    for part in (found.config.model, found.config.surrogate):
        assert after.runs[part.run].config.seed == 5


def test_the_calibration_s_seeds_train_default_alone(raw, plan):
    after = changed_plan(raw, "seeds.calibration", [0, 7])
    assert {name for stage, name in changes(plan, after) if stage == "models"} == {
        "Default_seed1",
        "Default_seed2",
        "Default_seed7",
    }
    assert [row.seeds for row in made_rows(after.tables["calibration"])] == [[0], [7]]


def test_the_likelihood_s_numbers_change_no_model_and_no_sample(raw, plan):
    assert changes(plan, changed_plan(raw, "likelihood.num_images", 9)) == all_of(plan, "likelihoods")


def test_every_diffusion_model_of_a_table_has_a_likelihood(plan, params):
    lines = [row.line for table in plan.tables.values() for row in made_rows(table)]
    models = params.selected.models
    expected = {name for line in lines for name in (line.model, line.surrogate) if name and models[name].kind == "ddpm"}
    rows = made_rows(plan.tables["likelihood"])
    assert sorted(row.line.model for row in rows) == sorted(expected)
    for row in rows:
        (run,) = row.runs
        assert plan.runs[run.likelihood].config.model.run == run.model
        assert (run.sample, run.score) == (None, None)


@pytest.mark.parametrize("features", ["inception", "inception_clean", "efficientnet_lite0"])
def test_features_of_fixed_weights_are_named_by_their_checksum(raw, features):
    made = changed_plan(raw, "scoring.features", features)
    found = made.runs[made.reference].config.features.model_dump()
    assert found == {"network": features, "precision": "float32", "sha256": WEIGHTS_SHA256[features], "run": None}
    assert ("models", "classifier") not in all_of(made, "models")


def test_the_handover_changes_only_what_is_handed_over_by_a_diffusion_model(raw, plan):
    for row in raw["studies"]["table_4_5"]["rows"][:2]:
        row["handover"] = "x_t"
    after = plan_of(raw)
    own = {(stage, f"DDPMHalf_t{t}") for stage in ("samples", "scores") for t in (2, 4, 6)}
    assert changes(plan, after) == own | {(stage, f"{name}_x_t") for stage, name in own}


def test_the_classifier_changes_scores_and_no_samples(raw, plan):
    after = changed_plan(raw, "scoring.classifier.steps", 21)
    models = {("models", "classifier"), ("references", "classifier")}
    assert changes(plan, after) == models | all_of(plan, "scores")


def test_data_changes_everything_but_timings(raw, plan):
    everything = all_of(plan, "data", "models", "samples", "scores", "references", "likelihoods")
    assert changes(plan, changed_plan(raw, "data.seed", 1)) == everything


def test_the_schedule_changes_no_timing(raw, plan):
    found = changes(plan, changed_plan(raw, "models.Default.diffusion.beta_T", 0.5))
    assert ("models", "Default") in found
    assert not found & all_of(plan, "timings")


def test_timings_rest_on_their_own_numbers(raw, plan):
    assert changes(plan, changed_plan(raw, "timing.rounds", 3)) == all_of(plan, "timings")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("execution.threads", 2),
        ("execution.gpus_per_job", 4),
        ("execution.compile", True),
        ("execution.channels_last", False),
        ("execution.fused", False),
        ("execution.micro_batch", 4),
        ("execution.sampling_batch", 5),
        ("execution.checkpoint_every", 1),
        ("execution.log_every", 1),
    ],
)
def test_execution_changes_no_run(raw, plan, key, value):
    assert changes(plan, changed_plan(raw, key, value)) == set()


def test_the_device_changes_no_run(raw, plan):
    raw["device"] = "cuda"
    assert changes(plan, plan_of(raw)) == set()


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("data.revision", ("data", "digits")),
        ("models.Default.training.revision", ("models", "Default")),
        ("models.SNGAN.training.revision", ("models", "SNGAN")),
        ("sampling.revision", ("samples", "Default_6")),
        ("scoring.classifier.revision", ("models", "classifier")),
        ("scoring.revision", ("references", "classifier")),
        ("likelihood.revision", ("likelihoods", "Default")),
        ("timing.revision", ("timings", "Default")),
    ],
)
def test_a_revision_makes_runs_anew(raw, plan, key, first):
    assert first in changes(plan, changed_plan(raw, key, 7))


def test_a_whole_number_written_as_a_float_is_the_same_number(raw, plan):
    assert raw["models"]["Default"]["training"]["grad_clip"] == 1.0
    raw["models"]["Default"]["training"]["grad_clip"] = 1
    assert list(plan_of(raw).runs) == list(plan.runs)
