"""The normalising flow: what makes its likelihoods exact, that they survive being stored, and that they improve."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.datasets import load_digits

from surrodiff.config import params as params_module
from surrodiff.data import pixels, sources
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import load_weights
from surrodiff.networks import trainable_parameters
from surrodiff.networks.flow import ALPHA, Flow
from surrodiff.planning import plan as plan_module
from surrodiff.planning.runs import ModelConfig
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Draws, Stream
from surrodiff.store import tensors

ROOT = Path(__file__).parents[1]
END = 128 / 127.5 / (1 - 2 * ALPHA)  # of what the logit reaches


def draws(number: int, count: int) -> Draws:
    return Draws(3, Stream.GENERATOR_LIKELIHOOD, number, torch.arange(count))


def levels_8bit(*shape: int, seed: int = 0) -> torch.Tensor:
    """Images in [-1, 1] of random 8-bit values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator) / 127.5 - 1


def digits(count: int) -> torch.Tensor:
    """Images (count, 1, 8, 8) in [-1, 1] of 8 bits; many of their pixels never change."""
    images = torch.tensor(load_digits().images[:count, None])
    return ((images / 16 * 255).round() / 127.5 - 1).float()


def scrambled(seed: int, *sizes: int) -> Flow:
    """A flow in float64 of which no layer is the identity, and none far from it."""
    torch.manual_seed(seed)
    network = Flow(*sizes).double()
    with torch.no_grad():
        for parameter in network.parameters():
            # Less than would make a rotation nearly singular.
            parameter.add_(0.3 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return network


SIZES = st.sampled_from([(2, 1, 1), (2, 3, 1), (4, 1, 2), (4, 3, 1), (6, 1, 1), (8, 1, 3), (8, 3, 2), (16, 3, 3)])


@settings(max_examples=15, deadline=None)
@given(sizes=SIZES, steps=st.integers(1, 4), hidden=st.integers(1, 9), seed=st.integers(0, 99))
def test_images_and_latents_are_each_others_inverse(sizes, steps, hidden, seed):
    size, channels, levels = sizes
    network = scrambled(seed, size, channels, levels, steps, hidden)
    assert network.z_dim == channels * size**2
    with torch.no_grad():
        images = 1.98 * torch.rand(3, channels, size, size, dtype=torch.float64) - 0.99
        z, _ = network.inverse(images)
        assert z.shape == (3, network.z_dim)
        assert torch.allclose(network(z), images, atol=1e-7)
        z = torch.randn(3, network.z_dim, dtype=torch.float64) / 2
        images = network(z)
        assert images.abs().max() < END + 1e-12
        inside = (images.abs() < 1 + ALPHA).flatten(1).all(1)  # else the logit has lost digits
        assert torch.allclose(network.inverse(images)[0][inside], z[inside], atol=1e-5)


@pytest.mark.parametrize("sizes", [(2, 1, 1, 1, 3), (2, 3, 1, 2, 4), (4, 1, 2, 2, 3), (4, 2, 1, 3, 2)])
def test_the_determinant_is_that_of_the_jacobian(sizes):
    network = scrambled(1, *sizes)
    images = 1.8 * torch.rand(3, sizes[1], sizes[0], sizes[0], dtype=torch.float64) - 0.9
    z, log_det = network.inverse(images)
    for image, latents, told in zip(images, z, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: network.inverse(x[None])[0][0], image)
        assert told.item() == pytest.approx(torch.linalg.slogdet(jacobian.flatten(1))[1].item(), abs=1e-9)
        back = torch.autograd.functional.jacobian(lambda z: network(z[None])[0], latents.detach())
        assert told.item() == pytest.approx(-torch.linalg.slogdet(back.flatten(0, 2))[1].item(), abs=1e-6)


def test_the_density_integrates_to_one():
    """Over all images of 2x2 pixels that the flow can make, by Gauss and Legendre's rule."""
    network = scrambled(0, 2, 1, 1, 2, 6)
    with torch.no_grad():
        nodes, weights = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(24))
        images = END * torch.cartesian_prod(*4 * [nodes]).reshape(-1, 1, 2, 2)
        volumes = (END * torch.cartesian_prod(*4 * [weights])).prod(1)
        total = (network.log_density(images).exp() * volumes).sum()
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_bits_per_dimension_of_a_known_distribution():
    """A new flow's 1x1 convolutions are rotations, so that each pixel's logit is a standard normal variable and the
    probability of each 8-bit value is known; many dequantisations come near it from above."""
    network, x_0 = Flow(4, 1, 1, 2, 4).double(), levels_8bit(50, 1, 4, 4).double()
    normal = torch.distributions.Normal(0.0, 1.0)

    def below(value: torch.Tensor) -> torch.Tensor:
        """The probability of a pixel below value / 256."""
        return normal.cdf(torch.logit(ALPHA + (1 - 2 * ALPHA) * value / 256))

    value = ((x_0 + 1) * 127.5).round()
    exact = (below(value + 1) - below(value)).log().flatten(1).sum(1)
    with torch.no_grad():
        one = network.log_likelihood(x_0, draws(0, 50))
        many = network.log_likelihood(x_0, draws(0, 50), samples=64)
        bits = network.loss(x_0, draws(0, 50)).item()
    assert bits == pytest.approx(-one.mean().item() / 16 / math.log(2), rel=1e-12)
    assert bits == pytest.approx(-exact.mean().item() / 16 / math.log(2), abs=2e-3)
    assert (many - exact).abs().mean() < (one - exact).abs().mean() / 3


