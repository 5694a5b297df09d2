"""Respaced processes (section 2.2.2): tables against Improved DDPM's recomputation, the bound in closed form."""

import math
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from published import GaussianDiffusion, SpacedDiffusion
from test_likelihood import SEED, best, exact, gaussian_pixels
from torch.distributions import Normal, kl_divergence

from surrodiff.config.diffusion import Diffusion
from surrodiff.diffusion.bound import bound_term, decoder_nll
from surrodiff.diffusion.likelihood import variational_bound
from surrodiff.diffusion.prediction import PREDICTIONS, Predicted, mean_and_sigma
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule

LINEAR = Diffusion(T=100, beta_1=1e-3, beta_T=0.2)
DIFFUSIONS = [LINEAR, Diffusion(T=1000, schedule="cosine"), Diffusion(T=60, schedule="karras")]
VARIANCES = ["fixed_small", "fixed_large", "learned"]
# Of the tables of a step; the others are of x_t alone.
OF_STEPS = [
    *("beta", "alpha", "posterior_variance", "sigma", "posterior_x0", "posterior_xt"),
    *("reverse_scale", "reverse_eps", "log_small", "log_large"),
]
OF_X_T = ["alpha_bar", "signal", "noise"]

of_each_schedule = pytest.mark.parametrize("diffusion", DIFFUSIONS, ids=lambda d: f"{d.schedule}{d.T}")
of_each_variance = pytest.mark.parametrize("variance", VARIANCES)

some_timesteps = st.sets(st.integers(1, 60), min_size=1, max_size=60).map(lambda taken: tuple(sorted(taken)))


@of_each_schedule
@of_each_variance
def test_all_timesteps_are_the_plain_schedule_bit_for_bit(diffusion, variance):
    plain, given = Schedule(diffusion, variance), Schedule(diffusion, variance, timesteps=range(1, diffusion.T + 1))
    assert plain.timesteps == given.timesteps == tuple(range(1, diffusion.T + 1))
    tables = {name: value for name, value in vars(plain).items() if isinstance(value, torch.Tensor)}
    assert {*OF_STEPS, *OF_X_T, "draws", "previous"} == tables.keys()
    for name, table in tables.items():
        assert torch.equal(table, getattr(given, name)), name


@given(taken=some_timesteps, number=st.integers(0, len(DIFFUSIONS) - 1))
def test_a_steps_tables_are_those_of_betas_made_anew_from_alpha_bar(taken, number):
    diffusion = DIFFUSIONS[number]
    schedule = Schedule(diffusion, timesteps=taken)
    other = SpacedDiffusion([t - 1 for t in taken], diffusion.betas())
    found = list(taken)
    expected = {
        "beta": other.betas,
        "alpha": 1 - other.betas,
        "alpha_bar": other.alphas_cumprod,
        "posterior_variance": other.posterior_variance,
        "posterior_x0": other.posterior_mean_coef1,
        "posterior_xt": other.posterior_mean_coef2,
        "log_large": torch.log(other.betas),
    }
    for name, table in expected.items():
        # An alpha_bar near 1 loses digits of 1 - alpha_bar in either way to it.
        assert torch.allclose(getattr(schedule, name)[found], table, rtol=1e-7, atol=1e-12), name
    if len(taken) > 1:
        small = other.posterior_log_variance_clipped
        large = torch.log(torch.cat([other.posterior_variance[1:2], other.betas[1:]]))
        assert torch.allclose(schedule.log_small[found], small, rtol=1e-7)
        assert torch.allclose(schedule.sigma[found], (large / 2).exp(), rtol=1e-7)
    assert schedule.previous[found].tolist() == [0, *taken[:-1]]
    assert schedule.draws[found].tolist() == [0] + [1] * (len(taken) - 1)


@given(taken=some_timesteps, number=st.integers(0, len(DIFFUSIONS) - 1), variance=st.sampled_from(VARIANCES))
def test_steps_from_timesteps_that_are_not_taken_have_no_numbers(taken, number, variance):
    diffusion = DIFFUSIONS[number]
    schedule, plain = Schedule(diffusion, variance, timesteps=taken), Schedule(diffusion, variance)
    others = sorted({*range(1, diffusion.T + 1)} - {*taken})
    for name in OF_STEPS:
        assert getattr(schedule, name)[others].isnan().all(), name
        assert not getattr(schedule, name)[list(taken)].isnan().any(), name
    # But x_t is what it was.
    for name in OF_X_T:
        assert torch.equal(getattr(schedule, name), getattr(plain, name)), name


