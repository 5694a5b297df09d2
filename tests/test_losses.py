"""The losses of one noise: L_vlb and L_hybrid against Improved DDPM's terms, the weightings against their formulas."""

import math

import pytest
import torch
from published import GaussianDiffusion
from torch.distributions import Normal

from surrodiff.config.diffusion import Diffusion, Objective
from surrodiff.diffusion.bound import bound_term
from surrodiff.diffusion.likelihood import variational_bound
from surrodiff.diffusion.losses import WEIGHTINGS, NoiseLosses
from surrodiff.diffusion.prediction import PREDICTIONS, Predicted, mean_and_sigma
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

SHAPE = (2, 4, 4)
DIFFUSIONS = {
    "linear8": {"T": 8, "beta_1": 0.01, "beta_T": 0.6},
    "linear1000": {"T": 1000, "beta_1": 1e-4, "beta_T": 0.02},
    "rescaled4000": {"T": 4000, "beta_1": 1e-4, "beta_T": 0.02, "rescaled_from": 1000},
    "cosine4000": {"T": 4000, "schedule": "cosine"},
    "sigmoid100": {"T": 100, "schedule": "sigmoid"},
    "karras60": {"T": 60, "schedule": "karras"},
}
SHORT = Diffusion(T=12, beta_1=0.02, beta_T=0.6)
OBJECTIVE = {
    "timesteps": "uniform",
    "extra_timestep_batches": 0,
    "noises": 1,
    "weights": "importance",
    "reduction": "mean",
}

of_each_schedule = pytest.mark.parametrize("diffusion", [Diffusion(**d) for d in DIFFUSIONS.values()], ids=DIFFUSIONS)
of_each_kind = pytest.mark.parametrize("kind", PREDICTIONS)
of_each_variance = pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned"])


def losses(schedule: Schedule, loss: str, weighting: str = "simple") -> NoiseLosses:
    return NoiseLosses(Objective(**OBJECTIVE, loss=loss, weighting=weighting), schedule)


def with_kind(diffusion: Diffusion, kind: str) -> Diffusion:
    return diffusion.model_copy(update={"prediction": kind})


def every_step(schedule: Schedule, dtype=torch.float64, error: float = 0.3) -> tuple[torch.Tensor, ...]:
    """8-bit images, black and white pixels among them, one for each t; their t, noise and predicted noise; and a second
    half of channels, from -1 to 1."""
    generator = torch.Generator().manual_seed(schedule.T)
    shape = (schedule.T, *SHAPE)
    x_0 = torch.randint(0, 256, shape, generator=generator) / 127.5 - 1
    x_0[:, :, 0], x_0[:, :, 1] = -1.0, 1.0
    eps, wrong = torch.randn(2, *shape, generator=generator).to(dtype)
    v = torch.rand(shape, generator=generator).to(dtype) * 2 - 1
    return x_0.to(dtype), torch.arange(1, schedule.T + 1), eps, eps + error * wrong, v


