"""What cannot be meant is refused before work begins: beyond the data, beyond any machine, or far beyond any use."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_params import DEFAULT, TEST, put, refusal

from surrodiff import networks
from surrodiff.config import memory, params
from surrodiff.config.models import DDPM
from surrodiff.kinds.registry import kind_of
from surrodiff.planning.plan import build

PAPER = "presets.paper"
COUNTS = [
    f"{DEFAULT}.training.batch_size",
    f"{DEFAULT}.objective.noises",
    f"{DEFAULT}.objective.extra_timestep_batches",
    f"{DEFAULT}.network.base_channels",
    f"{DEFAULT}.network.num_res_blocks",
    f"{DEFAULT}.diffusion.T",
    f"{DEFAULT}.training.steps",
    f"{DEFAULT}.training.warmup_steps",
    f"{DEFAULT}.training.revision",
    f"{TEST}.models.DeepRes1.network.num_res_blocks",
    f"{TEST}.models.SNGAN.z_dim",
    f"{TEST}.models.SNGAN.generator_channels",
    f"{TEST}.models.SNGAN.discriminator_channels",
    f"{TEST}.models.SNGAN.training.discriminator_steps",
    f"{TEST}.models.SNGAN.training.batch_size",
    f"{TEST}.data.image_size",
    f"{TEST}.data.revision",
    f"{TEST}.sampling.num_samples",
    f"{TEST}.scoring.is_splits",
    f"{TEST}.scoring.kid_subsets",
    f"{TEST}.scoring.kid_subset_size",
    f"{TEST}.scoring.neighbours",
    f"{TEST}.scoring.kept_features",
    f"{TEST}.scoring.classifier.channels",
    f"{TEST}.scoring.classifier.steps",
    f"{TEST}.scoring.classifier.batch_size",
    f"{TEST}.likelihood.num_images",
    f"{TEST}.timing.rounds",
    f"{TEST}.timing.train_steps",
    f"{TEST}.timing.sampling_steps",
    f"{TEST}.timing.batch_size",
    f"{TEST}.execution.threads",
    f"{TEST}.execution.gpus_per_job",
    f"{TEST}.execution.micro_batch",
    f"{TEST}.execution.sampling_batch",
    f"{TEST}.execution.checkpoint_every",
    f"{TEST}.execution.log_every",
]


@pytest.mark.parametrize("key", COUNTS)
def test_a_billion_of_anything_but_a_seed_is_refused(raw, key):
    put(raw, key, 10**9)
    assert refusal(raw).startswith(key)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (f"{DEFAULT}.training.batch_size", 1438, "1438 is more than the 1437 images to train on"),
        (f"{TEST}.models.SNGAN.training.batch_size", 1438, "1438 is more than the 1437 images to train on"),
        (f"{TEST}.scoring.classifier.batch_size", 1438, "1438 is more than the 1437 images to train on"),
        (f"{PAPER}.models.SNGAN.training.batch_size", 50001, "50001 is more than the 50000 images to train on"),
        (f"{TEST}.likelihood.num_images", 361, "too many for the 360 held-out images"),
        (f"{PAPER}.likelihood.num_images", 10001, "too many for the 10000 held-out images"),
        (f"{TEST}.scoring.kid_subset_size", 361, "too many for the 360 held-out images"),
        (f"{TEST}.scoring.neighbours", 360, "too many for the 360 held-out images"),
    ],
)
def test_more_images_than_the_data_has_are_refused_and_as_many_are_not(raw, key, value, says):
    put(raw, "presets.demo.models.SNGAN.training.batch_size", 64)  # not the paper's
    put(raw, key, value)
    message = refusal(raw)
    assert message.startswith(key)
    assert says in message
    put(raw, key, value - 1)
    params.parse(raw)


def test_an_image_folder_s_images_are_not_known(raw):
    raw["presets"]["test"]["data"].update(source="image_folder", path="somewhere")
    put(raw, f"{TEST}.likelihood.num_images", 100_000)
    put(raw, f"{DEFAULT}.training.batch_size", 4096)
    params.parse(raw)


@given(held_out=st.floats(0.003, 0.99))
def test_the_splits_of_the_digits_are_those_that_are_made(params, held_out):
    train, held = params.selected.data.model_copy(update={"held_out": held_out}).splits
    assert (train + held, held) == (1797, math.ceil(held_out * 1797))


@pytest.mark.parametrize("held_out", [0.001, 0.9999])
def test_a_split_too_small_to_score_is_refused(raw, held_out):
    put(raw, f"{TEST}.data.held_out", held_out)
    assert refusal(raw).startswith(f"{TEST}.data.held_out: {held_out} leaves ")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (f"{PAPER}.models.IWDiff.objective.noises", 1000, "models.IWDiff.training: a step takes more than"),
        (f"{PAPER}.models.Default.network.base_channels", 16_384, "models.Default.training: a step takes more than"),
        (f"{PAPER}.timing.batch_size", 1_000_000, "timing.batch_size: an evaluation takes more than"),
    ],
)
def test_what_no_machine_can_hold_is_refused(raw, key, value, says):
    put(raw, key, value)
    assert f"presets.paper.{says}" in refusal(raw)


def test_a_sampling_batch_that_no_machine_can_hold_is_refused(raw):
    put(raw, f"{PAPER}.sampling.num_samples", 1_000_000)
    put(raw, f"{PAPER}.execution.sampling_batch", 1_000_000)
    assert refusal(raw).startswith(f"{PAPER}.execution.sampling_batch: ")


def test_samples_and_images_that_no_machine_can_hold_are_refused(raw):
    put(raw, f"{TEST}.sampling.num_samples", 10_000_000)
    params.parse(raw)
    test = raw["presets"]["test"]
    for block in (test["data"], *(test["models"][name] for name in ("Default", "SNGAN", "VAE", "VAE1", "Flow"))):
        block["image_size"] = 512
    assert refusal(raw).startswith(f"{TEST}.sampling.num_samples: ")


def test_a_micro_batch_or_more_processes_make_a_large_step_possible(raw):
    put(raw, f"{PAPER}.models.IWDiff.objective.noises", 1000)
    for key, few, enough in (("micro_batch", 120_000, 1000), ("gpus_per_job", 1, 8)):
        put(raw, f"{PAPER}.execution.{key}", few)
        assert refusal(raw).startswith(f"{PAPER}.models.IWDiff.training: ")
        put(raw, f"{PAPER}.execution.{key}", enough)
        params.parse(raw)
        put(raw, f"{PAPER}.execution.micro_batch", None)


@pytest.mark.parametrize("preset", ["test", "demo", "paper"])
def test_the_estimate_is_a_lower_bound_of_what_weights_and_optimiser_take(root, preset):
    """Weights, gradient, average and Adam's two moments; one image's activations are little beside them."""
    loaded = params.load(root / "params.yaml", preset=preset)
    for run in build(loaded).runs.values():
        model = loaded.selected.models.get(run.name)
        if run.stage == "models" and isinstance(model, DDPM):
            with torch.device("meta"):
                weights = networks.trainable_parameters(kind_of(model).build(model, run.config.channels))
            of_one_image = memory.training_step(model, loaded.selected.data.channels, 1, 1)
            of_two_images = memory.training_step(model, loaded.selected.data.channels, 2, 1)
            assert (
                2 * of_one_image - of_two_images
                <= 5 * 4 * weights + 4 * model.training.batch_size * 3 * model.image_size**2
            )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (f"{DEFAULT}.diffusion", {"T": 8, "beta_1": 0.6, "beta_T": 0.01}, "beta_1: 0.6 is beyond beta_T = 0.01"),
        (f"{DEFAULT}.diffusion", {"T": 50_000, "beta_1": 0.01, "beta_T": 0.6}, "T: after 50000 steps x_T keeps less"),
        (f"{DEFAULT}.network.attention_levels", [1, 1], "1 is listed more than once"),
        (f"{DEFAULT}.network.channel_multipliers", [1] * 13, "at most 12"),
        (f"{DEFAULT}.training.learning_rate", 1.0e39, "1e+39"),
        (f"{DEFAULT}.training.learning_rate", 1.0e-300, "1e-300"),
        ("studies.table_4_5.rows.0.t_mid", [0, 0.5, 0], "0 is listed more than once"),
        ("studies.table_4_1.rows.0.steps", ["1/3", 1, "1/3"], "1/3 is listed more than once"),
        (f"{TEST}.seeds.training", [0, 0], "0 is listed more than once"),
        (f"{TEST}.seeds.calibration", [3, 4, 3], "3 is listed more than once"),
        ("studies.table_4_3.rows.0.model", ["Default", "Default"], "Default is listed more than once"),
        ("studies.table_4_5.rows.0.surrogate", ["SNGAN", "DDPMHalf", "SNGAN"], "SNGAN is listed more than once"),
        ("studies.table_4_1.rows.0.sampler", ["ancestral"] * 2, "ancestral is listed more than once"),
        ("studies.table_4_1.columns", ["scores", "T", "scores"], "scores is listed more than once"),
        (f"{TEST}.groups", ["paper", "paper"], "paper is listed more than once"),
        (f"{TEST}.seeds", {"training": [0], "sampling": list(range(999)), "calibration": []}, "at most 10,000"),
        (f"{TEST}.data.path", "a\0b", "a NUL character"),
        (f"{TEST}.data.path", "\ud800", "half of a character"),
    ],
)
def test_what_cannot_be_meant_is_refused(raw, key, value, says):
    put(raw, key, value)
    message = refusal(raw)
    assert message.startswith(key)
    assert says in message


@pytest.mark.parametrize("path", ["a b", "$(touch x)", "~/images", "a'b\"c", "\u00e9\n", "../x"])
def test_a_path_may_be_anything_that_a_path_may_be(raw, path):
    raw["presets"]["test"]["data"].update(source="image_folder", path=path)
    assert params.parse(raw).selected.data.path == path


def test_equal_betas_and_the_largest_float32_are_allowed(raw):
    put(raw, f"{DEFAULT}.diffusion", {"T": 8, "beta_1": 0.3, "beta_T": 0.3})
    put(raw, f"{DEFAULT}.training.learning_rate", 1.0e38)
    put(raw, f"{DEFAULT}.training.grad_clip", 1.0e12)
    params.parse(raw)