@given(taken=some_timesteps, variance=st.sampled_from(VARIANCES))
def test_a_steps_mean_and_deviation_are_finite_and_lead_from_one_marginal_to_the_next(taken, variance):
    """With the true x_0 the steps' mean and the posterior's variance keep q(x_t | x_0)."""
    schedule = Schedule(LINEAR, variance, timesteps=taken)
    for before, t in pairwise((0, *taken)):
        kept = (schedule.posterior_xt[t] * schedule.noise[t]) ** 2 + schedule.posterior_variance[t]
        signal = schedule.posterior_x0[t] + schedule.posterior_xt[t] * schedule.signal[t]
        assert signal.item() == pytest.approx(schedule.signal[before].item(), rel=1e-9)
        assert kept.item() == pytest.approx(schedule.noise[before].item() ** 2, rel=1e-9, abs=1e-12)
        assert schedule.sigma[t] > 0


@of_each_schedule
def test_one_timestep_alone_leads_straight_to_the_image(diffusion):
    for t in (1, diffusion.T // 2, diffusion.T):
        for variance in VARIANCES:
            schedule = Schedule(diffusion, variance, timesteps=[t])
            assert schedule.beta[t].item() == pytest.approx(1 - schedule.alpha_bar[t].item(), rel=1e-12)
            assert (schedule.posterior_x0[t].item(), schedule.posterior_xt[t].item()) == pytest.approx((1, 0))
            assert schedule.sigma[t].item() == pytest.approx(schedule.noise[t].item(), rel=1e-9)
            assert schedule.draws[t] == 0


@pytest.mark.parametrize("taken", [(1, 5, 20, 100), (30, 60), (100,)])
@of_each_variance
def test_the_terms_of_a_respaced_process_are_those_of_improved_ddpm(taken, variance):
    diffusion = LINEAR
    schedule = Schedule(diffusion, variance, timesteps=taken)
    generator = torch.Generator().manual_seed(0)
    shape, t = (len(taken), 3, 4, 4), torch.tensor(taken)
    x_0 = (torch.randint(0, 256, shape, generator=generator) / 127.5 - 1).double()
    eps, wrong, v = (torch.randn(shape, generator=generator).double() for _ in range(3))
    output = torch.cat([eps + 0.2 * wrong, v.tanh()], 1)
    x_t = schedule.q_sample(x_0, t, eps)
    predicted = Predicted(PREDICTIONS["eps"](schedule), output[:, :3], output[:, 3:] / 2 + 0.5, x_t, t)
    found = bound_term(schedule, x_0, predicted)
    if len(taken) == 1:
        # The published code has no second timestep whose variance would stand for the first's 0.
        mean, sigma = mean_and_sigma(schedule, predicted)
        assert torch.allclose(mean, schedule.predict_x0(x_t, t, output[:, :3]), rtol=1e-9, atol=1e-12)
        expected = decoder_nll(x_0, mean, sigma).flatten(1).mean(1) / math.log(2)
    else:
        other, i = SpacedDiffusion([t - 1 for t in taken], diffusion.betas()), torch.arange(len(taken))
        expected = other.vb_terms_bpd(output, x_0, x_t, i, variance)
    assert torch.allclose(found, expected, rtol=1e-6)


def test_steps_begin_and_end_at_timesteps_that_are_taken():
    schedule = Schedule(LINEAR, timesteps=[1, 5, 20, 60])
    assert schedule.steps(60) == schedule.steps(100) == (60, 20, 5, 1)
    assert schedule.steps(20) == (20, 5, 1)
    assert schedule.steps(60, 5) == (60, 20)
    assert schedule.steps(5, 5) == ()
    assert schedule.steps(0) == ()
    for t_start, t_stop in ((30, 0), (99, 0), (60, 2), (2, 0), (101, 0), (-1, 0)):
        with pytest.raises(ValueError, match=r"no step begins or ends at t = "):
            schedule.steps(t_start, t_stop)


@pytest.mark.parametrize("taken", [None, (1, 2, 5, 20, 60, 100), tuple(range(5, 101, 5)), (100,)])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_bound_of_the_best_denoiser_has_its_closed_form_on_any_timesteps(taken, variance):
    """It exceeds -log p(x_0) by how far each step's variance is from that of q(x_{previous} | x_t)."""
    m, s, count = 0.1, 0.2, 1000
    schedule = Schedule(LINEAR, variance, timesteps=taken)
    reverse = ReverseProcess(best(schedule, m, s), schedule, (1, 8, 8), SEED)
    x_0 = gaussian_pixels(count, m, s)
    terms, v = variational_bound(reverse, x_0, torch.arange(count))
    steps = schedule.timesteps
    assert terms.shape == (count, len(steps) + 1)
    assert v.shape == (count, len(steps))
    assert v.isnan().all()
    truth = decoder_nll(x_0.double(), exact(m), exact(s)).flatten(1).mean(1) / math.log(2)
    bar = schedule.alpha_bar.tolist()
    last = bar[steps[-1]]
    lost = kl_divergence(
        Normal(exact(last**0.5 * m), exact(last * s**2 + 1 - last).sqrt()), Normal(exact(0), exact(1))
    ).item()
    for before, t in pairwise((0, *steps)):
        # x_{before} and x_t are jointly Gaussian.
        variances = [bar[i] * s**2 + 1 - bar[i] for i in (before, t)]
        ratio = variances[0] * schedule.beta[t].item() / variances[1] / schedule.sigma[t].item() ** 2
        lost += (ratio - 1 - math.log(ratio)) / 2
    exceeds = terms.sum(1) - truth
    # The last step's normal distribution is a density for the pixels, which have 256 values.
    scatter = exceeds.std().item() / count**0.5
    assert exceeds.mean().item() == pytest.approx(lost / math.log(2), abs=4 * scatter + 0.005)
    assert scatter < 0.02


def test_the_best_learned_variance_loses_nothing_on_any_timesteps():
    """Its v is where the variance of q(x_{previous} | x_t) lies; the bound is -log p(x_0) but for the prior."""
    m, s, count = 0.1, 0.2, 400
    x_0 = gaussian_pixels(count, m, s)
    truth = (decoder_nll(x_0.double(), exact(m), exact(s)).mean() / math.log(2)).item()
    for taken in (None, (1, 2, 5, 20, 60, 100), tuple(range(5, 101, 5))):
        schedule = Schedule(LINEAR, "learned", timesteps=taken)
        bar, steps = schedule.alpha_bar, (0, *schedule.timesteps)
        told = {}
        for before, t in pairwise(steps):
            variances = [bar[i] * s**2 + 1 - bar[i] for i in (before, t)]
            log_best = torch.log(variances[0] * schedule.beta[t] / variances[1])
            told[t] = ((log_best - schedule.log_small[t]) / (schedule.log_large[t] - schedule.log_small[t])).item()

        def denoiser(x_t: torch.Tensor, t: torch.Tensor, schedule=schedule, told=told) -> torch.Tensor:
            v = torch.full_like(x_t, told[t[0].item()])
            return torch.cat([best(schedule, m, s)(x_t, t), 2 * v - 1], 1)

        terms, v = variational_bound(ReverseProcess(denoiser, schedule, (1, 8, 8), SEED), x_0, torch.arange(count))
        prior = terms[:, 0].mean().item()
        assert terms.sum(1).mean().item() - prior == pytest.approx(truth, abs=0.01)
        assert torch.allclose(v.mean(0), torch.tensor([told[t] for t in steps[1:]]).double(), rtol=1e-5)


def test_the_published_processes_of_this_file_agree_where_all_timesteps_are_taken():
    betas = LINEAR.betas()
    spaced, plain = SpacedDiffusion(range(LINEAR.T), betas), GaussianDiffusion(betas)
    assert torch.allclose(spaced.posterior_log_variance_clipped, plain.posterior_log_variance_clipped, rtol=1e-9)