def test_dequantisations_are_averaged_inside_the_logarithm():
    network, x_0 = scrambled(2, 4, 1, 1, 2, 4), levels_8bit(5, 1, 4, 4).double()
    with torch.no_grad():
        u = draws(0, 5).uniform(6, 1, 4, 4).double().unbind(1)
        singles = torch.stack([network.log_density(x_0 + (part - 0.5) / 127.5) for part in u]) - 16 * math.log(127.5)
        together = network.log_likelihood(x_0, draws(0, 5), samples=6)
    assert torch.allclose(together, singles.exp().mean(0).log(), atol=1e-9)
    assert (together > singles.mean(0)).all()
    assert not torch.allclose(singles[0], singles[1])  # each has its own noise


def test_likelihoods_depend_on_no_generator_of_torch():
    network, x_0 = scrambled(2, 4, 1, 1, 2, 4), levels_8bit(5, 1, 4, 4).double()
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        values.append(network.loss(x_0, draws(0, 5)).item())
    assert values[0] == values[1]
    assert values[0] != network.loss(x_0, draws(1, 5)).item()


@pytest.mark.parametrize("images", [digits(200), levels_8bit(40, 3, 32, 32)], ids=["digits", "colour"])
def test_a_first_batch_makes_latents_standard(images):
    """Also where most pixels never change: what dequantisation adds to them is all that varies."""
    torch.manual_seed(0)
    network = Flow(images.shape[-1], images.shape[1], 2, 3, 8)
    network.begin(images)
    dequantised = images + (torch.rand(images.shape) - 0.5) / 127.5
    with torch.no_grad():
        z, log_det = network.inverse(dequantised)
        assert z.isfinite().all()
        assert log_det.isfinite().all()
        assert z.mean().abs() < 0.1
        assert (z.std(0) - 1).abs().mean() < 0.1
        assert (network(z) - dequantised).abs().max() < 1e-3
        made = network(torch.randn(200, network.z_dim))
    assert made.isfinite().all()


def test_stored_and_copied_flows_have_the_same_values(tmp_path):
    """What a first batch set is in the weights: nothing is set again by the first batch after loading."""
    x_0 = digits(32)
    torch.manual_seed(0)
    network = Flow(8, 1, 2, 2, 8)
    network.begin(x_0)
    tensors.save(tmp_path / "weights.safetensors", network.state_dict())
    torch.manual_seed(1)
    loaded = Flow(8, 1, 2, 2, 8)
    loaded.load_state_dict(tensors.load(tmp_path / "weights.safetensors")[0])
    for other in (loaded, copy.deepcopy(network)):
        for images in (x_0[:3], digits(64)[32:]):
            expected = network.log_likelihood(images, draws(0, len(images)))
            assert torch.equal(other.log_likelihood(images, draws(0, len(images))), expected)
        z = torch.randn(5, 64)
        assert torch.equal(other(z), network(z))


def test_the_loss_falls_on_digits():
    torch.manual_seed(0)
    network, x_0 = Flow(8, 1, 2, 2, 16), digits(128)
    network.begin(x_0)
    adam = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for step in range(20):
        loss = network.loss(x_0, draws(step, len(x_0)))
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert losses[0] < 8  # of independent pixels, each uniform over 256 values
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("levels", 4, "image_size: 8 cannot be halved 4 times, once for each level"),
        ("levels", 0, "levels: "),
        ("training", {"precision": "bfloat16"}, "training.precision: a flow needs float32"),
    ],
)
def test_mistakes_are_told_with_their_key(raw, key, value, says):
    model = raw["presets"]["test"]["models"]["Flow"]
    model[key] = {**model[key], **value} if isinstance(value, dict) else value
    with pytest.raises(UserError) as error:
        params_module.parse(raw)
    (line,) = str(error.value).splitlines()
    assert "models.Flow" in line
    assert says in line


