"""A training step with each loss, prediction, weighting and draw of timesteps: its gradient, loss and history against
formulas in float64 with constant weights; how log-normal timesteps are drawn."""

import copy
import math

import numpy as np
import pytest
import torch
from published import GaussianDiffusion
from scipy import stats
from torch import nn

from surrodiff.config.diffusion import Diffusion, Objective
from surrodiff.diffusion.objectives import ObjectiveGradient
from surrodiff.diffusion.schedule import Schedule
from surrodiff.diffusion.timesteps import TIMESTEPS
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

T, BATCH, SEED = 4, 7, 11
SHAPE = (2, 4, 4)
PIXELS = math.prod(SHAPE)
LINEAR = {"T": T, "beta_1": 0.02, "beta_T": 0.6}
KARRAS = {"T": T, "schedule": "karras"}
OBJECTIVE = {"timesteps": "uniform", "extra_timestep_batches": 0, "noises": 1, "weights": "importance"}

# loss, weighting and whether a variance is learned
LOSSES = [
    ("simple", "simple", False),
    ("simple", "min_snr", False),
    ("simple", "vlb", False),
    ("hybrid", "simple", True),
    ("hybrid", "min_snr", True),
    ("vlb", "simple", True),
    ("vlb", "simple", False),
]
each_loss = pytest.mark.parametrize(("loss", "weighting", "learned"), LOSSES)
each_kind = pytest.mark.parametrize("kind", ["eps", "x0", "v", "edm"])


class Network(nn.Module):
    """A small denoiser that sees t; its second half of channels says a variance where it is learned."""

    def __init__(self, learned: bool):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.temb = nn.Embedding(T + 1, 6)
        self.last = nn.Conv2d(6, 4 if learned else 2, 3, padding=1)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x_t) + self.temb(t)[:, :, None, None]))


def images() -> torch.Tensor:
    """8-bit, black and white pixels among them."""
    u = noise.uniform(1, Stream.ORDER, 0, torch.arange(BATCH), PIXELS).reshape(BATCH, *SHAPE)
    return ((u * 1.4 - 0.2).clamp(0, 1) * 255).round() / 127.5 - 1


def step_of(diffusion: dict, kind: str, learned: bool, **changes) -> ObjectiveGradient:
    schedule = Schedule(Diffusion(**diffusion, prediction=kind), "learned" if learned else "fixed_large")
    return ObjectiveGradient(Objective(**{**OBJECTIVE, "reduction": "mean", **changes}), schedule, SEED)


def gradient(step: ObjectiveGradient, learned: bool, number: int = 1, micro_batch: int | None = None):
    network = Network(learned)
    loss = step.accumulate(network, images(), number, micro_batch)["loss"]
    return torch.cat([p.grad.flatten() for p in network.parameters()]), loss


def column(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def written_losses(network: nn.Module, diffusion: Diffusion, loss: str, weighting: str, learned: bool, x_0, t, eps):
    """The losses (B,) of one noise of each image, and their errors of eps, by the publications' formulas in float64."""
    other = GaussianDiffusion(diffusion.betas())
    bar = column(other.alphas_cumprod[t - 1])
    a, s = bar.sqrt(), (1 - bar).sqrt()
    sigma, data = s / a, 0.5
    x_t = a * x_0 + s * eps
    seen = x_t / a / (sigma**2 + data**2).sqrt() if diffusion.prediction == "edm" else x_t
    output = network(seen, t)
    first, second = output.split(2, 1) if learned else (output, torch.zeros_like(output))
    match diffusion.prediction:
        case "eps":
            target, predicted_eps = eps, first
        case "x0":
            target, predicted_eps = x_0, (x_t - a * first) / s
        case "v":
            target, predicted_eps = a * eps - s * x_0, s * x_t + a * first
        case "edm":
            c_skip, c_out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2).sqrt()
            target = (x_0 - c_skip * x_t / a) / c_out
            predicted_eps = (x_t - a * (c_skip * x_t / a + c_out * first)) / s
    error = ((target - first) ** 2).flatten(1).mean(1)
    ratio = (bar / (1 - bar)).flatten()
    change = torch.cat([torch.full((1,), torch.nan), -(other.alphas_cumprod / (1 - other.alphas_cumprod)).diff()])
    # At t = 1 the variance is the posterior's at t = 2, and x_0 enters the mean as it is.
    change[0] = 1 / other.posterior_variance[1]
    weight = {
        "simple": torch.ones_like(ratio),
        "min_snr": ratio.clamp(max=5),
        "vlb": change.to(ratio)[t - 1] / 2 * T / math.log(2),
    }[weighting]
    if weighting != "simple":
        scale = {"x0": 1, "eps": 1 / ratio, "v": 1 / (ratio + 1), "edm": data**2 / ratio / (1 / ratio + data**2)}
        weight = weight * scale[diffusion.prediction]
    found = weight * error if loss != "vlb" else 0
    if loss != "simple":
        mean_part = predicted_eps.detach() if loss == "hybrid" else predicted_eps
        both, kind = torch.cat([mean_part, second], 1), "learned" if learned else "fixed_large"
        terms = other.vb_terms_bpd(both, x_0, x_t, t - 1, kind) * T
        found = found + terms * (0.001 if loss == "hybrid" else 1)
    return found, ((predicted_eps - eps) ** 2).flatten(1).mean(1)


