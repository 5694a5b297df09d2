"""Each path of CONTRIBUTING's table "To add something", walked in a copy of the code: it takes the files that the table
lists and no other, and what was added works."""

import re
from pathlib import Path

import pytest
from code_copies import CODE, Copy, assert_as_listed

from surrodiff.config.documents import merged


@pytest.fixture
def copy(root, tmp_path) -> Copy:
    (tmp_path / "copy").mkdir()
    return Copy(root, tmp_path / "copy")


@pytest.fixture
def using(raw):
    """Parameters of the preset `test` with a study alone, and new entries of its blocks."""

    def using(study: dict, **blocks: dict) -> dict:
        changes = blocks | {"presets": {"paper": {"groups": [], "seeds": {"calibration": []}}}}
        return merged(raw, changes) | {"studies": {"mine": {"title": "Mine", **study}}}

    return using


def test_every_path_of_the_table_is_walked_here(root):
    table = (root / "CONTRIBUTING.md").read_text().partition("## To add something")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| \d+: ", table, re.MULTILINE)
    walked = re.findall(r'assert_as_listed\(copy, "([^"]+)"\)', Path(__file__).read_text())
    assert len(rows) == len(walked) == 6
    assert all(row.startswith(path) for row, path in zip(rows, walked, strict=True))


PLANS = """
import json
from surrodiff.config import params
from surrodiff.planning import plan

found = {}
for preset in ("test", "paper"):
    loaded = params.load(preset=preset)
    made = plan.build(loaded)
    found[preset] = {
        "runs": [[run.stage, run.name] for run in made.runs.values()],
        "tables": {name: [row.line.name for row in table.rows] for name, table in made.tables.items()},
        "figures": {name: drawing.table for name, drawing in made.figures.items()},
        "columns": {name: table.study.columns for name, table in made.tables.items()},
        "claims": {name: [claim.claim for claim in table.study.claims] for name, table in made.tables.items()},
    }
print(json.dumps(found))
"""


def test_a_variant_and_its_row(copy):
    copy.edit(
        "params.yaml",
        ("  DDPMHalf: {image_size: 16", "  ThreeNoises: {objective: {noises: 3}}\n  DDPMHalf: {image_size: 16"),
    )
    copy.edit(
        "workflow/studies/table_4_4.yaml",
        ("columns: [train_time,", "  - model: ThreeNoises\ncolumns: [train_time,"),
    )
    assert_as_listed(copy, "an architecture's or objective's variant, and its row")

    found = copy.run(PLANS)
    assert "ThreeNoises" in found["paper"]["tables"]["table_4_4"]
    for preset, step in (("test", 6), ("paper", 150000)):
        runs = found[preset]["runs"]
        assert ["models", "ThreeNoises"] in runs
        assert ["samples", f"ThreeNoises_{step}"] in runs
        assert ["scores", f"ThreeNoises_{step}"] in runs


OWN_TABLE = """\
title: One block a level, or shorter
rows:
- model: [Default, DeepRes1]
  steps: [1/3, 1]
columns: [steps, parameters, scores]
claims:
- claim: two blocks are better
  comparisons:
  - [distance, "Default@1", "<", "DeepRes1@1"]
figures:
- {kind: scatter, name: blocks, x: [train_steps]}
"""


def test_a_table_with_claims_and_figures(copy):
    copy.write("workflow/studies/shorter.yaml", OWN_TABLE)
    assert_as_listed(copy, "a table, with claims and figures")

    plans = copy.run(PLANS)
    for found in plans.values():
        assert found["tables"]["shorter"] == ["Default@1/3", "Default@1", "DeepRes1@1/3", "DeepRes1@1"]
        assert found["columns"]["shorter"] == ["steps", "parameters", "scores"]
        assert found["claims"]["shorter"] == ["two blocks are better"]
        assert found["figures"]["blocks"] == "shorter"
    assert ["scores", "DeepRes1_2"] in plans["test"]["runs"]