def said(schedule: Schedule, kind: str, x_t: torch.Tensor, t: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """The output of a network of a kind whose predicted noise is eps."""
    return PREDICTIONS[kind](schedule).target(schedule.predict_x0(x_t, t, eps), eps, t)


@of_each_schedule
@of_each_variance
@of_each_kind
def test_mean_variance_and_terms_are_those_of_improved_ddpm(diffusion, variance, kind):
    """At every t, the first and the last among them."""
    schedule, other = Schedule(diffusion, variance), GaussianDiffusion(diffusion.betas())
    x_0, t, eps, predicted_eps, v = every_step(schedule)
    x_t = other.q_sample(x_0, t - 1, eps)
    output = torch.cat([predicted_eps, v], 1)
    predicted = Predicted(PREDICTIONS[kind](schedule), said(schedule, kind, x_t, t, predicted_eps), v / 2 + 0.5, x_t, t)
    for clip_x0 in (False, True):
        mean, sigma = mean_and_sigma(schedule, predicted, clip_x0)
        expected, log_variance = other.p_mean_variance(output, x_t, t - 1, variance, clip_x0)
        assert torch.allclose(mean, expected, rtol=1e-8, atol=1e-9)
        assert torch.allclose(2 * torch.log(sigma).expand_as(log_variance), log_variance, rtol=1e-10, atol=1e-10)
        terms = bound_term(schedule, x_0, predicted, clip_x0)
        expected = other.vb_terms_bpd(output, x_0, x_t, t - 1, variance, clip_x0)
        assert torch.allclose(terms, expected, rtol=1e-6, atol=0)


@of_each_schedule
@of_each_variance
@pytest.mark.parametrize("loss", ["vlb", "hybrid"])
def test_the_terms_in_training_and_their_gradients_are_those_of_improved_ddpm(diffusion, variance, loss):
    """With float32 in and out, on T steps so short that float32 by itself would hold no digit of their terms."""
    schedule, other = Schedule(diffusion, variance), GaussianDiffusion(diffusion.betas())
    x_0, t, eps, predicted_eps, v = every_step(schedule, torch.float32)
    output = torch.cat([predicted_eps, v], 1).requires_grad_()
    found = losses(schedule, loss)(lambda x, t: output, x_0, t, eps[None])[0]
    found.sum().backward()
    x_t = schedule.q_sample(x_0, t, eps).double()
    exact = output.detach().double().requires_grad_()
    mean_part, variance_part = exact.chunk(2, 1)
    seen = exact if loss == "vlb" else torch.cat([mean_part.detach(), variance_part], 1)
    expected = other.vb_terms_bpd(seen, x_0.double(), x_t, t - 1, variance) * diffusion.T
    if loss == "hybrid":
        expected = expected / 1000 + ((eps.double() - mean_part) ** 2).flatten(1).mean(1)
    expected.sum().backward()
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=0)
    for half, exact_half in zip(output.grad.chunk(2, 1), exact.grad.chunk(2, 1), strict=True):
        off = (half.double() - exact_half).flatten(1).norm(dim=1)
        assert (off <= 1e-4 * exact_half.flatten(1).norm(dim=1)).all()


@of_each_schedule
@of_each_kind
def test_in_the_hybrid_loss_the_bound_moves_the_variance_alone(diffusion, kind):
    schedule = Schedule(with_kind(diffusion, kind), "learned")
    x_0, t, eps, predicted_eps, v = every_step(schedule, torch.float32)
    gradients = {}
    for loss in ("simple", "hybrid", "vlb"):
        output = torch.cat([predicted_eps, v], 1).requires_grad_()
        losses(schedule, loss)(lambda x, t, output=output: output, x_0, t, eps[None]).sum().backward()
        gradients[loss] = output.grad.chunk(2, 1)
    assert torch.equal(gradients["hybrid"][0], gradients["simple"][0])
    assert not gradients["simple"][1].any()
    assert torch.allclose(gradients["hybrid"][1], 0.001 * gradients["vlb"][1], rtol=1e-5)
    assert gradients["hybrid"][1].flatten(1).any(1).all()
    assert gradients["vlb"][0].flatten(1).any(1).all()


@of_each_schedule
@of_each_kind
@pytest.mark.parametrize("said_of_all", [None, 0.0, 1e4])
def test_the_gradient_is_finite_for_black_and_white_pixels(diffusion, kind, said_of_all):
    """Of a network that knows, of one that has just begun, and of one that is far off."""
    schedule = Schedule(with_kind(diffusion, kind), "learned")
    x_0, t, eps, predicted_eps, v = every_step(schedule, torch.float32)
    first = predicted_eps if said_of_all is None else torch.full_like(eps, said_of_all)
    for dtype in (torch.float32, torch.float64):
        output = torch.cat([first, v], 1).to(dtype).requires_grad_()
        x_t, half = schedule.q_sample(x_0, t, eps).to(dtype), len(SHAPE) - 1
        predicted = Predicted(PREDICTIONS[kind](schedule), output[:, :half], output[:, half:] / 2 + 0.5, x_t, t)
        terms = bound_term(schedule, x_0.to(dtype), predicted)
        terms.sum().backward()
        assert terms.isfinite().all()
        assert output.grad.isfinite().all()


