"""Trainings of the preset `test` with learned variances, other losses, predictions and schedules: they resume bit for
bit, learn, and end in networks that draw images and have a bound."""

import csv

import pytest
import torch
from configs import changed
from plans import plan_of
from test_params import DEFAULT, TEST, put
from test_trainers import CONFIGS, CPU, EXECUTION, pictures, snapshot

from surrodiff.config import samplers
from surrodiff.kinds.ddpm import DiffusionTrainer, process
from surrodiff.planning.measures import LikelihoodConfig
from surrodiff.planning.plan import Plan
from surrodiff.planning.runs import Run
from surrodiff.store import tensors

SHORT = {"T": 2, "beta_1": 0.1, "beta_T": 0.9}  # few timesteps, so that the history of each is full after a few steps
MODELS = {
    "hybrid": {"network": {"learned_variance": True}, "objective": {"loss": "hybrid"}},
    "vlb and importance": {
        "network": {"learned_variance": True},
        "objective": {"loss": "vlb", "timesteps": "importance", "extra_timestep_batches": 1},
        "diffusion": SHORT,
    },
    "v, min_snr and IWDiff": {
        "diffusion": {"prediction": "v"},
        "objective": {"weighting": "min_snr", "noises": 2, "reduction": "sum"},
    },
    "edm, karras and lognormal": {
        "diffusion": {"prediction": "edm", "schedule": "karras"},
        "objective": {"timesteps": "lognormal"},
    },
    "x0, cosine, vlb weighting and hybrid": {
        "network": {"learned_variance": True},
        "diffusion": {"prediction": "x0", "schedule": "cosine"},
        "objective": {"weighting": "vlb", "loss": "hybrid"},
    },
}
each_model = pytest.mark.parametrize("name", MODELS)


def trainer_of(name: str, micro_batch: int | None = None, images=None, **training) -> DiffusionTrainer:
    config = changed(CONFIGS["Default"], model={**MODELS[name], "training": {"batch_size": 16, **training}})
    execution = EXECUTION.model_copy(update={"micro_batch": micro_batch})
    return DiffusionTrainer(config, *(images or pictures(20)), CPU, execution)


@each_model
def test_a_training_resumed_from_a_file_ends_bit_identically(name, tmp_path):
    first, halt = trainer_of(name), 3
    for step in range(1, halt + 1):
        first.step(step)
        first.log(step)
    tensors.save(tmp_path / "checkpoint.safetensors", snapshot(first), step=str(halt))
    for step in range(halt + 1, 7):
        first.step(step)
        first.log(step)
    torch.manual_seed(987)
    second = trainer_of(name)
    second.load_state(tensors.load(tmp_path / "checkpoint.safetensors")[0])
    for step in range(halt + 1, 7):
        second.step(step)
    if name == "vlb and importance":
        assert (first.objective.sampler.counts >= 10).all()
        assert (first.objective.sampler.probabilities() - 0.5).abs().min() > 1e-3
    ends = [snapshot(trainer) for trainer in (first, second)]
    assert ends[0].keys() == ends[1].keys()
    for key, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][key]), key


@each_model
def test_training_lowers_the_loss_and_the_error_of_the_noise(name):
    """Of images of one colour each."""
    colours = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8) * 13
    trainer = trainer_of(name, images=(colours, torch.arange(20) % 3), learning_rate=0.003)
    losses, errors = [], []
    for step in range(1, 61):
        told = trainer.step(step)
        assert torch.stack(list(told.values())).isfinite().all()
        losses.append(told["loss"].item())
        errors.append(trainer.log(step)["loss_uniform_t"].item())
    assert sum(losses[-15:]) < 0.95 * sum(losses[:15])
    assert sum(errors[-15:]) < 0.95 * sum(errors[:15])


@each_model
def test_micro_batches_take_the_same_steps(name):
    whole, split = trainer_of(name), trainer_of(name, micro_batch=3)
    for step in (1, 2, 3):
        first, second = whole.step(step), split.step(step)
        assert torch.allclose(first["loss"], second["loss"], rtol=1e-3)
        assert torch.allclose(whole.log(step)["loss_uniform_t"], split.log(step)["loss_uniform_t"], rtol=1e-3)


def sampled(trainer: DiffusionTrainer, sampler: samplers.Sampler) -> torch.Tensor:
    config = CONFIGS["Default"].model_copy(update={"model": trainer.model})
    reverse = process(trainer.result, config, sampler, 3, CPU)
    index = torch.arange(5)
    return reverse.run(reverse.prior(index), index, trainer.model.diffusion.T)


@each_model
@pytest.mark.parametrize("timesteps", [None, 1, 2])
def test_what_was_trained_draws_finite_images(name, timesteps):
    trainer = trainer_of(name)
    for step in range(1, 7):
        trainer.step(step)
    learned = ["learned"] if trainer.model.network.learned_variance else []
    for variance in ["fixed_large", "fixed_small", *learned]:
        images = {}
        for clip_x0 in (False, True):
            sampler = samplers.Ancestral(kind="ancestral", variance=variance, clip_x0=clip_x0, timesteps=timesteps)
            images[clip_x0] = sampled(trainer, sampler)
            assert images[clip_x0].shape == (5, 1, 8, 8)
            assert images[clip_x0].isfinite().all()
        # The last step's mean is the predicted x_0.
        assert images[True].abs().max() <= 1 + 1e-6


@pytest.fixture
def plan_with(raw):
    """The plan in which Default is another model, whose samples have the variance that it has learned."""

    def plan_with(name: str) -> Plan:
        for block, values in MODELS[name].items():
            for key, value in values.items():
                put(raw, f"{DEFAULT}.{block}.{key}", value)
        put(raw, f"{TEST}.samplers.ancestral.variance", variance_of(name))
        raw["studies"] = {"table_4_1": raw["studies"]["table_4_1"]}
        return plan_of(raw)

    return plan_with


def variance_of(name: str) -> str:
    return "learned" if "network" in MODELS[name] else "fixed_small"


@each_model
@pytest.mark.parametrize("timesteps", [None, 1])
def test_the_workflow_makes_a_model_its_samples_and_its_bound(plan_with, results, make, tmp_path, name, timesteps):
    plan, folder = plan_with(name), tmp_path / "results" / "test"
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(results / "data")
    for stage in ("models", "samples"):
        run = next(run for run in plan.runs.values() if run.stage == stage and run.name.startswith("Default"))
        make(run, folder)
    model = run.config.model.model_dump()
    config = {
        **{"model": model, "data": plan.data, "num_images": 20, "variance": variance_of(name), "timesteps": timesteps},
        **{"clip_x0": False, "precision": "auto", "seed": 3, "revision": 1},
    }
    bound = Run("Default", LikelihoodConfig.model_validate(config))
    record = make(bound, folder)
    with open(folder / "likelihoods" / bound.id / "terms.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + (timesteps or record["T"])
    assert record["bits_per_dim"] == pytest.approx(sum(float(row["bits_per_dim"]) for row in rows), rel=1e-9)
    learned = variance_of(name) == "learned"
    assert all((row["v"] != "") == (learned and row["t"] != "0") for row in rows)
    if learned:
        # Training has only begun.
        assert all(abs(float(row["v"]) - 0.5) < 0.5 for row in rows[1:])
