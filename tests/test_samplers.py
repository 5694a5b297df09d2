"""Whole chains of every sampler beside those of diffusers, an independent implementation, on a network that is smooth
and not linear; and what samplers have in common."""

from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import DDIM, Ancestral, DPMSolver, Euler, Heun, UniPC
from surrodiff.diffusion.prediction import mean_and_sigma
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream
from surrodiff.sampling import registry
from surrodiff.sampling.low_resolution import LowResolutionDiffusion
from surrodiff.sampling.surrogate import SurrogateDiffusion
from surrodiff.sampling.whole import WholeProcess

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of diffusers and NumPy

T, SEED, SHAPE = 60, 5, (2, 4, 4)
INDEX = torch.arange(6)
LINEAR = {"T": T, "beta_1": 0.002, "beta_T": 0.2}
STEPS = [6 * k for k in range(1, 11)]  # diffusers' `trailing`
SINGLE, DOUBLE = torch.float32, torch.float64
# Of the largest pixel, if that is beyond 1. Found: 2e-5 (Heun's method in two steps: 1e-4), by diffusers' tables of
# float32 and its division by the signal; and 2e-14.
TOLERANCE = {SINGLE: 1e-4, DOUBLE: 1e-13}
WORDS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def network(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    share = (t / T).reshape(-1, 1, 1, 1)
    return share.sqrt() * x_t + 0.15 * torch.sin(2 * x_t + x_t.roll(1, -1) + 3 * share)


def with_variance(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """As network, and how the variance of a step lies between its ends."""
    return torch.cat([network(x_t, t), torch.cos(2 * x_t)], 1)


def process(settings, prediction: str = "eps", denoiser=network, **changes):
    diffusion = Diffusion(**{**LINEAR, **changes, "prediction": prediction})
    made_from = {"shape": SHAPE, "seed": SEED, "stream": Stream.REVERSE, "compiled": lambda function: function}
    return registry.process(settings, diffusion, None, denoiser=denoiser, **made_from)


def ours(settings, dtype=SINGLE, **how) -> torch.Tensor:
    made = process(settings, **how)
    return made.run(made.prior(INDEX).to(dtype), INDEX, T)


def scheduler_of(kind, settings, prediction: str, dtype, **how):
    """diffusers' scheduler at the timesteps of a sampler; in float64 its tables are replaced by exact ones."""
    schedule = process(settings, prediction).schedule
    betas = schedule.alpha_bar.new_tensor(Diffusion(**LINEAR).betas()).tolist()
    made = kind(T, trained_betas=betas, prediction_type=WORDS[prediction], **how)
    taken = [t - 1 for t in reversed(schedule.timesteps)]
    if kind in (DDIMScheduler, UniPCMultistepScheduler):  # which take no list
        made.set_timesteps(len(taken))
        assert made.timesteps.tolist() == taken
    else:
        made.set_timesteps(timesteps=taken)
    if dtype == DOUBLE:
        made.alphas_cumprod, made.one = schedule.alpha_bar[1:], torch.ones((), dtype=DOUBLE)
        if hasattr(made, "sigmas"):
            sigma = (schedule.noise / schedule.signal)[[t + 1 for t in taken]]
            if kind is HeunDiscreteScheduler:
                sigma = torch.cat([sigma[:1], sigma[1:].repeat_interleave(2)])
            made.sigmas = torch.cat([sigma, sigma.new_zeros(1)])
    return made


def theirs(kind, settings, prediction: str = "eps", dtype=SINGLE, scaled: bool = False, **how) -> torch.Tensor:
    """x_0 of diffusers; scaled: its x is x_t / signal."""
    made = scheduler_of(kind, settings, prediction, dtype, **how)
    own = process(settings, prediction)
    x = own.prior(INDEX).to(dtype)
    x = x / own.schedule.signal[T].to(dtype) if scaled else x
    for t in made.timesteps:
        x_t = made.scale_model_input(x, t)
        x = made.step(network(x_t, torch.full((len(x),), int(t) + 1)), t, x).prev_sample
    return x


def assert_same(found: torch.Tensor, expected: torch.Tensor, dtype):
    assert found.dtype == expected.dtype == dtype
    largest = expected.abs().max().item()
    assert largest > 0.1
    assert (found - expected).abs().max() <= TOLERANCE[dtype] * max(1, largest)


predictions = pytest.mark.parametrize("prediction", WORDS)
precisions = pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=["float32", "float64"])
clipping = pytest.mark.parametrize("clip", [False, True], ids=["", "clipped"])


@predictions
@precisions
@clipping
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_diffusers_with_the_same_noise(prediction, dtype, clip, eta):
    settings = DDIM(kind="ddim", eta=eta, clip_x0=clip, timesteps=STEPS)
    how = {"timestep_spacing": "trailing", "clip_sample": clip}
    made = scheduler_of(DDIMScheduler, settings, prediction, dtype, **how)
    made.final_alpha_cumprod = made.final_alpha_cumprod.to(dtype)
    x = process(settings).prior(INDEX).to(dtype)
    for t in made.timesteps.tolist():
        z = noise.normal(SEED, Stream.REVERSE, t + 1, INDEX, SHAPE).to(dtype)
        output = network(x, torch.full((len(x),), t + 1))
        x = made.step(output, t, x, eta=eta, use_clipped_model_output=True, variance_noise=z).prev_sample
    assert_same(ours(settings, dtype, prediction=prediction), x, dtype)


@predictions
@clipping
@pytest.mark.parametrize("timesteps", [STEPS, [1, 2, 9, 30, 31, 60], [60], [1, 60]], ids=["even", "any", "one", "two"])
def test_dpm_solver_is_diffusers_of_order_two(prediction, clip, timesteps):
    """In float32 alone, to which diffusers rounds before each step."""
    settings = DPMSolver(kind="dpm_solver", clip_x0=clip, timesteps=timesteps)
    how = {"algorithm_type": "dpmsolver++", "solver_order": 2, "lower_order_final": True, "final_sigmas_type": "zero"}
    # Thresholds of 1 alone are clipping.
    how |= {"thresholding": clip, "sample_max_value": 1.0}
    expected = theirs(DPMSolverMultistepScheduler, settings, prediction, **how)
    assert_same(ours(settings, prediction=prediction), expected, SINGLE)


@predictions
@precisions
@clipping
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_unipc_is_diffusers_of_order_two_with_its_corrector(prediction, dtype, clip, count):
    settings = UniPC(kind="unipc", clip_x0=clip, timesteps=[60 * k // count for k in range(1, count + 1)])
    how = {"solver_order": 2, "solver_type": "bh2", "timestep_spacing": "trailing", "final_sigmas_type": "zero"}
    how |= {"thresholding": clip, "sample_max_value": 1.0}
    expected = theirs(UniPCMultistepScheduler, settings, prediction, dtype, **how)
    assert_same(ours(settings, dtype, prediction=prediction), expected, dtype)


@predictions
@pytest.mark.parametrize("timesteps", [STEPS, [1, 2, 9, 30, 31, 60], [60]], ids=["even", "any", "one"])
def test_euler_s_method_is_diffusers(prediction, timesteps):
    """In float32 alone, which is the precision of its steps."""
    settings = Euler(kind="euler", clip_x0=False, timesteps=timesteps)
    expected = theirs(EulerDiscreteScheduler, settings, prediction, scaled=True)
    assert_same(ours(settings, prediction=prediction), expected, SINGLE)


@predictions
@precisions
@clipping
@pytest.mark.parametrize("timesteps", [STEPS, [1, 2, 9, 30, 31, 60], [60], [1, 60]], ids=["even", "any", "one", "two"])
def test_heun_s_method_is_diffusers(prediction, dtype, clip, timesteps):
    settings = Heun(kind="heun", clip_x0=clip, timesteps=timesteps)
    expected = theirs(HeunDiscreteScheduler, settings, prediction, dtype, scaled=True, clip_sample=clip)
    assert_same(ours(settings, dtype, prediction=prediction), expected, dtype)


@predictions
@precisions
@clipping
@pytest.mark.parametrize(
    ("variance", "name"), [("fixed_large",) * 2, ("fixed_small",) * 2, ("learned", "learned_range")]
)
@pytest.mark.parametrize("timesteps", [STEPS, [1, 2, 9, 30, 31, 60], None], ids=["even", "any", "all"])
def test_ancestral_sampling_of_a_respaced_chain_is_diffusers(prediction, dtype, clip, variance, name, timesteps):
    """Each of its steps draws its own noise, which is taken away here for ours."""
    settings = Ancestral(kind="ancestral", variance=variance, clip_x0=clip, timesteps=timesteps)
    made = scheduler_of(DDPMScheduler, settings, prediction, dtype, variance_type=name, clip_sample=clip)
    x = process(settings).prior(INDEX).to(dtype)
    made_from = process(settings).schedule.timesteps
    denoiser = with_variance if variance == "learned" else network
    for t in made.timesteps.tolist():
        output = denoiser(x, torch.full((len(x),), t + 1))
        x = made.step(output, t, x, generator=torch.Generator().manual_seed(t)).prev_sample
        if t > 0:  # else there is none
            v = output[:, SHAPE[0] :] if variance == "learned" else None
            found = made._get_variance(t, predicted_variance=v)
            sigma = torch.exp(found / 2) if variance == "learned" else found**0.5
            drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(t), dtype=dtype)
            z = noise.normal(SEED, Stream.REVERSE, t + 1, INDEX, SHAPE) * (t + 1 != made_from[0])
            x = x + sigma * (z - drawn)
    assert_same(ours(settings, dtype, prediction=prediction, denoiser=denoiser), x, dtype)


def ancestral(variance: str = "fixed_small", **how) -> Ancestral:
    return Ancestral(kind="ancestral", variance=variance, **{"clip_x0": False, **how})


@predictions
@precisions
@clipping
@pytest.mark.parametrize("timesteps", [STEPS, [1, 2, 9, 30, 31, 60], 1, None], ids=["even", "any", "one", "all"])
def test_ddim_with_eta_1_is_ancestral_sampling_with_a_fixed_small_variance(prediction, dtype, clip, timesteps):
    """With the same noise, so with the same mean and variance; but that the last step of neither has noise."""
    how = {"clip_x0": clip, "timesteps": timesteps}
    found = ours(DDIM(kind="ddim", eta=1.0, **how), dtype, prediction=prediction)
    assert_same(found, ours(ancestral(**how), dtype, prediction=prediction), dtype)


@pytest.mark.parametrize("t", STEPS)
@clipping
def test_a_step_of_ddim_with_eta_1_has_the_mean_and_the_variance_of_the_reverse_process(t, clip):
    how = {"clip_x0": clip, "timesteps": STEPS}
    made = process(DDIM(kind="ddim", eta=1.0, **how))
    x_t = made.prior(INDEX).double()
    mean, sigma = mean_and_sigma(process(ancestral(**how)).schedule, made.predict(x_t, t), clip)
    z = noise.normal(SEED, Stream.REVERSE, t, INDEX, SHAPE)
    assert torch.allclose(made.step(x_t, t, INDEX), mean + (t > STEPS[0]) * sigma * z, rtol=0, atol=1e-13)


@predictions
@precisions
@clipping
@pytest.mark.parametrize("timesteps", [STEPS, [1, 2, 9, 30, 31, 60], 1, None], ids=["even", "any", "one", "all"])
def test_euler_s_method_is_ddim_without_noise(prediction, dtype, clip, timesteps):
    how = {"clip_x0": clip, "timesteps": timesteps}
    found = ours(Euler(kind="euler", **how), dtype, prediction=prediction)
    assert torch.equal(found, ours(DDIM(kind="ddim", eta=0.0, **how), dtype, prediction=prediction))


def test_where_little_signal_is_left_euler_s_method_keeps_an_image_s_precision():
    """A cosine schedule leaves 1e-3 of x_0 in x_T, by which x_t may not be divided; two steps take it away."""
    how = {"schedule": "cosine", "prediction": "x0", "denoiser": lambda x_t, t: torch.sin(3 * x_t)}
    settings = Euler(kind="euler", clip_x0=True, timesteps=[1, T])
    assert process(settings, **how).schedule.signal[T] < 2e-3
    single, double = (ours(settings, dtype, **how) for dtype in (SINGLE, DOUBLE))
    assert (single - double).abs().max() < 2e-6


@predictions
@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
@clipping
def test_all_timesteps_by_their_number_or_their_list_are_the_plain_chain_bit_for_bit(prediction, variance, clip):
    schedule = Schedule(Diffusion(**LINEAR, prediction=prediction), variance)
    plain = ReverseProcess(network, schedule, SHAPE, SEED, clip_x0=clip)
    expected = plain.run(plain.prior(INDEX), INDEX, T)
    for timesteps in (None, T, list(range(1, T + 1))):
        for spacing in ("even", "quadratic", "log_snr"):
            settings = ancestral(variance, clip_x0=clip, timesteps=timesteps, spacing=spacing)
            assert torch.equal(ours(settings, prediction=prediction), expected)


@pytest.mark.parametrize("timesteps", [STEPS, None])
def test_ancestral_sampling_adds_the_variance_that_the_network_has_learned(timesteps):
    made = process(ancestral("learned", timesteps=timesteps), denoiser=with_variance)
    x_t = made.prior(INDEX)
    for t in made.schedule.timesteps[1:]:
        mean, sigma = mean_and_sigma(made.schedule, made.predict(x_t, t))
        assert sigma.std() > 0
        z = noise.normal(SEED, Stream.REVERSE, t, INDEX, SHAPE)
        assert torch.allclose(made.step(x_t, t, INDEX), mean + sigma * z, atol=1e-6)
        before = made.schedule.previous[t]
        beta = 1 - made.schedule.alpha_bar[t] / made.schedule.alpha_bar[before]
        share = (torch.cos(2 * x_t) + 1) / 2
        small = beta * (1 - made.schedule.alpha_bar[before]) / (1 - made.schedule.alpha_bar[t])
        assert torch.allclose(sigma.log() * 2, share * beta.log() + (1 - share) * small.log(), atol=1e-4)


@precisions
def test_a_chain_keeps_the_precision_that_it_begins_in(dtype):
    for settings in every():
        assert ours(settings, dtype, denoiser=with_variance).dtype == dtype


def every() -> list:
    """A sampler of each kind, of some timesteps."""
    how = {"clip_x0": False, "timesteps": [1, 4, 9, 20, 33, 60]}
    free = [DPMSolver(kind="dpm_solver", **how), UniPC(kind="unipc", **how)]
    free += [Euler(kind="euler", **how), Heun(kind="heun", **how)]
    drawing = [DDIM(kind="ddim", eta=0.5, **how), ancestral(**how), ancestral("learned", **how)]
    return [*drawing, DDIM(kind="ddim", eta=0.0, **how), *free]


class Constant:
    """A surrogate whose samples are one value everywhere."""

    hands_over_x_t = False

    def __call__(self, index, advance=lambda count: None):
        return torch.full((len(index), *SHAPE), 0.5)


def rows(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Of products and sums alone, which are the same for each row of any batch."""
    return torch.cat([0.9 * x_t - 0.1 * x_t * x_t.clamp(-1, 1), 0.5 * x_t], 1)


def in_parts(sampler, order: list[int], cuts: list[int]) -> torch.Tensor:
    """The images of all numbers, drawn in any order and in batches of any sizes."""
    parts = torch.tensor(order).tensor_split(sorted(cuts))
    images = torch.cat([sampler(part) for part in parts if len(part)])
    return images[torch.tensor(order).argsort()]


anyhow = given(order=st.permutations(range(10)), cuts=st.lists(st.integers(0, 10), max_size=4))


@pytest.mark.parametrize("settings", every(), ids=lambda one: one.kind)
@pytest.mark.parametrize("t_mid", [0, 1, 4, 33, 60])
@hypothesis.settings(max_examples=5)
@anyhow
def test_an_image_depends_on_the_seed_and_its_number_alone_from_any_start(settings, t_mid, order, cuts):
    reverse = process(settings, denoiser=rows)
    samplers = [SurrogateDiffusion(Constant(), t_mid, reverse)]
    samplers += [LowResolutionDiffusion(reverse, t_mid, 8, handover) for handover in ("x0", "x_t")]
    samplers += [WholeProcess(reverse)] if t_mid == T else []
    for sampler in samplers:
        assert torch.equal(in_parts(sampler, order, cuts), sampler(torch.arange(10)))


@pytest.mark.parametrize("settings", every(), ids=lambda one: one.kind)
@pytest.mark.parametrize("t_mid", [1, 4, 20, 60])
def test_each_sampler_ends_where_another_can_begin(settings, t_mid):
    """In two parts a chain of single steps is the same; those that remember steps begin anew."""
    made = process(settings, denoiser=with_variance)
    x_t = made.run(made.prior(INDEX), INDEX, T, t_mid)
    parts, whole = made.run(x_t, INDEX, t_mid), made.run(made.prior(INDEX), INDEX, T)
    if settings.kind in ("dpm_solver", "unipc"):
        assert (parts - whole).abs().max() < 1
    else:
        assert torch.equal(parts, whole)


def test_the_prior_is_the_same_for_all_samplers_and_timesteps():
    first, *others = [process(settings).prior(INDEX) for settings in [ancestral(), *every()]]
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("settings", every(), ids=lambda one: one.kind)
def test_another_seed_gives_other_images(settings):
    made = process(settings, denoiser=with_variance)
    other = replace(made, seed=SEED + 1)
    images, others = (one.run(one.prior(INDEX), INDEX, T) for one in (made, other))
    assert (images - others).abs().mean() > 0.05


@pytest.mark.parametrize("settings", every(), ids=lambda one: one.kind)
def test_no_step_begins_or_ends_where_none_is_taken(settings):
    made = process(settings)
    for t_start, t_stop in ((5, 0), (60, 5), (61, 0)):
        with pytest.raises(ValueError, match="no step begins or ends at t = "):
            made.run(made.prior(INDEX), INDEX, t_start, t_stop)