def test_a_missing_package_is_one_line_that_names_the_extra():
    code = """
import pathlib, sys
sys.modules["normflows"] = None
from surrodiff import errors
from surrodiff.config import params
from surrodiff.kinds.registry import kind_of
with errors.shown():
    model = params.load(pathlib.Path("params.yaml"), preset="test").selected.models["Flow"]
    kind_of(model).build(model, 1)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert "kind: flow needs the package normflows" in line
    assert "pip install 'surrodiff[flow]'" in line


def state(trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.state().items()}


@pytest.mark.parametrize("halt", [0, 3])
def test_a_resumed_training_ends_bit_identically(params, execution, cpu, halt):
    model = params.selected.models["Flow"]
    config = ModelConfig(model=model, channels=1, data="digits-01234567", seed=0)
    images = ((digits(32) + 1) * 127.5).round().to(torch.uint8)

    def trainer():
        return kind_of(model).trainer(config, images, torch.zeros(32, dtype=torch.int64), cpu, execution)

    first = trainer()
    for step in range(1, halt + 1):
        first.step(step)
    saved = state(first)
    torch.manual_seed(987)
    second = trainer()
    second.load_state(saved)
    for step in range(halt + 1, 7):
        first.step(step)
        torch.rand(3)
        second.step(step)
    ends = state(first), state(second)
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert not torch.equal(ends[0]["ema.levels.0.1.W"], saved["ema.levels.0.1.W"])


@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_its_arithmetic_and_parameters_are_counted(root, preset):
    """Of a coupling's convolutions by hand; the coarse count says at least a fifth."""
    params = params_module.load(root / "params.yaml", preset=preset)
    model, channels = params.selected.models["Flow"], params.selected.data.channels
    macs = parameters = 0
    c, side = channels, model.image_size
    for level in range(model.levels):
        c, side = 4 * c, side // 2
        network = 9 * (c // 2) * model.hidden_channels + model.hidden_channels**2 + 9 * model.hidden_channels * c
        macs += model.steps_per_level * side**2 * (network + c**2)
        parameters += model.steps_per_level * (network + 2 * model.hidden_channels + c + c**2 + 2 * c)
        c = c if level == model.levels - 1 else c // 2
    parameters += 2 * channels * model.image_size**2
    kind = kind_of(model)
    assert kind.macs_per_image(model, channels) == macs
    assert macs / 5 <= model.multiply_accumulates() <= macs
    with torch.device("meta"):
        assert trainable_parameters(kind.build(model, channels)) == parameters
    assert 20 * parameters / 3 < model.training_bytes(channels) < 10**10


def test_its_likelihood_stands_beside_the_diffusions_bound(raw, make, cpu, tmp_path):
    """Of a study's runs: the record says what the network says of the same images by as many dequantisations."""
    rows = [{"model": ["Default", "Flow"]}]
    raw["presets"]["paper"]["groups"] = []
    raw["studies"] = {"mine": {"title": "Mine", "rows": rows, "columns": ["likelihood"]}}
    plan = plan_module.build(params_module.parse(raw))
    for stage in ("data", "models", "likelihoods"):
        for run_id in plan.of_stage(stage):
            make(plan.runs[run_id], tmp_path)
    (run,) = (run for run in plan.runs.values() if (run.stage, run.name) == ("likelihoods", "Flow"))
    record = json.loads((tmp_path / "likelihoods" / run.id / "record.json").read_text())
    config = run.config
    network, _ = load_weights(tmp_path, config.model.run, config.model.step, cpu)
    held_out = sources.load(tmp_path, config.data)[0]["held_out_images"]
    order = noise.permutation(config.seed, Stream.BOUND, 0, len(held_out))[: config.num_images]
    x_0 = pixels.to_float(held_out[order])
    assert [bound["samples"] for bound in record["bounds"]] == [1, 64]
    for bound in record["bounds"]:
        many = Draws(77, Stream.GENERATOR_LIKELIHOOD, 0, order)
        nats = -network.log_likelihood(x_0, many, bound["samples"]).mean().item()
        assert bound["nats"] == pytest.approx(nats, rel=0.01)  # by other dequantisations
    assert record["bounds"][1]["nats"] < record["bounds"][0]["nats"]
    assert record["bits_per_dim"] == pytest.approx(record["nats"] / 64 / math.log(2))
