"""Presets, models and groups: each thing is said once in params.yaml, and means what it would if written out."""

import pytest
import yaml
from test_params import DEFAULT, TEST, put, refusal

from surrodiff.config import params
from surrodiff.errors import UserError
from surrodiff.planning import plan


def test_models_are_differences_from_default(params):
    models = params.selected.models
    default = models["Default"]
    network = default.network.model_copy(update={"num_res_blocks": 1})
    assert models["DeepRes1"] == default.model_copy(update={"network": network})
    objective = default.objective.model_copy(update={"timesteps": "importance", "extra_timestep_batches": 2})
    assert models["ImportanceSamplingPlus2"] == default.model_copy(update={"objective": objective})
    network = default.network.model_copy(update={"channel_multipliers": [1, 2]})
    assert models["DDPMHalf"] == default.model_copy(update={"image_size": 4, "network": network})
    assert models["SNGAN"].kind == "sngan"


def test_a_list_of_a_difference_replaces_the_whole_list(params):
    assert params.selected.models["ShallowRes2"].network.channel_multipliers == [1, 2]


def test_parsing_leaves_the_document_alone(raw):
    before = yaml.safe_dump(raw)
    params.parse(raw)
    assert yaml.safe_dump(raw) == before


def test_an_integer_is_a_fine_float(raw):
    put(raw, f"{DEFAULT}.training.grad_clip", 1)
    assert params.parse(raw).selected.models["Default"].training.grad_clip == 1.0


@pytest.mark.parametrize("preset", ["test", "demo", "quick", "paper"])
def test_all_presets_validate(root, preset):
    loaded = params.load(root / "params.yaml", preset=preset, device="cpu")
    assert (loaded.preset, loaded.device) == (preset, "cpu")
    lines = [line for study in loaded.made(loaded.selected).values() for line in loaded.lines(study)]
    assert {name for line in lines for name in (line.model, line.surrogate) if name} <= set(loaded.selected.models)


def test_the_papers_numbers_stand_in_the_paper_preset(root):
    loaded = params.load(root / "params.yaml", preset="paper")
    paper, tables = loaded.selected, plan.build(loaded).tables
    default = paper.models["Default"]
    assert (default.diffusion.T, default.diffusion.beta_1, default.diffusion.beta_T) == (1000, 1e-4, 0.02)
    assert (default.training.batch_size, default.training.learning_rate) == (128, 2e-4)
    assert paper.sampling.num_samples == 50000
    assert [row.step for row in tables["table_4_1"].rows if row.runs] == [50000, 100000, 150000]
    assert [row.t_mid for row in tables["table_4_5"].rows] == [0, 250, 500, 750, 0, 250, 500, 750, None]
    short = paper.models["ShortDiffusion"].diffusion
    assert (short.T, short.beta_1, short.beta_T) == (100, 4e-4, 0.18)


def test_an_override_of_none_leaves_the_file_s_value(root):
    assert params.load(root / "params.yaml", preset=None).preset == params.load(root / "params.yaml").preset


def test_an_override_is_validated(root):
    with pytest.raises(
        UserError, match=r"params\.yaml: preset: unknown 'huge'; there are paper, quick, paper_long, demo, test"
    ):
        params.load(root / "params.yaml", preset="huge")


@pytest.mark.parametrize("written", ["2e-3", "2E-3", "2.0e-3", ".002", "+0.002", "20e-4", "0.2e-2"])
def test_an_id_does_not_depend_on_how_a_number_is_written(tmp_path, root, written):
    file = tmp_path / "params.yaml"
    before, own = (root / "params.yaml").read_text().split("\n  test:\n")
    assert "learning_rate: 0.002\n" in own
    file.write_text(f"{before}\n  test:\n{own.replace('learning_rate: 0.002', f'learning_rate: {written}', 1)}")
    as_it_is = params.load(root / "params.yaml", preset="test")
    assert plan.build(params.load(file, folder=root / params.STUDIES, preset="test")) == plan.build(as_it_is)


@pytest.mark.parametrize(
    ("key", "value", "as_written"),
    [("training.grad_clip", 1.0, 1), ("training.ema_decay", 0.0, 0), ("network.dropout", 0.0, -0.0)],
)
def test_an_id_does_not_depend_on_a_float_written_as_an_int_or_the_sign_of_zero(raw, key, value, as_written):
    put(raw, f"{DEFAULT}.{key}", value)
    expected = plan.build(params.parse(raw)).runs
    put(raw, f"{DEFAULT}.{key}", as_written)
    assert plan.build(params.parse(raw)).runs == expected


@pytest.mark.parametrize("preset", ["quick", "demo", "test"])
def test_a_preset_has_the_paper_s_numbers_where_it_says_nothing_else(raw, preset):
    loaded, written = params.parse(raw).presets, raw["presets"][preset]
    paper, own = (loaded[name].model_dump() for name in ("paper", preset))
    for key, block in written.items():
        if key != "models":
            own[key] = {name: value for name, value in own[key].items() if name not in block}
            paper[key] = {name: value for name, value in paper[key].items() if name not in block}
    own["scoring"].pop("classifier", None), paper["scoring"].pop("classifier", None)
    del own["models"], paper["models"]
    assert own == paper


