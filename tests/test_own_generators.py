"""A generator of the user's own: one class in one file, trained, resumed, sampled and refined like those here."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_runs import refusal

from surrodiff.config import params as params_module
from surrodiff.data import identity
from surrodiff.kinds import own
from surrodiff.planning import plan as plan_module
from surrodiff.runtime.noise import Draws, Stream
from surrodiff.stages import sample as sample_stage

EXAMPLE = Path(__file__).resolve().parent.parent / "generators" / "energy.py"
TRAINING = {
    **{"steps": 40, "snapshot_every": 20, "batch_size": 32, "learning_rate": 0.005, "warmup_steps": 2},
    **{"grad_clip": 1.0, "ema_decay": 0.9, "horizontal_flip": False, "precision": "float32", "revision": 1},
}


CLASS = "import torch\nclass Generator(torch.nn.Module):\n"
WITH_Z = (
    "    z_dim = 3\n    def __init__(self, **_):\n        super().__init__()\n        self.a = torch.nn.Linear(3, 64)\n"
)
IMAGES = "    def forward(self, z): return self.a(z).reshape(-1, 1, 8, 8)\n"


@pytest.fixture
def file(tmp_path) -> Path:
    return Path(shutil.copy(EXAMPLE, tmp_path / "mine.py"))


@pytest.fixture
def planned(raw, file):
    """The plan of a study about the generator in a file."""

    def planned(**changes):
        model = {"kind": "own", "file": str(file), "image_size": 8, "settings": {"z_dim": 8, "width": 32}}
        raw["models"]["Mine"] = model | {"training": TRAINING} | changes
        raw["studies"] = {"own": {"title": "Own", "rows": [{"surrogate": "Mine", "t_mid": [0, 0.5]}]}}
        raw["studies"]["own"]["columns"] = ["speed", "scores"]
        raw["presets"]["paper"]["groups"] = []
        for preset in raw["presets"].values():
            preset.setdefault("models", {})["Mine"] = {"image_size": 8}
        raw["presets"]["paper"]["models"]["Mine"] = {"image_size": 32}
        raw["presets"]["quick"]["models"]["Mine"] = {"image_size": 32}
        raw["presets"]["paper_long"]["models"]["Mine"] = {"image_size": 32}
        return plan_module.build(identity.identified(params_module.parse(raw)))

    return planned


def run_of(made, stage, name):
    return next(run for run in made.runs.values() if (run.stage, run.name) == (stage, name))


def test_the_example_is_trained_sampled_and_refined(planned, own_results, make):
    made = planned()
    model = run_of(made, "models", "Mine")
    record = make(model, own_results)
    losses = pd.read_csv(own_results / "models" / model.id / "losses.csv")["loss"]
    assert losses.iloc[-5:].mean() < 0.9 * losses.iloc[0]
    assert record["parameters"] == (8 + 1) * 32 + (32 + 1) * 32 + (32 + 1) * 64
    images = {}
    for name, evaluations in (("Mine_t0", 1), ("Mine_t4", 5)):
        run = run_of(made, "samples", name)
        assert make(run, own_results)["evaluations_per_sample"] == evaluations
        images[name] = sample_stage.load(own_results, run.id)[0].astype(float)
    assert images["Mine_t0"].shape == (64, 1, 8, 8)
    assert np.abs(images["Mine_t4"] - images["Mine_t0"]).mean() > 1
    assert len({image.tobytes() for image in images["Mine_t0"]}) == 64


def test_its_training_goes_on_to_the_same_bits(planned, own_results, make, tmp_path):
    model = run_of(planned(), "models", "Mine")
    make(model, own_results)
    whole = (own_results / "models" / model.id / "weights-40.safetensors").read_bytes()

    class Killed(Exception):
        pass

    other, step = tmp_path / "other", own.generators.GeneratorTrainer.step
    shutil.copytree(own_results / "data", other / "data")

    def until(trainer, number):
        if number == 31:
            raise Killed
        return step(trainer, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own.generators.GeneratorTrainer, "step", until)
        with pytest.raises(Killed):
            make(model, other, checkpoint_every=7)
    make(model, other, checkpoint_every=7)
    assert (other / "models" / model.id / "weights-40.safetensors").read_bytes() == whole


def test_its_run_is_known_by_the_file_s_content(planned, file, own_results, make):
    before = run_of(planned(), "models", "Mine")
    file.write_text(file.read_text() + "\n# Another remark.\n")
    after = run_of(planned(), "models", "Mine")
    assert before.id != after.id
    assert "mine.py: has changed since this model was planned" in refusal(make, before, own_results)
    assert after.id != run_of(planned(settings={"z_dim": 4, "width": 32}), "models", "Mine").id


def test_its_file_may_be_named_in_any_way(planned, file, monkeypatch):
    ids = set()
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("HOME", str(file.parent))
    for name in (str(file), "mine.py", "./mine.py", "~/mine.py"):
        run = run_of(planned(file=name), "models", "Mine")
        assert own.build(run.config.model, 1).z_dim == 8
        ids.add(run.id)
    assert len(ids) == 1
    assert "models.Mine.file: a NUL character" in refusal(lambda: planned(file="a\0b")).replace("presets.test.", "")


def test_the_example_s_loss_is_the_energy_distance(cpu):
    """Of equal distributions it is least: 2 E|x - y| - E|x - x'| - E|y - y'| >= 0 (Szekely & Rizzo, 2013)."""
    model = own.Own.model_construct(file=str(EXAMPLE), sha256=None, image_size=2, settings={"z_dim": 3, "width": 5})
    network = own.build(model, 1)
    index = torch.arange(3000)
    with torch.no_grad():
        same = network(Draws(9, Stream.Z, 0, index).normal(3))
        among = torch.cdist(same[:1500].flatten(1), same[1500:].flatten(1)).mean()
        other = same.roll(1, -1) * 0.5 + 0.3
        losses = [float(network.loss(x, Draws(1, Stream.GENERATOR_LOSS, 1, index))) for x in (same, other)]
    assert losses[0] == pytest.approx(float(among), rel=0.05)
    assert losses[1] > losses[0]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class Generator(:\n", "line 1: cannot be imported (SyntaxError"),
        ("import nothing_like_it\n", "cannot be imported (ModuleNotFoundError"),
        ("Generator = 3\n", "has no class `Generator` that is a torch.nn.Module; write one"),
        (
            CLASS + "    def __init__(self, image_size, channels): pass\n",
            "Generator(image_size, channels, z_dim, width): TypeError",
        ),
        (CLASS + "    def __init__(self, **_): super().__init__()\n", "has no whole number `z_dim`"),
        (CLASS + WITH_Z + "    def begin(self, x_0): x_0 @ 3\n    def loss(self, x_0, draws): pass\n", "begin(x_0): "),
        (CLASS + WITH_Z + "    def loss(self, x_0, draws): return x_0.mean()\n", "forward(z): "),
        (
            CLASS + WITH_Z + "    def forward(self, z): return z\n    def loss(self, x_0, draws): pass\n",
            "forward(z) of 2 gives images of shape (2, 3); it must be (2, 1, 8, 8)",
        ),
        (
            CLASS + WITH_Z + IMAGES + "    def loss(self, x_0, draws): return x_0 @ 3\n",
            "loss(x_0, draws), or its gradient: TypeError",
        ),
        (
            CLASS + WITH_Z + IMAGES + "    def loss(self, x_0, draws): return x_0.mean()\n",
            "loss(x_0, draws), or its gradient: RuntimeError",
        ),
        (
            CLASS + WITH_Z + IMAGES,
            "has no method loss(x_0, draws)",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_line(planned, file, own_results, make, code, message):
    file.write_text(code)
    told = refusal(make, run_of(planned(), "models", "Mine"), own_results)
    assert told.startswith(str(file))
    assert message in told


def test_a_missing_file_is_told_before_any_work(planned, file):
    file.unlink()
    told = refusal(planned)
    assert "models.Mine.file: " in told
    assert "No such file or directory; write the path of a file that holds a class `Generator`" in told
