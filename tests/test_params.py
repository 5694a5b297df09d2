"""params.yaml: what is accepted, and that everything else is reported in one line that names the file and the key."""

import copy

import pytest

from surrodiff.config import params
from surrodiff.errors import UserError

TEST = "presets.test"
DEFAULT = f"{TEST}.models.Default"


def _parent(raw: dict, key: str):
    """The block or list of a dotted key, made where there is none, and the last of its keys."""
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw[int(parent)] if isinstance(raw, list) else raw.setdefault(parent, {})
    return raw, int(last) if isinstance(raw, list) else last


def put(raw: dict, key: str, value):
    """Set a dotted key."""
    block, last = _parent(raw, key)
    block[last] = value


def remove(raw: dict, key: str):
    block, last = _parent(raw, key)
    del block[last]


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
        ("tables", {}, "tables", "unknown key"),
        ("studies.table_4_1.colour", 1, "studies.table_4_1.colour", "unknown key"),
        (f"{TEST}.evaluated_steps", [2], f"{TEST}.evaluated_steps", "unknown key"),
        (f"{TEST}.surrogate", {"t_mid": [2]}, f"{TEST}.surrogate", "unknown key"),
        (f"{TEST}.sampling.variance", "fixed_large", f"{TEST}.sampling.variance", "unknown key"),
        ("models.SNGAN.network", {}, "models.SNGAN.network", "unknown key"),
        ("models.DeepRes1.network.blocks", 1, "models.DeepRes1.network.blocks", "unknown key"),
        ("samplers.ancestral.eta", 1, "samplers.ancestral.eta", "unknown key"),
        (f"{DEFAULT}.network.block", "dense", f"{DEFAULT}.network.block", "'mbconv'"),
        (f"{DEFAULT}.objective.timesteps", "linear", f"{DEFAULT}.objective.timesteps", "'importance'"),
        (f"{DEFAULT}.objective.weights", "equal", f"{DEFAULT}.objective.weights", "'uniform'"),
        (f"{DEFAULT}.objective.reduction", "max", f"{DEFAULT}.objective.reduction", "'sum'"),
        (f"{DEFAULT}.training.precision", "float16", f"{DEFAULT}.training.precision", "'bfloat16'"),
        (f"{DEFAULT}.kind", "gan", f"{DEFAULT}.kind", "must be one of 'ddpm', 'sngan', "),
        (f"{TEST}.models.SNGAN.kind", "wgan", f"{TEST}.models.SNGAN.kind", "got 'wgan'"),
        ("models.Default.kind", "gan", "models.Default.kind", "got 'gan'"),
        ("samplers.ancestral.kind", "plms", "samplers.ancestral.kind", "'ancestral'"),
        (f"{TEST}.data.source", "imagenet", f"{TEST}.data.source", "'digits'"),
        ("samplers.ancestral.variance", "learnt", "samplers.ancestral.variance", "'fixed_small'"),
        *[
            (
                "samplers.ddim.timesteps",
                wrong,
                "samplers.ddim.timesteps: ",
                "how many timesteps, 1 to 100,000, or a list",
            )
            for wrong in (0, -1, 2.0, True, "10", "all", [], {}, [[1]], [1, "2"], [True], [1, 2.0], 100_001, [100_001])
        ],
        *[
            ("samplers.ddim.timesteps", wrong, "samplers.ddim.timesteps: ", "from 1 and rising, each timestep once")
            for wrong in ([0, 1], [-1, 4], [2, 1], [1, 2, 2], [1] * 5000)
        ],
        *[
            (
                f"samplers.{kind}.{key}",
                0.5,
                f"samplers.{kind}.{key}: ",
                f"draw noise, and {kind} solves an equation; rem",
            )
            for kind in ("heun", "euler", "dpm_solver", "unipc")
            for key in ("eta", "variance")
        ],
        ("samplers.ddim.variance", "learned", "samplers.ddim.variance", "unknown key"),
        ("samplers.ddim.eta", -0.1, "samplers.ddim.eta: ", "equal to 0, got -0.1"),
        ("samplers.ddim.eta", 1.1, "samplers.ddim.eta: ", "equal to 1, got 1.1"),
        ("samplers.ddim.eta", float("nan"), "samplers.ddim.eta: ", "finite number, got nan"),
        ("samplers.ddim.eta", True, "samplers.ddim.eta: ", "must be a number, got True"),
        ("samplers.ddim.eta", "1", "samplers.ddim.eta: ", "must be a number, got '1'; write it without quotes"),
        ("samplers.ddim.spacing", "karras", "samplers.ddim.spacing: ", "'quadratic' or 'log_snr', got 'karras'"),
        ("samplers.ddim.t_start", 0, "samplers.ddim.t_start: ", "equal to 1, got 0"),
        (f"{TEST}.samplers.ddim", {"timesteps": "x"}, f"{TEST}.samplers.ddim.timesteps: ", "got 'x'"),
        (f"{TEST}.samplers.heun", {"eta": 0.5}, f"{TEST}.samplers.heun.eta: ", "heun solves an equation; remove it"),
        (f"{TEST}.samplers.ancestral.clip_x0", 1, f"{TEST}.samplers.ancestral.clip_x0", "true or false"),
        (f"{TEST}.likelihood.variance", "learned", f"{TEST}.likelihood.variance", "'fixed_small'"),
        ("studies.table_4_5.rows.0.handover", "x1", "studies.table_4_5.rows.0.handover: ", "'x_t'"),
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
        ("studies.table_4_5.rows.0.t_mid", 2, "studies.table_4_5.rows.0.t_mid: ", "a share from 0 to 1"),
        ("studies.table_4_5.rows.0.t_mid.1", "x", "studies.table_4_5.rows.0.t_mid.1: ", "'x'"),
        ("studies.table_4_5.rows.0.t_mid.1", 1.5, "studies.table_4_5.rows.0.t_mid.1: ", "1.5"),
        ("studies.table_4_5.rows.0.t_mid.0", -1, "studies.table_4_5.rows.0.t_mid.0: ", "-1"),
        ("models.Default.training.batch_size", 0, "models.Default.training.batch_size", "0"),
        ("models.Default.network.groups", 3, "models.Default.network.groups", "128 channels"),
        ("models.Default.training.snapshot_every", 7, "models.Default.training.snapshot_every", "150000 steps"),
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
        (f"{TEST}.seeds.studies", {"table_4_4": []}, f"{TEST}.seeds.studies.table_4_4", "at least 1"),
        (f"{TEST}.diagnosis.repetitions", 1, f"{TEST}.diagnosis.repetitions", "2"),
        (f"{TEST}.diagnosis.num_images", 2000, f"{TEST}.diagnosis.num_images", "more than the 1437"),
        (f"{TEST}.seeds.sampling", [1, 1], f"{TEST}.seeds.sampling", "1 is listed more than once"),
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
        ("studies.table_4_3.rows", [], "studies.table_4_3.rows", "at least 1"),
        (f"{TEST}.models.SNGAN.image_size", 4, f"{TEST}.models.SNGAN.image_size", "power of two"),
        (f"{TEST}.models.SNGAN.image_size", 12, f"{TEST}.models.SNGAN.image_size", "power of two"),
        (f"{TEST}.models.IWDiff.objective.extra_timestep_batches", 1, f"{TEST}.models.IWDiff.objective", "importance"),
        (f"{TEST}.models.DeepRes1", None, f"{TEST}.models.DeepRes1", "None"),
        (f"{TEST}.models.a b", {}, f"{TEST}.models.a b", "a b"),
        (f"{TEST}.models.Default", None, f"{TEST}.models.Default", "missing"),
        (f"{TEST}.models", [], f"{TEST}.models", "block of keys"),
        ("models", None, "models", "block of keys, got None"),
        ("models", [], "models", "block of keys"),
        ("models.Default", None, "models.Default", "missing"),
        ("models.New", None, "models.New", "block of keys, got None"),
        ("samplers", "ancestral", "samplers", "block of keys"),
        ("samplers.ancestral", None, "samplers.ancestral", "block of keys"),
        (f"{TEST}.samplers", None, f"{TEST}.samplers", "block of keys"),
        ("studies", None, "studies", "block of keys, got None"),
        ("studies.table_4_1", None, "studies.table_4_1", "block of keys"),
        (f"{TEST}.groups", "paper", f"{TEST}.groups", "list"),
        (
            f"{TEST}.groups",
            ["besides"],
            f"{TEST}.groups",
            "no study is of the group 'besides', or called so; there are paper",
        ),
        (f"{TEST}.data.image_size", 16, f"{TEST}.models.Default.image_size", "data.image_size"),
        (f"{TEST}.data.channels", 3, f"{TEST}.data.channels", "greyscale"),
        (f"{TEST}.data.channels", 2, f"{TEST}.data.channels", "1 or 3"),
        (f"{TEST}.data.source", "cifar10", f"{TEST}.data.path", "folder"),
        (f"{TEST}.data.held_out", 1.0, f"{TEST}.data.held_out", "1.0"),
        (f"{TEST}.scoring.is_splits", 65, f"{TEST}.scoring.is_splits", "64 samples"),
        ("studies.table_4_1.rows.0.steps", [], "studies.table_4_1.rows.0.steps", "an empty list makes no row"),
        ("studies.table_4_1.rows.0.steps.0", 0, "studies.table_4_1.rows.0.steps", "more than 0"),
        ("studies.table_4_1.rows.0.steps.2", 8, "studies.table_4_1.rows.0.steps.2", "8"),
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
        ("presets", {}, "preset", "unknown 'test'; there are none"),
        ("presets.paper", None, "presets.paper", "block of keys, got None"),
        ("presets.paper", [], "presets.paper", "block of keys"),
        ("studies.table_4_3.rows.0.model.1", "DeepRes3", "studies.table_4_3.rows.0.model: ", "'DeepRes3'"),
        ("studies.table_4_3.rows", "Default", "studies.table_4_3.rows", "list"),
        (
            "studies.table_4_5.rows.0.surrogate",
            "ShortDiffusion",
            "studies.table_4_5.rows.0.surrogate",
            "presets.paper.models.ShortDiffusion.diffusion: must be that of Default",
        ),
    ],
)
def test_a_bad_value_is_told_with_its_key(raw, key, value, names, says):
    put(raw, key, value)
    message = refusal(raw)
    assert message.startswith(names)
    assert says in message