STRATIFIED = '''\
class Stratified(Uniform):
    """As Uniform, but the i-th image of B takes its t from the i-th of B equal parts of 1..T."""

    def draw(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().draw((torch.arange(len(u), device=u.device) + u) / len(u))


# By the word'''

TRAINED = """
import json
import torch
from surrodiff.config import params
from surrodiff.kinds.registry import kind_of
from surrodiff.networks.unet import UNet
from surrodiff.planning.plan import build

loaded = params.load()
made = build(loaded)
run = next(run for run in made.runs.values() if (run.stage, run.name) == ("models", "Stratified"))
drawn, forward = [], UNet.forward

def recorded(network, x_t, t):
    drawn.append(t.tolist())
    return forward(network, x_t, t)

UNet.forward = recorded
images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)
cpu, execution = torch.device("cpu"), loaded.selected.execution
trainer = kind_of(run.config.model).trainer(run.config, images, torch.arange(32) % 10, cpu, execution)
losses = [float(trainer.step(step)["loss"]) for step in range(1, 5)]
print(json.dumps([drawn, losses]))
"""


def test_an_objective(copy, using):
    copy.edit(
        CODE + "diffusion/timesteps.py",
        ("# By the word", STRATIFIED),
        ('"lognormal": LogNormal.of}', '"lognormal": LogNormal.of, "stratified": Stratified.of}'),
    )
    words = 'timesteps: Literal["uniform", "importance"'
    copy.edit(CODE + "config/diffusion.py", (words, words + ', "stratified"'))
    assert_as_listed(copy, "an objective: how timesteps are drawn")

    model = {"objective": {"timesteps": "stratified"}}
    study = {"rows": [{"model": "Stratified"}], "columns": ["scores"]}
    drawn, losses = copy.run(TRAINED, using(study, models={"Stratified": model}))
    assert len(losses) == 4
    assert all(0 < loss < 10 for loss in losses)
    # Batches of 8 images, and T = 8: each image has a part, and with it a timestep, of its own.
    assert drawn == [list(range(1, 9))] * 4


MULTISTEP = '''\
class Multistep(Respaced):
    """A linear multistep method (Liu et al., 2022), without clipping."""

    draws_noise = False

    kind: Literal["multistep"]


Sampler = Ancestral'''

# Makes all runs of some stages and prints their records by name, with the images that each network was given meanwhile.
MADE = """
import json
from collections import Counter
from pathlib import Path
import torch
from surrodiff.config import params
from surrodiff.errors import UserError
from surrodiff.planning.plan import build
from surrodiff.stages import costs, registry
from surrodiff.stages.job import Job

loaded = params.load()
made, results = build(loaded), Path("results")
job = Job(results, torch.device("cpu"), loaded.selected.execution)
given, call = Counter(), torch.nn.Module.__call__

def counted(network, x, *others):
    given[type(network).__name__] += len(x)
    return call(network, x, *others)

torch.nn.Module.__call__ = counted
found = {}
for stage in ("data", "models", "samples", "timings"):
    for run_id in made.of_stage(stage):
        run = made.runs[run_id]
        if run.name == "classifier":
            continue
        given.clear()
        record = registry.make(run, job)
        found[f"{stage}/{run.name}"] = record | {"given": dict(given)}
"""
SAMPLED = (
    MADE
    + """
try:
    wrong = {"few": {"timesteps": [4, 1]}, "all": {"kind": "leaps"}, "heun": {"eta": 0.5}}
    params.load(changes={"samplers": wrong})
except UserError as error:
    found["mistakes"] = str(error).splitlines()
print(json.dumps(found))
"""
)


