"""The forward process and its tables against an independent implementation and against Bayes' rule."""

import hypothesis.strategies as st
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings

from surrodiff.config.diffusion import Diffusion
from surrodiff.diffusion.schedule import Schedule

PAPER = [Diffusion(T=1000, beta_1=1e-4, beta_T=0.02), Diffusion(T=100, beta_1=4e-4, beta_T=0.18)]
VARIANCES = ["fixed_large", "fixed_small"]
SHAPE = (2, 3, 4, 4)

paper = pytest.mark.parametrize("diffusion", PAPER, ids=lambda d: f"T{d.T}")
either_variance = pytest.mark.parametrize("variance", VARIANCES)


def reference(diffusion: Diffusion, variance: str = "fixed_large", exact: bool = True) -> DDPMScheduler:
    """Its timesteps are 0, ..., T - 1: its t is our t + 1. `exact` widens its own float32 tables to float64."""
    other = DDPMScheduler(
        num_train_timesteps=diffusion.T,
        beta_start=diffusion.beta_1,
        beta_end=diffusion.beta_T,
        beta_schedule="linear",
        variance_type=variance,
        clip_sample=False,
        prediction_type="epsilon",
    )
    if exact:
        other.betas = torch.linspace(diffusion.beta_1, diffusion.beta_T, diffusion.T, dtype=torch.float64)
        other.alphas = 1 - other.betas
        other.alphas_cumprod = other.alphas.cumprod(0)
    return other


def images(seed: int, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(SHAPE, generator=generator, dtype=dtype) for _ in range(2))


def some_steps(T: int) -> list[int]:
    return [1, 2, 3, T // 4, T // 2, T - 1, T]


@paper
def test_betas_are_linear_from_the_first_step_to_the_last(diffusion):
    schedule, other = Schedule(diffusion), reference(diffusion, exact=False)
    assert schedule.beta.dtype == torch.float64
    assert schedule.beta[1].item() == diffusion.beta_1
    assert schedule.beta[-1].item() == pytest.approx(diffusion.beta_T, rel=1e-12)
    assert torch.allclose(schedule.beta[1:].diff(), schedule.beta[2] - schedule.beta[1], rtol=1e-9, atol=0)
    assert torch.allclose(schedule.beta[1:].float(), other.betas, rtol=1e-5, atol=0)
    assert torch.allclose(schedule.alpha_bar[1:].float(), other.alphas_cumprod, rtol=1e-4, atol=0)


@paper
@either_variance
def test_entry_zero_is_the_data(diffusion, variance):
    schedule = Schedule(diffusion, variance)
    x_0, eps = images(0)
    assert schedule.alpha_bar[0] == 1
    assert all(
        len(table) == diffusion.T + 1 for table in (schedule.beta, schedule.alpha_bar, schedule.sigma, schedule.noise)
    )
    assert torch.equal(schedule.q_sample(x_0, 0, eps), x_0)


@paper
def test_the_last_step_is_almost_pure_noise(diffusion):
    assert Schedule(diffusion).alpha_bar[-1] < 2e-4


@paper
def test_q_sample_agrees_with_the_reference(diffusion):
    schedule, other = Schedule(diffusion), reference(diffusion)
    x_0, eps = images(1, torch.float64)
    for t in some_steps(diffusion.T):
        steps = torch.full((len(x_0),), t)
        expected = other.add_noise(x_0, eps, steps - 1)
        assert torch.allclose(schedule.q_sample(x_0, steps, eps), expected, atol=1e-12)
        assert torch.equal(schedule.q_sample(x_0, t, eps), schedule.q_sample(x_0, steps, eps))
        single = schedule.q_sample(x_0.float(), steps, eps.float())
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), expected, atol=1e-5)


def test_each_sample_has_its_own_timestep():
    schedule = Schedule(PAPER[1])
    x_0, eps = images(2)
    together = schedule.q_sample(x_0, torch.tensor([3, 80]), eps)
    assert torch.equal(together[:1], schedule.q_sample(x_0[:1], 3, eps[:1]))
    assert torch.equal(together[1:], schedule.q_sample(x_0[1:], 80, eps[1:]))


