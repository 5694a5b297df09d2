"""Noise schedules against their publications, written out here, and another library's."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from denoising_diffusion_pytorch.denoising_diffusion_pytorch import cosine_beta_schedule, sigmoid_beta_schedule
from hypothesis import given

from surrodiff.config.diffusion import Diffusion
from surrodiff.diffusion.schedule import Schedule

ENDS = {"beta_1": 1e-4, "beta_T": 0.02}
OTHERS = ["cosine", "sigmoid", "karras"]

of_any_length = pytest.mark.parametrize("T", [2, 6, 60, 100, 1000, 4000])


def of(schedule: str, T: int, **changes) -> Diffusion:
    return Diffusion(T=T, schedule=schedule, **(ENDS if schedule == "linear" else {}), **changes)


def betas(diffusion: Diffusion) -> np.ndarray:
    return np.array(diffusion.betas())


def betas_for_alpha_bar(count: int, alpha_bar) -> np.ndarray:
    """As in Improved DDPM's code: steps between fractions of the whole time, at most 0.999."""
    return np.array([min(1 - alpha_bar((i + 1) / count) / alpha_bar(i / count), 0.999) for i in range(count)])


@of_any_length
def test_linear_betas_are_those_of_torch_to_their_last_digit_and_float32_sees_no_difference(T):
    """PyTorch multiplies and adds in one rounding where the processor can."""
    other = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    beta = torch.tensor(of("linear", T).betas(), dtype=torch.float64)
    assert torch.allclose(beta, other, rtol=2.3e-16, atol=0)
    alpha_bar, other_alpha_bar = (torch.cumprod(1 - betas, 0) for betas in (beta, other))
    assert torch.equal(alpha_bar.sqrt().float(), other_alpha_bar.sqrt().float())
    assert torch.equal((1 - alpha_bar).sqrt().float(), (1 - other_alpha_bar).sqrt().float())
    assert torch.equal(beta.sqrt().float(), other.sqrt().float())


@of_any_length
def test_rescaled_linear_betas_are_those_of_improved_ddpm(T):
    """Its code has no limit here, and betas beyond 1 where T is below 20."""
    published = np.linspace(1000 / T * 1e-4, 1000 / T * 0.02, T)
    assert np.allclose(betas(of("linear", T, rescaled_from=1000)), np.minimum(published, 0.999), rtol=1e-12, atol=0)


def test_a_linear_schedule_rescaled_to_its_own_length_is_itself():
    assert of("linear", 1000, rescaled_from=1000).betas() == of("linear", 1000).betas()


@pytest.mark.parametrize("T", [100, 400, 4000])
def test_rescaled_linear_schedules_end_in_about_the_same_noise(T):
    log_signal = [
        math.log(of("linear", length, rescaled_from=1000).signal_and_noise(length)[0]) for length in (T, 1000)
    ]
    assert log_signal[0] == pytest.approx(log_signal[1], rel=0.08)


@of_any_length
def test_cosine_betas_are_those_of_improved_ddpm(T):
    published = betas_for_alpha_bar(T, lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2)
    assert np.allclose(betas(of("cosine", T)), published, rtol=1e-12, atol=1e-15)
    assert betas(of("cosine", T))[-1] == 0.999


@of_any_length
def test_cosine_and_sigmoid_betas_are_those_of_denoising_diffusion_pytorch(T):
    assert np.allclose(betas(of("cosine", T)), cosine_beta_schedule(T).numpy(), rtol=1e-9, atol=1e-14)
    # It takes the sigmoid's ends in float32, and alpha_bar near them is their difference from its values.
    other = sigmoid_beta_schedule(T).numpy()
    assert np.allclose(betas(of("sigmoid", T)), other, rtol=1e-4, atol=1e-8)
    assert betas(of("sigmoid", T))[-1] == 0.999


@of_any_length
def test_sigmoid_alpha_bar_is_its_formula(T):
    sigmoid = torch.sigmoid(torch.tensor([-3.0, 3.0], dtype=torch.float64)).tolist()

    def alpha_bar(t: float) -> float:
        return (sigmoid[1] - torch.sigmoid(torch.tensor(6 * t - 3, dtype=torch.float64)).item()) / (
            sigmoid[1] - sigmoid[0]
        )

    assert np.allclose(betas(of("sigmoid", T)), betas_for_alpha_bar(T, alpha_bar), rtol=1e-9, atol=1e-13)


@of_any_length
def test_karras_sigmas_are_those_of_the_publication(T):
    """Equation 5 with its N = T; its sigma_0 is the largest."""
    i = np.arange(T)
    sigma = (80 ** (1 / 7) + i / (T - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    schedule = Schedule(of("karras", T))
    assert np.allclose((schedule.noise / schedule.signal)[1:].flip(0), sigma, rtol=1e-9, atol=0)


@of_any_length
@pytest.mark.parametrize("schedule", ["linear", *OTHERS])
def test_numbers_and_tables_tell_the_same_signal_and_noise(schedule, T):
    diffusion = of(schedule, T)
    tables = Schedule(diffusion)
    for t in {1, 2, T // 2, T - 1, T}:
        expected = (tables.signal[t].item(), tables.noise[t].item())
        assert diffusion.signal_and_noise(t) == pytest.approx(expected, rel=1e-9)


@of_any_length
@pytest.mark.parametrize("schedule", ["cosine", "sigmoid"])
def test_no_beta_exceeds_0_999_and_alpha_bar_is_never_0(schedule, T):
    tables = Schedule(of(schedule, T))
    assert tables.beta.max() == 0.999
    assert tables.alpha_bar.min() > 0


diffusions = st.builds(
    lambda schedule, T, rescaled_from: of(
        schedule, T, **({"rescaled_from": rescaled_from} if schedule == "linear" else {})
    ),
    st.sampled_from(["linear", *OTHERS]),
    st.integers(2, 1500),
    st.sampled_from([None, 50, 1000]),
)


@given(diffusion=diffusions)
def test_noise_grows_with_every_step_of_every_schedule(diffusion):
    schedule = Schedule(diffusion)
    assert (schedule.beta[1:] > 0).all()
    assert (schedule.beta[1:] < 1).all()
    assert (schedule.alpha_bar.diff() < 0).all()
    assert (schedule.noise.diff() >= 0).all()
    for table in (schedule.sigma, schedule.posterior_x0, schedule.posterior_xt, schedule.reverse_eps):
        assert table.isfinite().all()
    assert (schedule.log_small[1:] <= schedule.log_large[1:]).all()


@given(diffusion=diffusions)
def test_a_step_back_and_a_step_forth_end_where_they_began(diffusion):
    """The mean of q(x_{t-1} | x_t, x_0), averaged over q(x_t | x_0), is the mean of q(x_{t-1} | x_0); likewise for the
    variance."""
    schedule = Schedule(diffusion)
    mean = schedule.posterior_x0 + schedule.posterior_xt * schedule.signal
    variance = schedule.posterior_variance + (schedule.posterior_xt * schedule.noise) ** 2
    before = schedule.alpha_bar[schedule.previous]
    assert torch.allclose(mean[1:], before[1:].sqrt(), rtol=1e-9, atol=1e-12)
    assert torch.allclose(variance[1:], 1 - before[1:], rtol=1e-7, atol=1e-12)