def test_a_sampler(copy, using):
    copy.edit(
        CODE + "config/samplers.py",
        ("Sampler = Ancestral", MULTISTEP.replace("= Ancestral", "= Multistep | Ancestral")),
    )
    copy.extend("sampling/multistep.py")
    copy.edit(
        CODE + "sampling/registry.py",
        ("import ancestral, ddim, dpm_solver, ode", "import ancestral, ddim, dpm_solver, multistep, ode"),
        ("PROCESSES = {\n", "PROCESSES = {\n    samplers.Multistep: multistep.process,\n"),
    )
    assert_as_listed(copy, "a sampler")

    rows = [
        {"model": "Default", "sampler": ["ancestral", "few"]},
        {"model": "Default", "sampler": "all", "evaluations": [0.25, 1]},
        {"surrogate": "DDPMHalf", "t_mid": 0.5, "sampler": "few"},
    ]
    own = {"few": {"kind": "multistep", "timesteps": [1, 4, 8]}, "all": {"kind": "multistep"}}
    found = copy.run(SAMPLED, using({"rows": rows, "columns": ["scores"]}, samplers=own))
    # T = 8. DDPMHalf goes to t = 4 in one step and estimates x_0 there; Default takes two steps more.
    expected = {"Default_6": 8, "Default_6_few": 3, "Default_6_all_2": 2, "Default_6_all": 8}
    for name, evaluations in (expected | {"DDPMHalf_t4_few": 1 + 1 + 2}).items():
        record = found[f"samples/{name}"]
        assert record["evaluations_per_sample"] == evaluations, name
        assert record["given"]["UNet"] == evaluations * record["num_samples"], name
    noise, timesteps, kind = found["mistakes"]
    assert "samplers.few.timesteps: must be from 1 and rising" in timesteps
    assert "samplers.all.kind: must be one of 'multistep', 'ancestral', " in kind
    assert "'heun', got 'leaps'" in kind
    assert "samplers.heun.eta: of samplers that draw noise, and heun solves an equation; remove it" in noise


AUTOENCODER = '''\
class Autoencoder(Averaged):
    """A linear variational autoencoder; `prior_weight` of the codes' squared distance from 0 beside the images' squared
    error."""

    kind: Literal["autoencoder"]
    image_size: Side
    z_dim: Width
    prior_weight: Rate

    def multiply_accumulates(self) -> int:
        return self.z_dim * self.image_size**2

    def training_bytes(self, channels: int) -> int:
        values = channels * self.image_size**2
        return 4 * values * (8 * self.z_dim + 3 * self.training.batch_size)


class ClassifierTraining(Block):'''

OWN = """
import json
from pathlib import Path
from surrodiff.config import params
from surrodiff.data.identity import identified
from surrodiff.planning.plan import build
from surrodiff.stages.job import Job
from surrodiff.stages.registry import make
import torch

loaded = identified(params.load())
made = build(loaded)
job = Job(Path("results"), torch.device("cpu"), loaded.selected.execution)
wanted = {("data", "digits"), ("models", "Default"), ("models", "Mine"), ("samples", "Mine_t4")}
records = {run.name: make(run, job) for run in made.runs.values() if (run.stage, run.name) in wanted}
print(json.dumps(records))
"""


def test_a_generator_of_ones_own(copy, using, root):
    copy.write("generators/mine.py", (root / "generators/energy.py").read_text())
    assert_as_listed(copy, "a generator of your own")

    training = {"steps": 4, "snapshot_every": 4, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 1}
    training |= {"grad_clip": 1.0, "ema_decay": 0.5, "horizontal_flip": False, "precision": "float32", "revision": 1}
    settings = {"z_dim": 4, "width": 16}
    file = str(copy.folder / "generators/mine.py")
    model = {"kind": "own", "file": file, "image_size": 32, "settings": settings, "training": training}
    params = using({"rows": [{"surrogate": "Mine", "t_mid": 0.5}], "columns": ["scores"]}, models={"Mine": model})
    for preset in ("demo", "test"):
        params["presets"][preset]["models"]["Mine"] = {"image_size": 8}
    found = copy.run(OWN, params)
    assert found["Mine"]["step"] == 4
    assert found["Mine_t4"]["evaluations_per_sample"] == 1 + 4