@pytest.mark.parametrize("t", [1, 2, 7, 12])
@of_each_kind
def test_the_gradient_is_the_slope_of_the_term(t, kind):
    """By finite differences in float64; a black, a white and a grey pixel, and t = 1, the decoder."""
    schedule = Schedule(with_kind(SHORT, kind), "learned")
    x_0 = torch.tensor([-1.0, 1.0, 0.2, 253 / 127.5 - 1]).double().reshape(1, 1, 2, 2)
    eps, wrong = torch.randn(2, 1, 1, 2, 2, generator=torch.Generator().manual_seed(t)).double()
    x_t = schedule.q_sample(x_0, t, eps)
    first = said(schedule, kind, x_t, torch.tensor([t]), eps + 0.3 * wrong).requires_grad_()
    v = torch.full_like(first, 0.3).requires_grad_()

    def term(first, v):
        return bound_term(schedule, x_0, Predicted(PREDICTIONS[kind](schedule), first, v, x_t, t))

    assert torch.autograd.gradcheck(term, (first, v), eps=1e-6, atol=1e-6, rtol=1e-5)


def test_minimising_the_hybrid_loss_finds_the_best_variance_of_gaussian_images():
    """With the best mean, sigma_t^2 is best as the variance of q(x_{t-1} | x_t), of which v_t is known."""
    m, s, count = 0.1, 0.2, 40
    schedule = Schedule(SHORT, "learned")
    generator = torch.Generator().manual_seed(0)
    T, shape = SHORT.T, (SHORT.T * count, 1, 16, 16)
    x_0 = ((m + s * torch.randn(shape, generator=generator)).clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    eps = torch.randn(1, *shape, generator=generator)
    t = torch.arange(1, T + 1).repeat_interleave(count)
    v = torch.zeros(T, requires_grad=True)

    def denoiser(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        bar = schedule.alpha_bar[t].float()[:, None, None, None]
        best = (1 - bar).sqrt() * (x_t - bar.sqrt() * m) / (bar * s**2 + 1 - bar)
        return torch.cat([best, v[t - 1][:, None, None, None].expand_as(x_t)], 1)

    optimiser = torch.optim.LBFGS([v], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-12)

    def closure():
        optimiser.zero_grad()
        found = losses(schedule, "hybrid")(denoiser, x_0, t, eps)[0].double().mean() * 1e4
        found.backward()
        return found

    optimiser.step(closure)
    beta, bar = schedule.beta.tolist(), schedule.alpha_bar.tolist()
    for step in range(1, T + 1):
        before, after = (bar[i] * s**2 + 1 - bar[i] for i in (step - 1, step))
        small = beta[max(step, 2)] * (1 - bar[max(step, 2) - 1]) / (1 - bar[max(step, 2)])
        width = math.log(beta[step] / small)
        best = math.log(before * beta[step] / after / small) / width
        found = v[step - 1].item() / 2 + 0.5
        # Of log sigma^2 the best is known up to what so many pixels scatter.
        assert (found - best) * width == pytest.approx(0, abs=4 * (2 / (count * 256)) ** 0.5)
        if width > 0.1 and step > 1:
            assert found == pytest.approx(best, abs=0.1)


def snr(schedule: Schedule) -> torch.Tensor:
    """Of t = 1, ..., T."""
    return (schedule.alpha_bar / (1 - schedule.alpha_bar))[1:]


def weights(schedule: Schedule, weighting: str, kind: str) -> torch.Tensor:
    return WEIGHTINGS[weighting](schedule, PREDICTIONS[kind](schedule))[1:]


@of_each_schedule
def test_min_snr_weighs_as_published(diffusion):
    """Hang et al. (2023), section 3.4, with the least of SNR and 5."""
    schedule = Schedule(diffusion)
    ratio = snr(schedule)
    least = torch.minimum(ratio, torch.full_like(ratio, 5))
    expected = {"x0": least, "eps": least / ratio, "v": least / (ratio + 1)}
    for kind, weight in expected.items():
        assert torch.allclose(weights(schedule, "min_snr", kind), weight, rtol=1e-9)


@of_each_schedule
@pytest.mark.parametrize("weighting", ["min_snr", "vlb"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weighted_losses_mean_the_same_whatever_is_predicted(diffusion, weighting, prediction):
    """An error of the image weighs as much."""
    schedule = Schedule(with_kind(diffusion, prediction))
    x_0, t, eps, predicted_eps, _ = every_step(schedule)
    x_t = schedule.q_sample(x_0, t, eps)
    output = said(schedule, prediction, x_t, t, predicted_eps)
    found = losses(schedule, "simple", weighting)(lambda x, t: output, x_0.float(), t, eps[None].float())[0]
    error = ((x_0 - schedule.predict_x0(x_t, t, predicted_eps)) ** 2).flatten(1).mean(1)
    assert torch.allclose(found.double(), weights(schedule, weighting, "x0") * error, rtol=2e-3)


@of_each_schedule
def test_the_bounds_weight_of_an_image_is_half_the_change_of_the_snr(diffusion):
    schedule = Schedule(diffusion)
    expected = -snr(schedule).diff() / 2 * diffusion.T / math.log(2)
    # The difference of two ratios that are nearly equal.
    assert torch.allclose(weights(schedule, "vlb", "x0")[1:], expected, rtol=1e-6)


@of_each_schedule
@of_each_kind
def test_the_bounds_weighting_is_the_bound_with_the_small_variance(diffusion, kind):
    """From t = 2 on, where a term is a divergence of two normal distributions with one variance."""
    schedule = Schedule(with_kind(diffusion, kind), "fixed_small")
    x_0, t, eps, predicted_eps, _ = every_step(schedule)
    x_t = schedule.q_sample(x_0, t, eps)
    output = said(schedule, kind, x_t, t, predicted_eps)
    predicted = Predicted(PREDICTIONS[kind](schedule), output, None, x_t, t)
    error = ((PREDICTIONS[kind](schedule).target(x_0, eps, t) - output) ** 2).flatten(1).mean(1)
    terms = bound_term(schedule, x_0, predicted)[1:] * diffusion.T
    weighted = (weights(schedule, "vlb", kind) * error)[1:]
    assert torch.allclose(weighted, terms, rtol=1e-6)
    assert weighted.sum().item() / diffusion.T == pytest.approx(terms.mean().item() * (1 - 1 / diffusion.T), rel=1e-9)


@of_each_variance
@of_each_kind
def test_the_mean_over_t_of_what_training_sees_is_the_bound_that_is_reported(variance, kind):
    diffusion = with_kind(SHORT, kind)
    schedule = Schedule(diffusion, variance)
    x_0, index = every_step(schedule, torch.float32)[0], torch.arange(SHORT.T) + 3

    def denoiser(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.sin(2 * x_t), torch.cos(x_t)], 1)

    reported, v = variational_bound(ReverseProcess(denoiser, schedule, SHAPE, 5), x_0, index)
    seen = []
    for step in range(1, SHORT.T + 1):
        eps = noise.normal(5, Stream.BOUND, step, index, SHAPE)
        t = torch.full((len(index),), step)
        seen.append(losses(schedule, "vlb")(denoiser, x_0, t, eps[None])[0])
        x_t = PREDICTIONS[kind](schedule).given(schedule.q_sample(x_0, t, eps), t)
        assert torch.allclose(v[:, step - 1], (torch.cos(x_t).flatten(1).mean(1) / 2 + 0.5).double(), rtol=1e-5)
    assert torch.allclose(torch.stack(seen, 1).double() / SHORT.T, reported[:, 1:], rtol=1e-6)


def test_a_term_is_the_divergence_that_torch_knows():
    schedule = Schedule(SHORT, "learned")
    x_0, t, eps, predicted_eps, v = every_step(schedule)
    x_t = schedule.q_sample(x_0, t, eps)
    predicted = Predicted(PREDICTIONS["eps"](schedule), predicted_eps, v / 2 + 0.5, x_t, t)
    mean, sigma = mean_and_sigma(schedule, predicted)
    variance = schedule.posterior_variance[t].sqrt()[:, None, None, None]
    q = Normal(schedule.posterior_mean(x_0, x_t, t)[1:], variance[1:])
    expected = torch.distributions.kl_divergence(q, Normal(mean[1:], sigma[1:])).flatten(1).mean(1) / math.log(2)
    assert torch.allclose(bound_term(schedule, x_0, predicted)[1:], expected, rtol=1e-9)
