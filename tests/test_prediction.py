"""What a network's output says: targets and predictions against each other, diffusers, and EDM's formulas."""

import hypothesis.strategies as st
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given

from surrodiff.config.diffusion import Diffusion
from surrodiff.diffusion.prediction import PREDICTIONS, Predicted, mean_and_sigma, predict
from surrodiff.diffusion.schedule import Schedule

SHAPE = (3, 4, 4)
DIFFUSIONS = [
    Diffusion(T=1000, beta_1=1e-4, beta_T=0.02),
    Diffusion(T=4000, schedule="cosine"),
    Diffusion(T=100, schedule="sigmoid"),
    Diffusion(T=60, schedule="karras"),
]

of_each_schedule = pytest.mark.parametrize("diffusion", DIFFUSIONS, ids=lambda d: f"{d.schedule}{d.T}")
of_each_kind = pytest.mark.parametrize("kind", PREDICTIONS)


def every_step(schedule: Schedule, dtype=torch.float64) -> tuple[torch.Tensor, ...]:
    """x_0, eps and t, one image for each timestep."""
    generator = torch.Generator().manual_seed(schedule.T)
    x_0 = torch.rand(schedule.T, *SHAPE, generator=generator, dtype=dtype) * 2 - 1
    eps = torch.randn(schedule.T, *SHAPE, generator=generator, dtype=dtype)
    return x_0, eps, torch.arange(1, schedule.T + 1)


def at(table: torch.Tensor) -> torch.Tensor:
    """A table's entries from t = 1, to multiply every_step's images with."""
    return table[1:, None, None, None]


@of_each_schedule
@of_each_kind
def test_a_network_that_meets_its_target_knows_the_image_and_the_noise(diffusion, kind):
    schedule = Schedule(diffusion)
    prediction, (x_0, eps, t) = PREDICTIONS[kind](schedule), every_step(schedule)
    x_t = schedule.q_sample(x_0, t, eps)
    output = prediction.target(x_0, eps, t)
    assert torch.allclose(prediction.x_0(output, x_t, t), x_0, atol=1e-10)
    assert torch.allclose(prediction.eps(output, x_t, t), eps, atol=1e-10)


@of_each_schedule
@of_each_kind
def test_in_float32_errors_are_rounding_of_x_t(diffusion, kind):
    """Of x_0 after its factor in x_t, of eps after its own: neither says more of x_t than this."""
    schedule = Schedule(diffusion)
    prediction, (x_0, eps, t) = PREDICTIONS[kind](schedule), every_step(schedule, torch.float32)
    x_t = schedule.q_sample(x_0, t, eps)
    output = prediction.target(x_0, eps, t)
    found = Predicted(prediction, output, None, x_t, t)
    assert found.x_0.dtype == found.eps.dtype == torch.float32
    assert (at(schedule.signal) * (found.x_0 - x_0)).abs().max() < 1e-6
    assert (at(schedule.noise) * (found.eps - eps)).abs().max() < 1e-6
    # But these two also where their factor is small.
    if kind in ("v", "edm"):
        assert (found.x_0 - x_0).abs().max() < 2e-6
    if kind == "v":
        assert (found.eps - eps).abs().max() < 2e-6


@of_each_schedule
@of_each_kind
def test_the_image_and_the_noise_of_any_output_belong_together(diffusion, kind):
    schedule = Schedule(diffusion)
    prediction, (output, x_t, t) = PREDICTIONS[kind](schedule), every_step(schedule)
    again = schedule.q_sample(prediction.x_0(output, x_t, t), t, prediction.eps(output, x_t, t))
    assert torch.allclose(again, x_t, atol=1e-10)


@of_each_schedule
@of_each_kind
def test_an_error_of_the_output_goes_into_the_image_by_its_scale(diffusion, kind):
    schedule = Schedule(diffusion)
    prediction, (output, x_t, t) = PREDICTIONS[kind](schedule), every_step(schedule)
    moved = prediction.x_0(output + 1, x_t, t) - prediction.x_0(output, x_t, t)
    assert torch.allclose(moved.abs(), at(prediction.x0_scale).expand_as(moved), rtol=1e-6, atol=1e-10)


def reference(diffusion: Diffusion, prediction: str) -> DDPMScheduler:
    """Its timesteps are 0, ..., T - 1; its tables widened to float64."""
    other = DDPMScheduler(diffusion.T, variance_type="fixed_small", clip_sample=False, prediction_type=prediction)
    other.betas = torch.tensor(diffusion.betas(), dtype=torch.float64)
    other.alphas = 1 - other.betas
    other.alphas_cumprod = other.alphas.cumprod(0)
    return other


@of_each_schedule
def test_v_is_that_of_diffusers(diffusion):
    schedule = Schedule(diffusion)
    x_0, eps, t = every_step(schedule)
    expected = reference(diffusion, "v_prediction").get_velocity(x_0, eps, t - 1)
    assert torch.allclose(PREDICTIONS["v"](schedule).target(x_0, eps, t), expected, atol=1e-12)