COSTED = (
    MADE
    + """
torch.nn.Module.__call__ = call
from surrodiff import cli
assert cli.main(["models"]) == 0
found["work"] = {}
for run in made.runs.values():
    if run.stage in ("models", "samples", "timings"):
        work = run.config.work(made.runs, None)
        found["work"][f"{run.stage}/{run.name}"] = [
            [unit.unit, unit.model.kind, count] for unit, count in work.items()
        ]
costed = costs.Costs(made, results)
found["unknown"] = [unit.text for unit in costed.unknown() if unit.unit != "score" and unit.model.kind != "classifier"]
found["rates"] = [unit.unit for unit in costed.rates if unit.unit != "score" and unit.model.kind == "autoencoder"]
print(json.dumps(found))
"""
)


def test_a_kind_of_surrogate(copy, using):
    copy.edit(
        CODE + "config/models.py",
        ("class ClassifierTraining(Block):", AUTOENCODER),
        ("Sampled = DDPM | SNGAN ", "Sampled = DDPM | SNGAN | Autoencoder "),
    )
    copy.extend("networks/autoencoder.py", "kinds/autoencoder.py")
    copy.edit(
        CODE + "kinds/registry.py",
        ("import DDPM, SNGAN,", "import DDPM, SNGAN, Autoencoder,"),
        ("import classifier, ddpm,", "import autoencoder, classifier, ddpm,"),
        ("KINDS = {DDPM: ddpm.KIND,", "KINDS = {DDPM: ddpm.KIND, Autoencoder: autoencoder.KIND,"),
    )
    assert_as_listed(copy, "a kind of surrogate")

    training = {"steps": 6, "snapshot_every": 2, "batch_size": 8, "learning_rate": 0.01}
    training |= {"warmup_steps": 1, "grad_clip": 1.0, "ema_decay": 0.5}
    training |= {"horizontal_flip": False, "precision": "float32", "revision": 1}
    model = {"kind": "autoencoder", "image_size": 32, "z_dim": 4, "prior_weight": 0.1, "training": training}
    rows = [{"surrogate": "Linear", "t_mid": [0, 0.5]}, {"model": "Linear", "steps": "1/3"}]
    params = using({"rows": rows, "columns": ["speed", "scores"]}, models={"Linear": model})
    for preset in ("demo", "test"):  # as of SNGAN
        params["presets"][preset]["models"]["Linear"] = {"image_size": 8}
    found = copy.run(COSTED, params)

    expected = {"Linear_t0": (1, 0), "Linear_t4": (1, 4), "Linear_t0_2": (1, 0)}
    for name, (decoded, denoised) in expected.items():
        record = found[f"samples/{name}"]
        assert record["evaluations_per_sample"] == decoded + denoised, name
        images = record["num_samples"]
        assert (record["given"]["LinearAutoencoder"], record["given"].get("UNet", 0)) == (
            decoded * images,
            denoised * images,
        )
    assert found["models/Linear"]["parameters"] == (4 + 1) * 64 + (64 + 1) * 4
    # 3 rounds, one of which warms up, of a step and of a sample for each of 16 images; and so of Default.
    times = found["timings/Linear"]["to_baseline"]
    assert all(0 < ratio < 1 for ratio in times.values()), times
    work = {name: {(unit, kind): count for unit, kind, count in units} for name, units in found["work"].items()}
    assert work["models/Linear"] == {("train_step", "autoencoder"): 6}
    assert work["samples/Linear_t4"] == {("evaluation", "autoencoder"): 64, ("evaluation", "ddpm"): 4 * 64}
    assert work["timings/Linear"] == {
        **{("train_step", kind): 3 for kind in ("autoencoder", "ddpm")},
        **{("evaluation", kind): 3 * 16 for kind in ("autoencoder", "ddpm")},
    }
    assert sorted(found["rates"]) == ["evaluation", "train_step"]
    assert found["unknown"] == []