@pytest.mark.parametrize(
    "key",
    [
        *("preset", "device", "presets", "samplers"),
        *("models.Default.kind", "models.Default.training", "models.Default.network.dropout"),
        *("models.SNGAN.z_dim", "models.SNGAN.training.steps", "samplers.ancestral.variance"),
        *("presets.paper.groups", "presets.paper.data", "presets.paper.seeds.sampling"),
        *("presets.paper.scoring.classifier", "presets.paper.scoring.classifier.seed"),
        *("studies.table_4_2.rows", "studies.table_4_2.title", "studies.table_4_5.figures.0.kind"),
    ],
)
def test_a_missing_key_is_named_once_where_it_belongs(raw, key):
    remove(raw, key)
    assert refusal(raw) == f"{key}: missing"


@pytest.mark.parametrize(
    "key", ["presets", "studies.table_4_2.rows", *(f"{TEST}.{key}" for key in ("data", "seeds.sampling", "samplers"))]
)
def test_a_missing_key_of_a_complete_document_is_named(raw, key):
    complete = params.parse(raw).model_dump(mode="json")
    remove(complete, key)
    assert refusal(complete) == f"{key}: missing"


def test_a_missing_default_is_told(raw):
    complete = params.parse(raw).model_dump(mode="json")
    remove(complete, DEFAULT)
    assert refusal(complete).startswith(f"{DEFAULT}: missing")
    for key in ("models.Default", "models"):
        remove(raw, key)
        assert refusal(raw).startswith("models.Default: missing")


