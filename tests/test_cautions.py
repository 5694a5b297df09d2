"""What is allowed and most likely a slip: told with its key, and not told of what makes sense."""

import math

import pytest
import yaml
from test_params import DEFAULT, TEST, put, remove

from surrodiff.config import params
from surrodiff.config.diffusion import Diffusion
from surrodiff.diffusion.schedule import Schedule


@pytest.fixture
def sound(raw) -> dict:
    """The preset `test` with schedules whose x_T is noise, so that nothing is odd about it."""
    put(raw, f"{DEFAULT}.diffusion.beta_T", 0.9)
    put(raw, f"{TEST}.models.ShortDiffusion.diffusion.beta_1", 0.4)
    assert params.warnings(params.parse(raw)) == []
    return raw


def warning(raw: dict) -> str:
    """The only warning, without the file's name and the preset's key."""
    (line,) = params.warnings(params.parse(raw), "my.yaml")
    start = f"my.yaml: warning: {TEST}."
    assert line.startswith(start)
    assert line.isprintable()
    return line.removeprefix(start)


@pytest.mark.parametrize("preset", ["demo", "quick", "paper"])
def test_nothing_is_odd_about_the_presets_that_make_results(root, preset):
    assert params.warnings(params.load(root / "params.yaml", preset=preset)) == []


def test_the_quickest_preset_s_schedules_end_in_no_noise(root):
    """It has 8 and 4 timesteps; its numbers mean nothing, as params.yaml says."""
    lines = params.warnings(params.load(root / "params.yaml", preset="test"))
    assert [line.split(": ")[2] for line in lines] == [
        f"{TEST}.models.{m}.diffusion" for m in ("Default", "ShortDiffusion")
    ]


@pytest.mark.parametrize("T", [2, 8, 100, 1000])
def test_signal_and_noise_are_the_schedule_s(T):
    diffusion = Diffusion(T=T, beta_1=1e-4, beta_T=0.02)
    schedule = Schedule(diffusion)
    for t in (0, 1, T // 2, T):
        expected = (schedule.signal[t].item(), schedule.noise[t].item())
        assert diffusion.signal_and_noise(t) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("models.Default.training.warmup_steps", 4, "4 is more than half of the 6 steps"),
        ("models.Default.training.ema_decay", 0.9999, "averages over about 10,000 steps, more than half of the 6"),
        ("models.Default.training.ema_decay", math.nextafter(1, 0), "more than half of the 6"),
        ("models.Default.training.learning_rate", 1.0e30, "1e+30 is so large"),
        ("models.Default.training.learning_rate", 1.0e-9, "with 6 steps no weight moves by more than about 6e-09"),
        ("models.SNGAN.training.learning_rate", 0.5, "0.5 is so large"),
        ("scoring.classifier.learning_rate", 0.5, "0.5 is so large"),
        ("models.Default.training.horizontal_flip", True, "mirrored digits are no digits"),
        ("models.SNGAN.training.horizontal_flip", True, "mirrored digits are no digits"),
        ("execution.checkpoint_every", 7, "7 is beyond the 6 steps"),
        ("execution.log_every", 7, "7 is beyond the 6 steps"),
        ("scoring.features", "inception", "64 is fewer than the 2048 features"),
    ],
)
def test_a_likely_slip_is_told_with_its_key(sound, key, value, says):
    put(sound, f"{TEST}.{key}", value)
    text = warning(sound)
    assert text.startswith("sampling.num_samples" if key == "scoring.features" else key)
    assert says in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.Default.training.warmup_steps", 3),
        ("models.Default.training.ema_decay", 0.6),
        ("models.Default.training.learning_rate", 0.1),
        ("execution.checkpoint_every", 6),
    ],
)
def test_what_makes_sense_is_not_told(sound, key, value):
    put(sound, f"{TEST}.{key}", value)
    assert params.warnings(params.parse(sound)) == []


def test_what_models_share_is_told_once(sound):
    put(sound, f"{DEFAULT}.training.warmup_steps", 6)
    assert warning(sound).endswith("(so in 12 more models)")


def test_a_schedule_that_ends_in_no_noise_is_told(sound):
    put(sound, f"{TEST}.models.ShortDiffusion.diffusion.beta_T", 0.5)
    assert warning(sound).startswith("models.ShortDiffusion.diffusion: x_T keeps 0.3 of x_0")