def test_a_preset_of_one_s_own_is_a_difference_from_the_paper_s(raw):
    raw["preset"] = "mine"
    raw["presets"]["mine"] = {
        "sampling": {"num_samples": 100},
        "models": {"Default": {"training": {"batch_size": 64}}},
        "scoring": {"kid_subset_size": 50},
    }
    loaded = params.parse(raw)
    mine, paper = loaded.selected.model_dump(), loaded.presets["paper"].model_dump()
    paper["sampling"]["num_samples"], paper["scoring"]["kid_subset_size"] = 100, 50
    for model in paper["models"].values():
        if model["kind"] == "ddpm":
            model["training"]["batch_size"] = 64
    assert mine == paper


def test_an_empty_difference_is_the_paper_s_preset(raw):
    raw["presets"]["mine"] = {}
    loaded = params.parse(raw)
    assert loaded.presets["mine"] == loaded.presets["paper"]
    ids = [plan.build(params.parse(raw | {"preset": preset})).runs.keys() for preset in ("mine", "paper")]
    assert ids[0] == ids[1]


def test_a_variant_is_one_entry_that_every_preset_has(raw):
    raw["models"]["Deep3"] = {"network": {"num_res_blocks": 3}}
    for preset in params.parse(raw).presets.values():
        network = preset.models["Default"].network.model_copy(update={"num_res_blocks": 3})
        assert preset.models["Deep3"] == preset.models["Default"].model_copy(update={"network": network})


def test_a_preset_s_variant_is_that_preset_s_alone(raw):
    put(raw, f"{TEST}.models.Deep3", {"network": {"num_res_blocks": 3}})
    loaded = params.parse(raw)
    assert [name for name, preset in loaded.presets.items() if "Deep3" in preset.models] == ["test"]


def test_a_number_of_all_models_reaches_each_that_does_not_say_its_own(raw):
    put(raw, "models.Default.network.dropout", 0.25)
    put(raw, "models.DeepRes1.network.dropout", 0.5)
    put(raw, f"{TEST}.models.Default.network.dropout", 0.75)
    loaded = params.parse(raw)
    for name, of_default in (("paper", 0.25), ("quick", 0.25), ("demo", 0.25), ("test", 0.75)):
        models = loaded.presets[name].models
        assert models["DeepRes1"].network.dropout == 0.5
        assert models["IWDiff"].network.dropout == models["Default"].network.dropout == of_default


def test_a_model_with_a_kind_of_its_own_inherits_nothing(raw):
    put(raw, "models.Default.training.warmup_steps", 7)
    put(raw, "models.Alone", {**raw["models"]["SNGAN"], "image_size": 32})
    del raw["presets"]["demo"], raw["presets"]["test"]
    raw["preset"] = "paper"
    loaded = params.parse(raw)
    assert loaded.selected.models["Alone"] == loaded.selected.models["SNGAN"]
    del raw["models"]["Alone"]["z_dim"]
    assert refusal(raw) == "models.Alone.z_dim: missing"


def test_a_preset_may_draw_its_samples_in_another_way(raw):
    put(raw, f"{TEST}.samplers.ancestral.clip_x0", True)
    loaded = params.parse(raw)
    assert {name: preset.samplers["ancestral"].clip_x0 for name, preset in loaded.presets.items()} == {
        **dict.fromkeys(("paper", "quick", "paper_long", "demo"), False),
        "test": True,
    }


def test_groups_select_studies_and_one_without_a_group_is_always_made(raw):
    raw["studies"] = {name: study for name, study in raw["studies"].items() if study.get("group") != "beyond"}
    raw["studies"]["table_4_1"]["group"] = "beyond"
    del raw["studies"]["table_4_2"]["group"]
    del raw["studies"]["all_samplers"]
    every = set(raw["studies"])
    for groups, made in (
        (["paper"], every - {"table_4_1"}),
        (["beyond"], {"table_4_1", "table_4_2"}),
        (["beyond", "paper"], every),
        ([], {"table_4_2"}),
    ):
        put(raw, f"{TEST}.groups", groups)
        loaded = params.parse(raw)
        assert set(loaded.made(loaded.selected)) == made
        assert set(plan.build(loaded).tables) == made


def test_a_study_is_checked_against_the_presets_that_make_it_alone(raw):
    put(raw, f"{TEST}.models.Deep3", {"network": {"num_res_blocks": 3}})
    mine = {"title": "Mine", "rows": [{"model": "Deep3"}], "columns": ["scores"]}
    raw["studies"]["mine"] = mine
    assert refusal(raw).startswith("studies.mine.rows.0.model: presets.paper.models has no 'Deep3'; there are Default")
    raw["studies"]["mine"] = mine | {"group": "beyond"}
    put(raw, f"{TEST}.groups", ["paper", "beyond"])
    assert "mine" in plan.build(params.parse(raw)).tables


def test_a_group_that_no_study_has_is_told(raw):
    put(raw, "presets.demo.groups", ["paper", "papers"])
    assert (
        refusal(raw) == "presets.demo.groups: no study is of the group 'papers', or called so; there are paper, beyond"
    )


def test_more_runs_than_anyone_means_are_refused_and_as_many_as_allowed_are_not(raw):
    raw["studies"] = {"mine": {"title": "Mine", "rows": [{"model": "Default"}], "columns": ["scores"]}}
    put(raw, "presets.paper.groups", [])
    put(raw, f"{TEST}.seeds", {"training": list(range(1000)), "sampling": list(range(10)), "calibration": [0]})
    assert refusal(raw) == (f"{TEST}.seeds: with the rows of the studies, 10,010 sets of samples; at most 10,000")
    put(raw, f"{TEST}.seeds.calibration", [])
    params.parse(raw)