def written(diffusion: Diffusion, loss: str, weighting: str, learned: bool, t, eps, of_noises, of_t):
    """The gradient of a step, its loss and each image's combined loss; of_noises: (k, B) losses to their weights."""
    network = copy.deepcopy(Network(learned)).double()
    rows = [
        written_losses(network, diffusion, loss, weighting, learned, images().double(), t, noises.double())[0]
        for noises in eps
    ]
    losses = torch.stack(rows)
    combined = (of_noises(losses.detach()) * losses).sum(0)
    value = (of_t * combined).mean()
    value.backward()
    flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return torch.cat([g.flatten() for g in flat]), value.item(), combined.detach()


def drawn(number: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform numbers and noises (k, B, ...) of a step."""
    u = noise.uniform(SEED, Stream.TIMESTEP, number, torch.arange(BATCH))[:, 0]
    eps = noise.normal(SEED, Stream.EPS, number, torch.arange(k * BATCH), SHAPE).reshape(k, BATCH, *SHAPE)
    return u, eps


def same(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-4) -> bool:
    return (found.double() - expected).norm() <= tolerance * expected.norm()


OF_NOISES = {
    ("importance", "mean"): lambda losses: torch.softmax(losses, 0),
    ("importance", "sum"): lambda losses: torch.softmax(losses * PIXELS, 0),
    ("uniform", "mean"): lambda losses: torch.full_like(losses, 1 / len(losses)),
}


# Of a network that has not learned to say x_0 the decoder at Karras's t = 1, with a deviation of 0.003, leaves a pixel
# too little mass to write down without logarithms.
CASES = [
    (*loss, kind, diffusion)
    for loss in LOSSES
    for kind in ("eps", "x0", "v", "edm")
    for diffusion in (LINEAR, KARRAS)
    if loss[0] == "simple" or (kind, diffusion) != ("x0", KARRAS)
]


@pytest.mark.parametrize(
    ("loss", "weighting", "learned", "kind", "diffusion"),
    CASES,
    ids=["-".join([*case[:2], case[3], case[4].get("schedule", "linear")] + ["learned"] * case[2]) for case in CASES],
)
@pytest.mark.parametrize(("weights", "reduction"), OF_NOISES)
def test_the_gradient_is_that_of_the_written_formula(loss, weighting, learned, kind, diffusion, weights, reduction):
    changes = {"loss": loss, "weighting": weighting, "weights": weights, "reduction": reduction, "noises": 2}
    step = step_of(diffusion, kind, learned, **changes)
    u, eps = drawn(5, 2)
    t = 1 + (u * T).long()
    grad, value = gradient(step, learned, number=5)
    formula = Diffusion(**diffusion, prediction=kind)
    expected, expected_value, _ = written(
        formula, loss, weighting, learned, t, eps, OF_NOISES[weights, reduction], torch.ones(BATCH).double()
    )
    assert not value.requires_grad
    # A weight of Algorithm 3's sums is the exponential of a loss, whose rounding it multiplies.
    tolerance = 0.02 if reduction == "sum" and diffusion is KARRAS else 5e-4
    assert value.item() == pytest.approx(expected_value, rel=tolerance)
    assert same(grad, expected, tolerance)


@each_loss
@each_kind
@pytest.mark.parametrize("k", [1, 2])
def test_micro_batches_leave_the_gradient_as_it_is(loss, weighting, learned, kind, k):
    changes = {"loss": loss, "weighting": weighting, "noises": k, "timesteps": "importance", "reduction": "sum"}
    whole, value = gradient(step_of(LINEAR, kind, learned, **changes), learned)
    for micro_batch in (1, 3, 4, 100):
        split, split_value = gradient(step_of(LINEAR, kind, learned, **changes), learned, micro_batch=micro_batch)
        assert split_value.item() == pytest.approx(value.item(), rel=1e-5)
        assert same(split, whole.double(), 1e-4)


def warm(step: ObjectiveGradient):
    for _ in range(10):
        step.sampler.update(torch.arange(1, T + 1), torch.arange(1, T + 1) / 3)


@each_loss
@pytest.mark.parametrize("k", [1, 2])
def test_importance_weighs_each_loss_by_its_probability_and_keeps_it_unweighted(loss, weighting, learned, k):
    step = step_of(LINEAR, "v", learned, loss=loss, weighting=weighting, noises=k, timesteps="importance")
    warm(step)
    p = step.sampler.probabilities().clone()
    u, eps = drawn(3, k)
    t = 1 + (u.double()[:, None] > p.cumsum(0)).sum(1)
    weight = 1 / (T * p[t - 1])
    before = step.sampler.history.clone()
    grad, value = gradient(step, learned, number=3)
    expected, expected_value, combined = written(
        Diffusion(**LINEAR, prediction="v"), loss, weighting, learned, t, eps, OF_NOISES["importance", "mean"], weight
    )
    assert value.item() == pytest.approx(expected_value, rel=1e-4)
    assert same(grad, expected)
    rings, old = (history[:-1].reshape(T, 10) for history in (step.sampler.history, before))
    for number in range(1, T + 1):
        kept = combined[t == number].float()
        assert torch.allclose(rings[number - 1, : len(kept)], kept, rtol=1e-4)
        assert torch.equal(rings[number - 1, len(kept) :], old[number - 1, len(kept) :])


@each_loss
def test_importance_leaves_the_expected_loss_as_it_is(loss, weighting, learned):
    """Over all of what a draw can be, each t with one noise."""
    step = step_of(LINEAR, "eps", learned, loss=loss, weighting=weighting, timesteps="importance")
    warm(step)
    draws = 100_000
    t, weight = step.sampler.draw((torch.arange(draws) + 0.5) / draws)
    x_0 = images()[:1].expand(T, -1, -1, -1)
    eps = noise.normal(SEED, Stream.EPS, 1, torch.arange(T), SHAPE)
    losses = step.losses(Network(learned), x_0, torch.arange(1, T + 1), eps[None])[0].detach()
    assert (weight.double() * losses[t - 1]).mean().item() == pytest.approx(losses.mean().item(), rel=1e-4)
    shares = torch.bincount(t, minlength=T + 1)[1:] / draws
    assert torch.allclose(shares.double(), step.sampler.probabilities(), atol=1e-4)
    assert not torch.allclose(shares, torch.full((T,), 1 / T), atol=0.05)


@each_loss
@each_kind
@pytest.mark.parametrize("diffusion", [LINEAR, KARRAS], ids=["linear", "karras"])
def test_the_logged_loss_is_the_error_of_the_noise_whatever_is_trained(loss, weighting, learned, kind, diffusion):
    index = torch.arange(BATCH)
    t = 1 + ((index + noise.uniform(SEED, Stream.LOG_TIMESTEP, 9, index)[:, 0]) / BATCH * T).long()
    eps = noise.normal(SEED, Stream.LOG_EPS, 9, index, SHAPE)
    network, formula = Network(learned).double(), Diffusion(**diffusion, prediction=kind)
    _, errors = written_losses(network, formula, loss, weighting, learned, images().double(), t, eps.double())
    step = step_of(diffusion, kind, learned, loss=loss, weighting=weighting)
    for micro_batch in (None, 2):
        found = step.uniform_loss(Network(learned), images(), 9, micro_batch)["loss_uniform_t"]
        assert found.item() == pytest.approx(errors.mean().item(), rel=1e-4)


@pytest.mark.parametrize(
    "diffusion", [Diffusion(T=1000, schedule="karras"), Diffusion(T=1000, schedule="cosine"), Diffusion(**LINEAR)]
)
def test_log_normal_timesteps_have_log_normal_noise(diffusion):
    """A timestep comes as often as a log-normal sigma is nearest to its own, in the logarithm."""
    schedule, draws = Schedule(diffusion), 200_000
    u = noise.uniform(3, Stream.TIMESTEP, 0, torch.arange(draws))[:, 0]
    t, weight = TIMESTEPS["lognormal"](schedule).draw(u)
    assert torch.equal(weight, torch.ones(draws))
    log_sigma = np.log(1 / schedule.alpha_bar[1:].numpy() - 1) / 2
    edges = np.concatenate([[-np.inf], (log_sigma[1:] + log_sigma[:-1]) / 2, [np.inf]])
    shares = np.diff(stats.norm.cdf(edges, -1.2, 1.2))
    counts = np.bincount(t.numpy(), minlength=diffusion.T + 1)
    assert counts[0] == 0
    likely = shares * draws > 10
    observed, expected = counts[1:][likely], shares[likely] * draws
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 0.01
    if diffusion.schedule == "karras":
        found = np.sort(log_sigma[t.numpy() - 1])
        assert stats.kstest(found, stats.norm(-1.2, 1.2).cdf).statistic < 0.01


def test_the_ends_of_the_log_normal_distribution_are_the_ends_of_the_schedule():
    for T in (2, 7, 1000):
        sampler = TIMESTEPS["lognormal"](Schedule(Diffusion(T=T, schedule="karras")))
        t, _ = sampler.draw(torch.tensor([0.5 * 2.0**-23, 1 - 2.0**-24]))
        assert t.tolist() == [1, T]
        assert sampler.state() == {}