def test_rows_at_a_t_mid_that_changes_nothing_or_everything_are_told(sound):
    put(sound, f"{DEFAULT}.diffusion", {"T": 1000, "beta_1": 1.0e-6, "beta_T": 0.03})
    del sound["studies"]["table_4_5"]["claims"], sound["studies"]["table_4_5"]["figures"]
    rows = sound["studies"]["table_4_5"]["rows"] = [{"surrogate": "SNGAN", "t_mid": [0, 0.001, 0.5]}]
    where = "models.Default.diffusion: at t_mid"
    assert warning(sound).startswith(f"{where} 1 of T = 1000 the noise is 0.001")
    rows[0]["t_mid"] = [0, 0.5, 1]
    assert warning(sound).startswith(f"{where} 1000 of T = 1000 only 0.0005 of the surrogate's sample is left")
    rows[0]["model"] = ["ShortDiffusion"]
    put(sound, f"{TEST}.models.ShortDiffusion.diffusion", {"T": 10, "beta_1": 1.0e-6, "beta_T": 0.99999})
    rows[0]["t_mid"] = 0.1
    assert warning(sound).startswith("models.ShortDiffusion.diffusion: at t_mid 1 of T = 10 the noise is 0.001")


def test_rows_of_a_study_that_is_not_made_are_not_told(sound):
    put(sound, f"{DEFAULT}.diffusion", {"T": 1000, "beta_1": 1.0e-6, "beta_T": 0.02})
    row = {"surrogate": "SNGAN", "t_mid": 0.001}
    sound["studies"]["mine"] = {"title": "Mine", "rows": [row], "columns": ["scores"], "group": "extra"}
    put(sound, "presets.demo.groups", ["paper", "extra"])
    assert params.warnings(params.parse(sound)) == []
    put(sound, f"{TEST}.groups", ["paper", "extra"])
    assert warning(sound).startswith("models.Default.diffusion: at t_mid 1 of T = 1000")


def test_only_the_selected_preset_is_looked_at(sound):
    put(sound, f"{DEFAULT}.training.warmup_steps", 6)
    put(sound, "preset", "demo")
    assert params.warnings(params.parse(sound)) == []


MINE = {"title": "Mine", "rows": [{"model": "IWDiff"}], "columns": ["scores"], "group": "papr"}
NO_PRESET = "group: no preset's `groups` name 'papr', so none makes this study; they name paper, extra"


@pytest.fixture
def beyond(sound) -> dict:
    """Two groups that presets name, of which the selected one makes the first alone."""
    sound["studies"]["other"] = MINE | {"group": "extra"}
    put(sound, "presets.demo.groups", ["paper", "extra"])
    assert params.warnings(params.parse(sound)) == []
    return sound


def test_a_group_that_no_preset_names_is_told_with_the_study_and_the_groups_that_there_are(beyond):
    beyond["studies"]["mine"] = MINE
    (line,) = params.warnings(params.parse(beyond), "my.yaml")
    assert line == f"my.yaml: warning: studies.mine.{NO_PRESET}"
    put(beyond, "presets.paper.groups", [])
    put(beyond, "presets.demo.groups", [])
    lines = params.warnings(params.parse(beyond), "my.yaml")
    assert [line.rpartition("; ")[2] for line in lines] == ["they name none"] * 2  # of mine, and of the other


def test_a_group_of_a_study_s_own_file_is_told_with_the_file(beyond, tmp_path):
    folder = tmp_path / params.STUDIES
    folder.mkdir(parents=True)
    for name, study in ({**beyond.pop("studies"), "mine": MINE}).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(beyond))
    loaded = params.load(tmp_path / "params.yaml")
    assert params.warnings(loaded) == [f"{folder / 'mine.yaml'}: warning: {NO_PRESET}"]


def test_a_group_that_several_studies_or_any_preset_name_is_no_slip(beyond):
    beyond["studies"]["mine"] = MINE
    put(beyond, "presets.quick.groups", ["papr"])
    assert params.warnings(params.parse(beyond)) == []
    remove(beyond, "presets.quick.groups")
    beyond["studies"]["mine_too"] = MINE
    assert params.warnings(params.parse(beyond)) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Defualt", "; did you mean Default?"), ("IWDif", "; did you mean IWDiff?"), ("Xyz", "")],
)
def test_a_model_s_name_that_only_a_preset_has_and_no_study_uses_is_told_with_the_nearest(sound, name, hint):
    put(sound, f"{TEST}.models.{name}", {"network": {"num_res_blocks": 1}})
    assert warning(sound) == f"models.{name}: neither among the `models` of all presets nor in a study{hint}"


def test_a_model_s_name_in_the_paper_s_preset_is_told_where_it_stands(sound):
    put(sound, "presets.paper.models.Defualt", {"network": {"num_res_blocks": 1}})
    (line,) = params.warnings(params.parse(sound))
    assert line.startswith("params.yaml: warning: presets.paper.models.Defualt: neither among")


def test_a_model_of_one_preset_that_a_study_uses_is_no_slip(sound):
    sound["studies"]["mine"] = MINE | {"rows": [{"model": "Mine"}], "group": "extra"}
    for preset in ("demo", "test"):
        put(sound, f"presets.{preset}.models.Mine", {"network": {"num_res_blocks": 1}})
    put(sound, "presets.demo.groups", ["extra"])
    assert params.warnings(params.parse(sound)) == []