@of_each_schedule
@pytest.mark.parametrize(("kind", "name"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
@pytest.mark.parametrize("clip_x0", [False, True])
def test_the_mean_of_a_step_is_that_of_diffusers(diffusion, kind, name, clip_x0):
    schedule, other = Schedule(diffusion, "fixed_small"), reference(diffusion, name)
    other.register_to_config(clip_sample=clip_x0)
    output, x_t, t = every_step(schedule)
    mean, sigma = mean_and_sigma(schedule, Predicted(PREDICTIONS[kind](schedule), output, None, x_t, t), clip_x0)
    for step in sorted({1, 2, 3, diffusion.T // 2, diffusion.T - 1, diffusion.T}):
        i = step - 1
        taken = other.step(output[i], i, x_t[i], generator=torch.Generator().manual_seed(0)).prev_sample
        z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) if i else 0
        assert torch.allclose(mean[i] + sigma[i] * z, taken, rtol=1e-8, atol=1e-9)


@of_each_schedule
def test_edm_is_the_preconditioning_of_karras_and_others(diffusion):
    """D(x; sigma) = c_skip x + c_out F(c_in x), its loss lambda (D - y)^2 with lambda c_out^2 = 1 (their table 1)."""
    schedule = Schedule(diffusion)
    prediction, (x_0, eps, t), data = PREDICTIONS["edm"](schedule), every_step(schedule), 0.5
    sigma = at(torch.sqrt(1 / schedule.alpha_bar - 1))
    x = x_0 + sigma * eps
    c_skip = data**2 / (sigma**2 + data**2)
    c_out = sigma * data / torch.sqrt(data**2 + sigma**2)
    c_in = 1 / torch.sqrt(sigma**2 + data**2)
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    x_t, F = schedule.q_sample(x_0, t, eps), torch.cos(3 * eps)
    D = c_skip * x + c_out * F
    assert torch.allclose(prediction.given(x_t, t), c_in * x, rtol=1e-9, atol=1e-12)
    assert torch.allclose(prediction.x_0(F, x_t, t), D, rtol=1e-8, atol=1e-9)
    assert torch.allclose((prediction.target(x_0, eps, t) - F) ** 2, weight * (D - x_0) ** 2, rtol=1e-5, atol=1e-8)


@of_each_schedule
def test_what_edm_sees_and_what_it_should_say_have_variance_1(diffusion):
    """Of images with its standard deviation, 0.5."""
    schedule = Schedule(diffusion)
    prediction = PREDICTIONS["edm"](schedule)
    seen = prediction.c_in**2 * (schedule.alpha_bar / 4 + 1 - schedule.alpha_bar)
    said = prediction.of_x_0**2 / 4 + prediction.of_eps**2
    for variance in (seen[1:], said[1:]):
        assert torch.allclose(variance, torch.ones_like(variance), rtol=1e-9)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_other_predictions_see_x_t_as_it_is(kind):
    schedule = Schedule(DIFFUSIONS[2])
    x_t = torch.randn(2, *SHAPE)
    assert PREDICTIONS[kind](schedule).given(x_t, torch.tensor([1, 100])) is x_t


@of_each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_half_of_channels_is_where_the_variance_lies(kind, dtype):
    schedule = Schedule(DIFFUSIONS[2], "learned")
    prediction, x_t, t = PREDICTIONS[kind](schedule), torch.randn(2, *SHAPE), torch.tensor([7, 90])
    said = torch.linspace(-1.5, 1.5, 2 * x_t.numel()).reshape(2, 6, 4, 4).to(dtype)
    found = predict(lambda x, t: said, prediction, x_t, t)
    assert found.output.dtype == found.v.dtype == torch.float32
    assert torch.equal(found.output, said[:, :3].float())
    assert torch.allclose(found.v, said[:, 3:].float() / 2 + 0.5)
    assert predict(lambda x, t: said[:, :3], prediction, x_t, t).v is None


def test_minus_1_and_1_are_the_smaller_and_the_larger_variance():
    small, large, learned = (
        Schedule(DIFFUSIONS[0], variance) for variance in ("fixed_small", "fixed_large", "learned")
    )
    x_t, eps, t = every_step(learned)
    for said, other in ((-1.0, small), (1.0, large)):

        def denoiser(x, t, said=said):
            return torch.cat([eps, torch.full_like(eps, said)], 1)

        mean, sigma = mean_and_sigma(learned, predict(denoiser, PREDICTIONS["eps"](learned), x_t, t))
        expected_mean, expected = mean_and_sigma(other, predict(lambda x, t: eps, PREDICTIONS["eps"](other), x_t, t))
        assert torch.equal(mean, expected_mean)
        # At t = 1 both ends of the fixed ones are the posterior's variance at t = 2; the learned one ends at beta_1.
        expected = expected.expand_as(sigma).clone()
        expected[0] = (small.sigma[1] if said < 0 else large.beta[1].sqrt()).item()
        assert torch.allclose(sigma, expected, rtol=1e-6)


def test_a_network_without_a_variance_is_refused_where_one_is_asked_for():
    schedule = Schedule(DIFFUSIONS[2], "learned")
    x_t, eps, t = every_step(schedule)
    with pytest.raises(ValueError, match="learned no variance"):
        mean_and_sigma(schedule, Predicted(PREDICTIONS["eps"](schedule), eps, None, x_t, t))


@given(kind=st.sampled_from(sorted(PREDICTIONS)), t=st.integers(1, 60), seed=st.integers(0, 100))
def test_a_timestep_may_be_a_number_or_one_for_each_image(kind, t, seed):
    schedule = Schedule(DIFFUSIONS[3])
    prediction = PREDICTIONS[kind](schedule)
    output, x_t = torch.randn(2, 2, *SHAPE, generator=torch.Generator().manual_seed(seed))
    steps = torch.full((2,), t)
    for function in (prediction.x_0, prediction.eps, prediction.target):
        assert torch.equal(function(output, x_t, t), function(output, x_t, steps))
