"""The autoencoder's bounds: a linear Gaussian one whose log p(x) is known, gradients by hand, all images enumerated."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from surrodiff.networks.vae import BIN, VAE, connected, convolutional, importance_weighted
from surrodiff.runtime.noise import Draws, Stream

SIDE, Z, SIGMA = 2, 3, 0.3
D = SIDE**2


def draws(count: int, number: int = 0) -> Draws:
    return Draws(7, Stream.GENERATOR_LOSS, number, torch.arange(count))


def linear(encoder: tuple[torch.Tensor, torch.Tensor, torch.Tensor], w: torch.Tensor, b: torch.Tensor) -> VAE:
    """x = W z + b + sigma eps, and a q(z | x) whose mean is A x + a and whose log standard deviation is fixed."""
    a_weight, a_bias, log_std = encoder
    down = nn.Linear(D, 2 * Z)
    down.weight.data = torch.cat([a_weight, torch.zeros(Z, D)])
    down.bias.data = torch.cat([a_bias, log_std])
    up = nn.Linear(Z, D)
    up.weight.data, up.bias.data = w, b
    shape = (1, SIDE, SIDE)
    network = VAE(nn.Sequential(nn.Flatten(), down), nn.Sequential(up, nn.Unflatten(1, shape)), Z, "gaussian")
    network.log_sigma.data.fill_(math.log(SIGMA))
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def system():
    """W with orthogonal columns, so that the true posterior has independent z; b; and the posterior's A, a, log std."""
    generator = torch.Generator().manual_seed(0)
    columns, _ = torch.linalg.qr(torch.randn(D, Z, generator=generator))
    w, b = columns * torch.tensor([1.0, 0.6, 0.3]), 0.1 * torch.randn(D, generator=generator)
    variance = 1 / (1 + w.square().sum(0) / SIGMA**2)
    a_weight = (variance / SIGMA**2)[:, None] * w.T
    return w, b, (a_weight, -a_weight @ b, variance.log() / 2)


@pytest.fixture(scope="module")
def images(system) -> torch.Tensor:
    w, b, _ = system
    generator = torch.Generator().manual_seed(1)
    z, eps = torch.randn(200, Z, generator=generator), torch.randn(200, D, generator=generator)
    return (z @ w.T + b + SIGMA * eps).reshape(-1, 1, SIDE, SIDE)


def log_p(system, x: torch.Tensor) -> torch.Tensor:
    w, b, _ = system
    return MultivariateNormal(b, w @ w.T + SIGMA**2 * torch.eye(D)).log_prob(x.flatten(1))


def drawn(network: VAE, x: torch.Tensor, k: int, repetitions: int) -> torch.Tensor:
    """So many independent draws of L_k of the density, (repetitions, B)."""
    eps = draws(len(x)).normal(k * repetitions, network.z_dim).transpose(0, 1)
    return importance_weighted(network.log_weights(x, network.posterior(x), eps).unflatten(0, (k, repetitions)))


@pytest.mark.parametrize("k", [1, 2, 10])
def test_with_the_true_posterior_every_bound_is_log_p(system, images, k):
    w, b, posterior = system
    network = linear(posterior, w, b)
    assert torch.allclose(drawn(network, images, k, 1)[0], log_p(system, images), atol=2e-4)


def worse(system, std: float = 1.5):
    w, b, (a_weight, a_bias, log_std) = system
    return linear((0.8 * a_weight, a_bias + 0.1, log_std + math.log(std)), w, b)


def test_one_code_gives_the_elbo_in_closed_form(system, images):
    """E_q log p(x | z) - KL(q || p), both Gaussian."""
    w, b, _ = system
    network = worse(system)
    mean, log_std = network.posterior(images)
    kl = torch.distributions.kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1)
    residual = (images.flatten(1) - mean @ w.T - b).square().sum(1) + (log_std.exp() ** 2) @ w.square().sum(0)
    elbo = -residual / 2 / SIGMA**2 - D * math.log(SIGMA * math.sqrt(2 * math.pi)) - kl
    found = drawn(network, images, 1, 4000)
    error = found.std(0) / 4000**0.5
    assert ((found.mean(0) - elbo).abs() < 5 * error).all()


