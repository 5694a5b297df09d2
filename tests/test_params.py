"""params.yaml: what is accepted, and that everything else is told in one line that names the file and the key."""

import copy

import pytest
import yaml

from surrodiff.config import params
from surrodiff.errors import UserError
from surrodiff.planning import plan

TEST = "presets.test"
DEFAULT = f"{TEST}.models.Default"


def put(raw: dict, key: str, value):
    """Set a dotted key."""
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw[parent]
    raw[last] = value


def remove(raw: dict, key: str):
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw[parent]
    del raw[last]


def refusal(raw) -> str:
    """The message of a refused document, which must be one line and name the file."""
    with pytest.raises(UserError) as caught:
        params.parse(raw, "my.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("my.yaml: ")
    return message.removeprefix("my.yaml: ")


def leaves(value, key: str):
    """Dotted keys of everything that is no block."""
    if not isinstance(value, dict):
        yield key
        return
    for name, inner in value.items():
        yield from leaves(inner, f"{key}.{name}" if key else name)


@pytest.mark.parametrize(
    ("key", "value", "names", "says"),
    [
        ("preset", "papr", "preset", "demo"),
        ("preset", 3, "preset", "must be text, got 3"),
        ("preset", None, "preset", "None"),
        ("device", "tpu", "device", "'tpu'"),
        ("colour", 1, "colour", "unknown key"),
        (f"{TEST}.colour", 1, f"{TEST}.colour", "unknown key"),
        (f"{TEST}.data.colour", 1, f"{TEST}.data.colour", "unknown key"),
        (f"{TEST}.models.SNGAN.network", {}, f"{TEST}.models.SNGAN.network", "unknown key"),
        (f"{TEST}.models.SNGAN.training.ema_decay", 0.5, f"{TEST}.models.SNGAN.training.ema_decay", "unknown key"),
        (f"{TEST}.models.DeepRes1.network.blocks", 1, f"{TEST}.models.DeepRes1.network.blocks", "unknown key"),
        ("tables.table_4_6", [], "tables.table_4_6", "unknown key"),
        (f"{DEFAULT}.network.block", "dense", f"{DEFAULT}.network.block", "'mbconv'"),
        (f"{DEFAULT}.objective.timesteps", "linear", f"{DEFAULT}.objective.timesteps", "'importance'"),
        (f"{DEFAULT}.objective.weights", "equal", f"{DEFAULT}.objective.weights", "'uniform'"),
        (f"{DEFAULT}.objective.reduction", "max", f"{DEFAULT}.objective.reduction", "'sum'"),
        (f"{DEFAULT}.training.precision", "float16", f"{DEFAULT}.training.precision", "'bfloat16'"),
        (f"{DEFAULT}.kind", "vae", DEFAULT, "kind"),
        (f"{TEST}.models.SNGAN.kind", "wgan", f"{TEST}.models.SNGAN", "kind"),
        (f"{TEST}.data.source", "mnist", f"{TEST}.data.source", "'digits'"),
        (f"{TEST}.sampling.variance", "learned", f"{TEST}.sampling.variance", "'fixed_small'"),
        (f"{TEST}.surrogate.handover", "x1", f"{TEST}.surrogate.handover", "'x_t'"),
        (f"{TEST}.scoring.features", "vgg", f"{TEST}.scoring.features", "'inception'"),
        (f"{DEFAULT}.training.learning_rate", "2e-4", f"{DEFAULT}.training.learning_rate", "write it without quotes"),
        (f"{DEFAULT}.training.learning_rate", "2e-4x", f"{DEFAULT}.training.learning_rate", "a number, got '2e-4x'"),
        (f"{DEFAULT}.training.learning_rate", True, f"{DEFAULT}.training.learning_rate", "True"),
        (f"{DEFAULT}.training.steps", True, f"{DEFAULT}.training.steps", "True"),
        (f"{DEFAULT}.training.steps", 6.0, f"{DEFAULT}.training.steps", "6.0"),
        (f"{DEFAULT}.training.steps", "6", f"{DEFAULT}.training.steps", "a whole number, got '6'; write it without"),
        (f"{DEFAULT}.training.steps", None, f"{DEFAULT}.training.steps", "None"),
        (f"{DEFAULT}.training", None, f"{DEFAULT}.training", "None"),
        (f"{DEFAULT}.training.horizontal_flip", 1, f"{DEFAULT}.training.horizontal_flip", "true or false"),
        (f"{DEFAULT}.network.channel_multipliers", 2, f"{DEFAULT}.network.channel_multipliers", "list"),
        (f"{DEFAULT}.network.channel_multipliers", [], f"{DEFAULT}.network.channel_multipliers", "at least 1"),
        (f"{TEST}.surrogate.t_mid", 2, f"{TEST}.surrogate.t_mid", "list"),
        (f"{TEST}.surrogate.t_mid", [0, "2"], f"{TEST}.surrogate.t_mid.1", "'2'"),
        (f"{TEST}.surrogate.t_mid", [0, 9], f"{TEST}.surrogate.t_mid", "T = 8"),
        (f"{TEST}.surrogate.t_mid", [-1], f"{TEST}.surrogate.t_mid.0", "-1"),
        (f"{DEFAULT}.objective.noises", 0, f"{DEFAULT}.objective.noises", "0"),
        (f"{DEFAULT}.training.batch_size", 0, f"{DEFAULT}.training.batch_size", "0"),
        (f"{DEFAULT}.training.learning_rate", -0.1, f"{DEFAULT}.training.learning_rate", "-0.1"),
        (f"{DEFAULT}.training.learning_rate", float("nan"), f"{DEFAULT}.training.learning_rate", "nan"),
        (f"{DEFAULT}.training.grad_clip", float("inf"), f"{DEFAULT}.training.grad_clip", "inf"),
        (f"{DEFAULT}.training.ema_decay", 1.0, f"{DEFAULT}.training.ema_decay", "1.0"),
        (f"{DEFAULT}.training.snapshot_every", 4, f"{DEFAULT}.training.snapshot_every", "6 steps"),
        (f"{TEST}.seeds.training", [0, -1], f"{TEST}.seeds.training.1", "-1"),
        (f"{TEST}.seeds.training", [2**32], f"{TEST}.seeds.training.0", "4294967296"),
        (f"{TEST}.seeds.training", [], f"{TEST}.seeds.training", "at least 1"),
        (f"{TEST}.seeds.sampling", [1, 1], f"{TEST}.seeds.sampling", "1 stands there more than once"),
        (f"{TEST}.scoring.neighbours", 1000, f"{TEST}.scoring", "neighbours: must be less than kept_features"),
        (f"{TEST}.scoring.kid_subset_size", 1000, f"{TEST}.scoring", "kid_subset_size: must be less than kept"),
        (f"{TEST}.scoring.precision", "auto", f"{TEST}.scoring.precision", "auto"),
        (f"{TEST}.likelihood.num_images", 1, f"{TEST}.likelihood.num_images", "1"),
        (f"{DEFAULT}.diffusion.T", 1, f"{DEFAULT}.diffusion.T", "1"),
        (f"{DEFAULT}.diffusion.beta_1", 0.0, f"{DEFAULT}.diffusion.beta_1", "0.0"),
        (
            f"{TEST}.models.ShortDiffusion.diffusion.beta_T",
            1.0,
            f"{TEST}.models.ShortDiffusion.diffusion.beta_T",
            "1.0",
        ),
        (f"{DEFAULT}.network.groups", 3, f"{DEFAULT}.network.groups", "8"),
        (f"{DEFAULT}.network.dropout", 1.0, f"{DEFAULT}.network.dropout", "1.0"),
        (f"{TEST}.models.DeepRes1.network.attention_levels", [3], f"{TEST}.models.DeepRes1.network", "0 to 2"),
        (f"{TEST}.models.MBConv64.network.base_channels", 0, f"{TEST}.models.MBConv64.network.base_channels", "0"),
        (f"{TEST}.models.DDPMHalf.image_size", 5, f"{TEST}.models.DDPMHalf.image_size", "2 levels"),
        (f"{TEST}.models.DDPMHalf.image_size", 16, f"{TEST}.models.DDPMHalf.image_size", "data.image_size"),
        (f"{TEST}.models.SNGAN.image_size", 16, f"{TEST}.models.SNGAN.image_size", "must be data.image_size (8)"),
        (f"{TEST}.sampling.num_samples", 3, f"{TEST}.sampling.num_samples", "4"),
        ("tables.table_4_3", [], "tables.table_4_3", "at least 1"),
        (f"{TEST}.models.SNGAN.image_size", 4, f"{TEST}.models.SNGAN.image_size", "power of two"),
        (f"{TEST}.models.SNGAN.image_size", 12, f"{TEST}.models.SNGAN.image_size", "power of two"),
        (f"{TEST}.models.IWDiff.objective.extra_timestep_batches", 1, f"{TEST}.models.IWDiff.objective", "importance"),
        (f"{TEST}.models.DeepRes1", None, f"{TEST}.models.DeepRes1", "None"),
        (f"{TEST}.models.a b", {}, f"{TEST}.models.a b", "a b"),
        (f"{TEST}.models.Default", None, f"{TEST}.models.Default", "missing"),
        (f"{TEST}.models", [], f"{TEST}.models", "block of keys"),
        (f"{TEST}.data.image_size", 16, f"{TEST}.models.Default.image_size", "data.image_size"),
        (f"{TEST}.data.channels", 3, f"{TEST}.data.channels", "greyscale"),
        (f"{TEST}.data.channels", 2, f"{TEST}.data.channels", "1 or 3"),
        (f"{TEST}.data.source", "cifar10", f"{TEST}.data.path", "folder"),
        (f"{TEST}.data.held_out", 1.0, f"{TEST}.data.held_out", "1.0"),
        (f"{TEST}.scoring.is_splits", 65, f"{TEST}.scoring.is_splits", "64 samples"),
        (f"{TEST}.evaluated_steps", [], f"{TEST}.evaluated_steps", "at least 1"),
        (f"{TEST}.evaluated_steps", [3], f"{TEST}.evaluated_steps", "snapshot_every"),
        (f"{TEST}.evaluated_steps", [2, 8], f"{TEST}.evaluated_steps", "up to 6"),
        (f"{TEST}.execution.micro_batch", 0, f"{TEST}.execution.micro_batch", "0"),
        (f"{TEST}.execution.gpus_per_job", 0, f"{TEST}.execution.gpus_per_job", "0"),
        (f"{TEST}.execution.sampling_batch", 0, f"{TEST}.execution.sampling_batch: ", "auto or a whole number"),
        (f"{TEST}.execution.sampling_batch", "many", f"{TEST}.execution.sampling_batch: ", "auto or a whole number"),
        (f"{TEST}.execution.compile", 1, f"{TEST}.execution.compile: ", "auto or true or false"),
        (f"{TEST}.execution.fused", "auto", f"{TEST}.execution.fused: ", "true or false"),
        (f"{TEST}.execution.threads", None, f"{TEST}.execution.threads", "None"),
        ("presets", None, "presets", "None"),
        (TEST, None, TEST, "None"),
        (TEST, "tiny", TEST, "'tiny'"),
        ("tables.table_4_3", ["Default", "DeepRes3"], "tables.table_4_3", "'DeepRes3'"),
        ("tables.table_4_3", "Default", "tables.table_4_3", "list"),
        ("tables.table_4_1", ["SNGAN"], "tables.table_4_1", "table_4_5"),
        ("tables.table_4_4", ["Default", "SNGAN"], "tables.table_4_4", "table_4_5"),
        ("tables.table_4_5", ["ShortDiffusion"], "presets.test.models.ShortDiffusion.diffusion", "schedule"),
    ],
)
def test_a_bad_value_is_told_with_its_key(raw, key, value, names, says):
    put(raw, key, value)
    message = refusal(raw)
    assert message.startswith(names)
    assert says in message


@pytest.mark.parametrize(
    "key",
    ["preset", "tables", "tables.table_4_2", f"{TEST}.data", f"{TEST}.scoring.classifier", f"{TEST}.seeds.sampling"],
)
def test_a_missing_key_is_named(raw, key):
    remove(raw, key)
    assert refusal(raw) == f"{key}: missing"


def test_a_missing_default_is_told(raw):
    remove(raw, DEFAULT)
    assert refusal(raw).startswith(f"{DEFAULT}: missing")


def test_default_must_be_a_diffusion_model(raw):
    put(raw, DEFAULT, raw["presets"]["test"]["models"]["SNGAN"])
    raw["presets"]["test"]["models"] = {"Default": raw["presets"]["test"]["models"]["SNGAN"]}
    raw["presets"] = {"test": raw["presets"]["test"]}
    assert refusal(raw).startswith(f"{DEFAULT}.kind: must be ddpm")


def test_every_leaf_is_checked(raw):
    raw["presets"] = {"test": raw["presets"]["test"]}
    checked = 0
    for key in list(leaves(raw, "")):
        *parents, last = key.split(".")
        block = raw
        for parent in parents:
            block = block[parent]
        value, block[last] = block[last], {"no": "such thing"}
        message = refusal(raw)
        assert message.startswith(key.removesuffix(".kind")), key
        block[last] = value
        checked += 1
    assert checked > 80
    params.parse(raw)


@pytest.mark.parametrize("document", [None, [], "text", 3, True])
def test_a_document_that_is_no_mapping_is_refused(document):
    assert refusal(document).startswith("must be a block of keys")


def test_a_wrong_key_of_default_is_told_once(raw):
    put(raw, f"{DEFAULT}.network.depth", 3)
    assert refusal(raw) == f"{DEFAULT}.network.depth: unknown key"


def test_every_wrong_key_has_its_own_line(raw):
    put(raw, f"{DEFAULT}.training.momentum", 0.9)
    put(raw, f"{TEST}.models.DeepRes1.network.depth", 3)
    put(raw, f"{TEST}.likelihood.seed", "0")
    with pytest.raises(UserError) as caught:
        params.parse(raw, "my.yaml")
    lines = str(caught.value).splitlines()
    keys = [f"{DEFAULT}.training.momentum", f"{TEST}.models.DeepRes1.network.depth", f"{TEST}.likelihood.seed"]
    assert sorted(line.split(": ")[1] for line in lines) == sorted(keys)
    assert all(line.startswith("my.yaml: ") for line in lines)


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
    assert {name for _, names in loaded.tables for name in names} <= set(loaded.selected.models)


def test_the_papers_numbers_stand_in_the_paper_preset(root):
    paper = params.load(root / "params.yaml", preset="paper").selected
    default = paper.models["Default"]
    assert (default.diffusion.T, default.diffusion.beta_1, default.diffusion.beta_T) == (1000, 1e-4, 0.02)
    assert (default.training.batch_size, default.training.learning_rate) == (128, 2e-4)
    assert (paper.sampling.num_samples, paper.evaluated_steps) == (50000, [50000, 100000, 150000])
    short = paper.models["ShortDiffusion"].diffusion
    assert (short.T, short.beta_1, short.beta_T) == (100, 4e-4, 0.18)


def test_an_override_of_none_leaves_the_file_s_value(root):
    assert params.load(root / "params.yaml", preset=None).preset == params.load(root / "params.yaml").preset


def test_an_override_is_validated(root):
    with pytest.raises(UserError, match=r"params\.yaml: preset: unknown 'huge'; there are test, demo, quick, paper"):
        params.load(root / "params.yaml", preset="huge")


@pytest.mark.parametrize("written", ["2e-3", "2E-3", "2.0e-3", ".002", "+0.002", "20e-4", "0.2e-2"])
def test_an_id_does_not_depend_on_how_a_number_is_written(tmp_path, root, written):
    file = tmp_path / "params.yaml"
    text = (root / "params.yaml").read_text()
    assert "learning_rate: 0.002," in text
    file.write_text(text.replace("learning_rate: 0.002,", f"learning_rate: {written},", 1))
    as_it_is = params.load(root / "params.yaml", preset="test")
    assert plan.build(params.load(file, preset="test")) == plan.build(as_it_is)


@pytest.mark.parametrize(
    ("key", "value", "as_written"),
    [("training.grad_clip", 1.0, 1), ("training.ema_decay", 0.0, 0), ("network.dropout", 0.0, -0.0)],
)
def test_an_id_does_not_depend_on_a_float_written_as_an_int_or_the_sign_of_zero(raw, key, value, as_written):
    put(raw, f"{DEFAULT}.{key}", value)
    expected = plan.build(params.parse(raw)).runs
    put(raw, f"{DEFAULT}.{key}", as_written)
    assert plan.build(params.parse(raw)).runs == expected


NAMES = ["x $(touch PWNED)", "../../../esc", "", "1a", "_a", "a-b", "a.b", "a/b", " a", "a\n", "\u00e9", "\u0661"]


@pytest.mark.parametrize("name", [*NAMES, "a" * 61])
def test_what_becomes_a_path_or_a_word_of_a_command_has_a_plain_name(raw, name):
    for block, like in (("presets", "test"), (f"{TEST}.models", "DeepRes1")):
        changed = copy.deepcopy(raw)
        parent = changed
        for key in block.split("."):
            parent = parent[key]
        parent[name] = parent[like]
        assert "a name has a letter, then letters" in refusal(changed)
    put(raw, "tables.table_4_3", ["Default", name])
    assert "a name has a letter, then letters" in refusal(raw)


def test_a_long_name_is_a_name(raw):
    name = "Aa0_" * 15
    raw["presets"][name] = raw["presets"].pop("test")
    raw["preset"] = name
    assert params.parse(raw).preset == name


def test_at_most_twenty_errors_are_told_and_how_many_more_there_are(raw):
    for number in range(50):
        put(raw, f"{TEST}.unknown{number}", 1)
    with pytest.raises(UserError) as caught:
        params.parse(raw, "my.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "my.yaml: and 30 more like these"


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31mred", "\u202e", "\ud800", "x" * 10_000, "\x00"])
def test_values_and_keys_are_shown_escaped_and_cut(raw, value):
    put(raw, f"{TEST}.data.seed", value)
    assert len(refusal(raw)) < 150
    assert refusal(raw).isprintable()
    put(raw, f"{TEST}.data.seed", 0)
    raw["presets"]["test"]["data"][value] = 1
    assert len(refusal(raw)) < 150
    assert refusal(raw).isprintable()


@pytest.mark.parametrize("key", ["data.seed", "data.held_out", "data.path", "models.Default.training.batch_size"])
def test_a_huge_number_is_told(raw, key):
    put(raw, f"{TEST}.{key}", 10**5000)
    assert refusal(raw).startswith(f"{TEST}.{key}: ")
    assert "got a huge number" in refusal(raw)