@paper
@either_variance
def test_a_reverse_step_agrees_with_the_reference(diffusion, variance):
    schedule, other = Schedule(diffusion, variance), reference(diffusion, variance)
    x_t, eps = images(3, torch.float64)
    for t in some_steps(diffusion.T):
        expected = other.step(eps, t - 1, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
        mean = schedule.reverse_mean(x_t, t, eps)
        z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(t), dtype=torch.float64) if t > 1 else 0
        assert torch.allclose(mean + schedule.sigma[t] * z, expected, atol=1e-9)


@paper
def test_the_posterior_variance_agrees_with_the_reference(diffusion):
    schedule, other = Schedule(diffusion, "fixed_small"), reference(diffusion, "fixed_small")
    assert schedule.posterior_variance[1] == 0
    for t in some_steps(diffusion.T)[1:]:
        expected = other._get_variance(t - 1).item()
        assert schedule.posterior_variance[t].item() == pytest.approx(expected, rel=1e-9)
        assert schedule.sigma[t].item() ** 2 == pytest.approx(expected, rel=1e-9)


@paper
def test_the_posterior_follows_from_bayes_rule(diffusion):
    """q(x_{t-1} | x_t, x_0) is the product of q(x_{t-1} | x_0) and q(x_t | x_{t-1}), both Gaussian."""
    schedule = Schedule(diffusion)
    x_0, x_t = images(4, torch.float64)
    for t in some_steps(diffusion.T)[1:]:
        beta, alpha, previous = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t - 1]
        variance = 1 / (alpha / beta + 1 / (1 - previous))
        mean = variance * (alpha.sqrt() / beta * x_t + previous.sqrt() / (1 - previous) * x_0)
        assert schedule.posterior_variance[t].item() == pytest.approx(variance.item(), rel=1e-9)
        assert torch.allclose(schedule.posterior_mean(x_0, x_t, t), mean, rtol=1e-9, atol=1e-10)


@paper
def test_at_the_first_step_the_posterior_is_the_data(diffusion):
    x_0, x_1 = images(5, torch.float64)
    assert torch.allclose(Schedule(diffusion).posterior_mean(x_0, x_1, 1), x_0, atol=1e-12)


@paper
def test_sigma_of_the_first_step_is_the_posterior_one_of_the_second(diffusion):
    for variance in VARIANCES:
        schedule = Schedule(diffusion, variance)
        assert schedule.sigma[1] == schedule.posterior_variance[2].sqrt()
    assert torch.equal(Schedule(diffusion, "fixed_large").sigma[2:], Schedule(diffusion).beta[2:].sqrt())
    small = Schedule(diffusion, "fixed_small")
    assert torch.equal(small.sigma[2:], small.posterior_variance[2:].sqrt())
    assert (small.sigma[2:] < Schedule(diffusion).sigma[2:]).all()


schedules = st.builds(
    lambda T, first, last: Schedule(Diffusion(T=T, beta_1=min(first, last), beta_T=max(first, last))),
    st.integers(2, 50),
    st.floats(1e-5, 0.3),
    st.floats(1e-5, 0.3),
)


@settings(max_examples=50, deadline=None)
@given(schedule=schedules, seed=st.integers(0, 1000), data=st.data())
def test_predict_x0_inverts_q_sample(schedule, seed, data):
    t = torch.tensor(data.draw(st.lists(st.integers(1, schedule.T), min_size=SHAPE[0], max_size=SHAPE[0])))
    x_0, eps = images(seed, torch.float64)
    assert torch.allclose(schedule.predict_x0(schedule.q_sample(x_0, t, eps), t, eps), x_0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(schedule=schedules, seed=st.integers(0, 1000), data=st.data())
def test_both_forms_of_the_reverse_mean_are_one(schedule, seed, data):
    t = data.draw(st.integers(1, schedule.T))
    x_t, eps = images(seed, torch.float64)
    by_x0 = schedule.posterior_mean(schedule.predict_x0(x_t, t, eps), x_t, t)
    assert torch.allclose(schedule.reverse_mean(x_t, t, eps), by_x0, rtol=1e-8, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(schedule=schedules)
def test_tables_are_finite_and_noise_only_grows(schedule):
    for table in (schedule.sigma, schedule.posterior_x0, schedule.posterior_xt, schedule.reverse_eps):
        assert torch.isfinite(table).all()
    assert (schedule.noise.diff() > 0).all()
    assert torch.allclose(schedule.signal**2 + schedule.noise**2, torch.ones(schedule.T + 1, dtype=torch.float64))