def test_bounds_rise_with_the_codes_to_log_p_and_not_beyond(system, images):
    network, truth = worse(system), log_p(system, images)
    means = {k: drawn(network, images, k, 4000 // k).mean(0) for k in (1, 2, 3, 10, 100, 1000)}
    for low, high in itertools.pairwise(means.values()):
        rise = high - low
        assert rise.mean() > 4.5 * rise.std() / len(rise) ** 0.5 > 0
    gap = truth - means[1000]
    assert gap.mean().abs() < 0.01 * (truth - means[1]).mean()


def test_the_likelihood_of_8_bit_values_is_that_of_the_density_times_the_bin(system):
    """Of an 8-bit image, log P is at least the expected log density of its dequantised pixels plus D log(bin); with
    bins much narrower than sigma it is nearly that at the centre."""
    w, b, posterior = system
    values = torch.tensor([[100, 120, 140, 160], [127, 128, 129, 130]])
    x_0 = (values / 127.5 - 1).reshape(-1, 1, SIDE, SIDE)
    network = linear(posterior, w, b)
    found = network.bounds(x_0, draws(2), (50,))[:, 0]
    assert torch.allclose(found.float(), log_p(system, x_0) + D * math.log(2 / 255), atol=0.15)
    assert found.dtype == torch.float64
    dequantised = network.observed(x_0.expand(2, 1, SIDE, SIDE), draws(2))
    assert ((dequantised - x_0).abs() <= BIN / 2).all()


def small(likelihood: str, k: int = 1, repetitions: int = 1, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(*connected(SIDE, 1, 2, 5), 2, likelihood, k, repetitions)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_densities_are_those_of_torch_distributions(likelihood):
    torch.manual_seed(1)
    network = small(likelihood)
    decoded = torch.randn(4, 6, 1, SIDE, SIDE)
    x = torch.rand(6, 1, SIDE, SIDE)
    if likelihood == "bernoulli":
        x, distribution = x.round(), Bernoulli(logits=decoded)
    else:
        network.log_sigma.data.fill_(-0.7)
        distribution = Normal(decoded, math.exp(-0.7))
    assert torch.allclose(network.log_density(x, decoded), Independent(distribution, 3).log_prob(x), atol=1e-5)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize(("k", "repetitions"), [(1, 1), (1, 4), (5, 1), (5, 3)])
def test_gradients_of_the_bound_are_weighted_by_the_normalised_weights(likelihood, k, repetitions):
    """Equation 14, each log w_i = log p(z) + log p(x | z) - log q(z | x) by torch.distributions and differentiated
    alone."""
    network, count = small(likelihood, k, repetitions), 3
    x_0 = torch.tensor([[0, 255, 12, 200], [255, 255, 0, 0], [90, 17, 250, 33]]).reshape(3, 1, SIDE, SIDE) / 127.5 - 1
    weights = list(network.parameters())
    loss = network.loss(x_0, draws(count))
    found = torch.autograd.grad(loss, weights)

    same = draws(count)
    x, eps = network.observed(x_0, same), same.normal(k * repetitions, 2)
    expected, value = [torch.zeros_like(weight) for weight in weights], 0.0
    for image, repetition in itertools.product(range(count), range(repetitions)):
        # The codes of a bound are every `repetitions`-th.
        logs = []
        for i in range(k):
            mean, log_std = network.encoder(x[image : image + 1])[0].chunk(2)
            q = Normal(mean, log_std.exp())
            z = mean + log_std.exp() * eps[image, i * repetitions + repetition]
            decoded = network.decoder(z[None])[0]
            gaussian = likelihood == "gaussian"
            p_x = Normal(decoded, network.log_sigma.exp()) if gaussian else Bernoulli(logits=decoded)
            logs.append(p_x.log_prob(x[image]).sum() + Normal(0.0, 1.0).log_prob(z).sum() - q.log_prob(z).sum())
        normalised = torch.softmax(torch.stack(logs).detach(), 0)
        value -= torch.stack(logs).exp().mean().log().item() / count / repetitions
        for log_w, share in zip(logs, normalised, strict=True):
            for total, part in zip(expected, torch.autograd.grad(log_w, weights, retain_graph=True), strict=True):
                total -= share * part / count / repetitions
    log_bin = D * math.log(2 / 255) if likelihood == "gaussian" else 0
    assert loss.item() == pytest.approx(value - log_bin, rel=1e-4)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_probabilities_of_all_binary_images_sum_to_1():
    network = small("bernoulli", seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 1.5
        # A q wider than the prior: its weights vary little.
        network.encoder[-1].weight[2:] = 0
        network.encoder[-1].bias[2:] = 0.3
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=D))).reshape(-1, 1, SIDE, SIDE)
    found = network.bounds(every, draws(len(every)), (20_000,))[:, 0]
    assert found.exp().sum().item() == pytest.approx(1, abs=0.02)
    # By codes of the prior instead of the encoder's.
    z = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    logits = network.decoder(z).flatten(1)[:, None]
    prior = Bernoulli(logits=logits).log_prob((every.flatten(1) + 1) / 2).sum(-1).exp().mean(0)
    assert torch.allclose(found.exp().float(), prior, rtol=0.1, atol=2e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_bounds_do_not_depend_on_how_images_are_batched(likelihood):
    network = small(likelihood)
    x_0 = torch.linspace(-1, 1, 6 * D).reshape(6, 1, SIDE, SIDE)
    sizes = (1, 5, 230)
    whole = network.bounds(x_0, draws(6), sizes)
    assert whole.shape == (6, 3)
    parts = [
        network.bounds(x_0[rows], Draws(7, Stream.GENERATOR_LOSS, 0, rows), sizes)
        for rows in (torch.arange(2), torch.arange(2, 6))
    ]
    assert torch.allclose(torch.cat(parts), whole, rtol=1e-6)


def test_binary_pixels_are_drawn_anew_for_each_batch_with_their_intensities():
    network = small("bernoulli")
    x_0 = torch.linspace(-1, 1, D).reshape(1, 1, SIDE, SIDE).expand(4000, 1, SIDE, SIDE)
    first, second = (network.observed(x_0, draws(4000, number)) for number in (0, 1))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert torch.allclose(first.mean(0), (x_0[0] + 1) / 2, atol=0.04)


@pytest.mark.parametrize(("size", "channels"), [(4, 1), (6, 3), (8, 1), (28, 1), (32, 3)])
@pytest.mark.parametrize("layers", [connected, convolutional])
def test_codes_become_images_of_any_even_size(layers, size, channels):
    network = VAE(*layers(size, channels, 3, 4), 3, "bernoulli")
    images = network(torch.randn(2, 3))
    assert images.shape == (2, channels, size, size)
    assert images.abs().max() <= 1
    mean, log_std = network.posterior(images)
    assert mean.shape == log_std.shape == (2, 3)


def test_burdas_network_has_his_sizes():
    encoder, decoder = connected(28, 1, 50, 200)
    shapes = [
        [tuple(layer.weight.shape) for layer in part if isinstance(layer, nn.Linear)] for part in (encoder, decoder)
    ]
    assert shapes == [[(200, 784), (200, 200), (100, 200)], [(200, 50), (200, 200), (784, 200)]]