def test_a_missing_paper_is_told_where_another_preset_is_a_difference_from_it(raw):
    complete = params.parse(raw).presets["test"].model_dump(mode="json")
    remove(raw, "presets.paper")
    assert refusal(raw).startswith("presets.paper: missing; quick has no data")
    raw["presets"] = {"test": complete}
    params.parse(raw)


def test_default_must_be_a_diffusion_model(raw):
    complete = params.parse(raw).model_dump(mode="json")
    sngan = complete["presets"]["test"]["models"]["SNGAN"]
    complete["presets"] = {"test": complete["presets"]["test"] | {"models": {"Default": sngan}}}
    assert refusal(complete).startswith(f"{DEFAULT}.kind: must be ddpm")


def test_every_leaf_is_checked(raw):
    checked = 0
    for key in list(leaves(raw, "")):
        block, last = _parent(raw, key)
        value, block[last] = block[last], {"no": "such thing"}
        assert refusal(raw).startswith(f"{key}: "), key
        block[last] = value
        checked += 1
    assert checked > 200
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


NAMES = ["x $(touch PWNED)", "../../../esc", "", "1a", "_a", "a-b", "a.b", "a/b", " a", "a\n", "\u00e9", "\u0661"]


@pytest.mark.parametrize("name", [*NAMES, "a" * 61])
def test_what_becomes_a_path_or_a_word_of_a_command_has_a_plain_name(raw, name):
    blocks = {
        "presets": "test",
        "models": "DeepRes1",
        f"{TEST}.models": "DDPMHalf",
        "samplers": "ancestral",
        "studies": "table_4_1",
        "studies.table_4_1.rows.0.paper": "is",
    }
    for block, like in blocks.items():
        changed = copy.deepcopy(raw)
        parent, last = _parent(changed, f"{block}.{like}")
        parent[name] = parent[last]
        assert "a name has a letter, then letters" in refusal(changed)
    for key in (f"{TEST}.groups", "studies.table_4_3.rows.0.model", "studies.table_4_5.rows.0.surrogate"):
        changed = copy.deepcopy(raw)
        put(changed, key, [name])
        assert "a name has a letter, then letters" in refusal(changed)
    for key in ("table_4_1.rows.0.name", "table_4_1.group", "all_samplers.rows.0.study", "table_4_5.figures.0.name"):
        changed = copy.deepcopy(raw)
        put(changed, f"studies.{key}", name)
        assert "a name has a letter, then letters" in refusal(changed)


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


@pytest.mark.parametrize(
    "key", ["data.seed", "data.held_out", "data.path", "models.Default.training.batch_size", "samplers.ddim.timesteps"]
)
def test_a_huge_number_is_told(raw, key):
    put(raw, f"{TEST}.{key}", 10**5000)
    assert refusal(raw).startswith(f"{TEST}.{key}: ")
    assert "got a huge number" in refusal(raw)
