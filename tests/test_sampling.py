"""Samplers: independence of the batch, the steps that they take, and known distributions."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.models import Network
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.networks.sngan import Generator
from surrodiff.networks.unet import UNet
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream
from surrodiff.sampling.generator import GeneratorSampler
from surrodiff.sampling.low_resolution import LowResolutionDiffusion
from surrodiff.sampling.surrogate import SurrogateDiffusion
from surrodiff.sampling.whole import WholeProcess

T, SEED = 12, 5
DIFFUSION = Diffusion(T=T, beta_1=0.02, beta_T=0.6)
SHAPE = (1, 8, 8)
INDEX = torch.arange(10)


class Optimal:
    """The best denoiser of pixels that are independently N(m, s^2), elementwise; notes the t's and shapes it sees."""

    def __init__(self, schedule: Schedule, m: float = 0.3, s: float = 0.4):
        self.schedule, self.m, self.s = schedule, m, s
        self.seen, self.shapes = [], []

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert (t == t[0]).all()
        assert len(t) == len(x_t)
        self.seen.append(int(t[0]))
        self.shapes.append(tuple(x_t.shape[1:]))
        a = self.schedule.alpha_bar[t[0]].item()
        return (1 - a) ** 0.5 * (x_t - a**0.5 * self.m) / (a * self.s**2 + 1 - a)


class Constant:
    """A surrogate whose samples are one value everywhere."""

    hands_over_x_t = False

    def __init__(self, value: float, shape=SHAPE):
        self.value, self.shape = value, shape

    def __call__(self, index, advance=lambda count: None):
        advance(len(index))
        return torch.full((len(index), *self.shape), self.value)


def optimal(shape=SHAPE, diffusion=DIFFUSION, variance="fixed_large", stream=Stream.REVERSE, **how) -> ReverseProcess:
    schedule = Schedule(diffusion, variance)
    return ReverseProcess(Optimal(schedule), schedule, shape, SEED, stream=stream, **how)


def unet(size: int = 8, stream=Stream.REVERSE) -> ReverseProcess:
    """An untrained network whose output is not small, so that its part in a sample is."""
    torch.manual_seed(0)
    network = Network(
        block="standard",
        base_channels=8,
        channel_multipliers=[1, 2],
        num_res_blocks=1,
        attention_levels=[1],
        groups=2,
        dropout=0.1,
    )
    denoiser = UNet(network, 1).eval().requires_grad_(False)
    torch.nn.init.normal_(denoiser.head[-1].weight, std=0.1)
    return ReverseProcess(denoiser, Schedule(DIFFUSION), (1, size, size), SEED, stream=stream)


def gan() -> GeneratorSampler:
    torch.manual_seed(1)
    return GeneratorSampler(Generator(8, 1, 6, 8).eval().requires_grad_(False), 6, SEED)


def low(t_mid: int, handover: str, reverse: ReverseProcess | None = None) -> LowResolutionDiffusion:
    reverse = reverse or optimal((1, 4, 4), stream=Stream.LOW_RESOLUTION)
    return LowResolutionDiffusion(reverse, t_mid, 8, handover)


EXACT = {
    "ancestral": lambda: WholeProcess(optimal()),
    "clipped": lambda: WholeProcess(optimal(clip_x0=True)),
    "surrogate": lambda: SurrogateDiffusion(Constant(0.5), 5, optimal()),
}
ROUNDED = {
    "ancestral_unet": lambda: WholeProcess(unet()),
    "gan": gan,
    "gan_and_unet": lambda: SurrogateDiffusion(gan(), 4, unet()),
    "low_x0": lambda: SurrogateDiffusion(low(4, "x0", unet(4, Stream.LOW_RESOLUTION)), 4, unet()),
    "low_x_t": lambda: SurrogateDiffusion(low(4, "x_t", unet(4, Stream.LOW_RESOLUTION)), 4, unet()),
    "low_alone": lambda: low(0, "x0", unet(4, Stream.LOW_RESOLUTION)),
}
ALL = EXACT | ROUNDED


def split(cuts: list[int]) -> list[torch.Tensor]:
    bounds = [0, *sorted(set(cuts) - {0, len(INDEX)}), len(INDEX)]
    return [INDEX[a:b] for a, b in pairwise(bounds)]


cuts = st.lists(st.integers(1, len(INDEX) - 1), max_size=4)


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=10, deadline=None)
@given(cuts=cuts)
def test_any_split_of_the_samples_gives_identical_images(kind, cuts):
    sampler = EXACT[kind]()
    assert torch.equal(torch.cat([sampler(part) for part in split(cuts)]), sampler(INDEX))


@pytest.mark.parametrize("kind", ROUNDED)
@settings(max_examples=5, deadline=None)
@given(cuts=cuts)
def test_any_split_of_the_samples_gives_the_same_images_of_a_network(kind, cuts):
    sampler = ROUNDED[kind]()
    assert torch.allclose(torch.cat([sampler(part) for part in split(cuts)]), sampler(INDEX), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_samples_differ_from_each_other_and_are_of_the_right_shape(kind):
    images = ALL[kind]()(INDEX)
    assert images.shape == (len(INDEX), 1, 8, 8)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert (torch.cdist(images.flatten(1), images.flatten(1)) + torch.eye(len(INDEX))).min() > 0.05


EVALUATIONS = {
    "ancestral": T,
    "clipped": T,
    "surrogate": 1 + 5,
    "ancestral_unet": T,
    "gan": 1,
    "gan_and_unet": 1 + 4,
    "low_x0": T - 4 + 1 + 4,
    "low_x_t": T,
    "low_alone": T,
}


@pytest.mark.parametrize("kind", ALL)
def test_each_evaluation_is_told_with_the_batch(kind):
    sampler, counts = ALL[kind](), []
    sampler(INDEX[:3], counts.append)
    assert counts == [3] * EVALUATIONS[kind]


def advances(sampler) -> int:
    """How many evaluations a sampler tells."""
    counts = []
    sampler(INDEX, counts.append)
    return len(counts)


def test_seeds_give_different_samples():
    first = optimal()
    other = ReverseProcess(first.denoiser, first.schedule, SHAPE, SEED + 1)
    assert not torch.allclose(WholeProcess(first)(INDEX), WholeProcess(other)(INDEX), atol=0.1)


def test_the_whole_process_takes_every_step_once():
    reverse = optimal()
    WholeProcess(reverse)(INDEX)
    assert reverse.denoiser.seen == list(range(T, 0, -1))


def test_a_step_is_the_mean_and_its_noise_and_the_last_one_is_the_mean_alone():
    for variance in ("fixed_large", "fixed_small"):
        reverse = optimal(variance=variance)
        x_t = noise.normal(0, Stream.EPS, 0, INDEX, SHAPE)
        for t in range(1, T + 1):
            eps = reverse.denoiser(x_t, torch.full((len(INDEX),), t))
            mean = reverse.schedule.reverse_mean(x_t, t, eps)
            added = (reverse.step(x_t, t, INDEX) - mean) / reverse.schedule.sigma[t].float()
            z = noise.normal(SEED, Stream.REVERSE, t, INDEX, SHAPE) if t > 1 else torch.zeros_like(added)
            assert torch.allclose(added, z, atol=1e-4)


@pytest.mark.parametrize("surrogate", [gan, lambda: low(0, "x0"), lambda: low(0, "x_t")], ids=["gan", "x0", "x_t"])
def test_without_steps_the_samples_are_the_surrogates(surrogate):
    assert torch.equal(SurrogateDiffusion(surrogate(), 0, optimal())(INDEX), surrogate()(INDEX))


@pytest.mark.parametrize("t_mid", [0, 1, 2, 7, T])
def test_surrogate_diffusion_takes_the_steps_from_t_mid_to_1(t_mid):
    reverse = optimal()
    sampler = SurrogateDiffusion(Constant(0.5), t_mid, reverse)
    assert advances(sampler) == t_mid + 1
    assert reverse.denoiser.seen == list(range(t_mid, 0, -1))


@pytest.mark.parametrize("t_mid", [1, 2, 7, T])
def test_what_the_first_step_sees_is_the_sample_noised_to_t_mid(t_mid):
    given_x = []

    def recording(x_t, t):
        given_x.append(x_t)
        return torch.zeros_like(x_t)

    schedule = Schedule(DIFFUSION)
    index = torch.arange(500)
    SurrogateDiffusion(Constant(0.8), t_mid, ReverseProcess(recording, schedule, SHAPE, SEED))(index)
    first, n = given_x[0].double(), given_x[0].numel()
    a = schedule.alpha_bar[t_mid].item()
    assert len(given_x) == t_mid
    assert first.mean().item() == pytest.approx(a**0.5 * 0.8, abs=4.5 * ((1 - a) / n) ** 0.5)
    assert first.var().item() == pytest.approx(1 - a, rel=4.5 * (2 / n) ** 0.5)


def test_the_forward_noise_is_not_that_of_the_reverse_process():
    index = torch.arange(400)
    reverse = optimal()
    forward = SurrogateDiffusion(Constant(0.0), T, reverse).noised(torch.zeros(400, *SHAPE), index)
    for t in range(2, T + 2):
        other = noise.normal(SEED, Stream.REVERSE, t, index, SHAPE)
        assert (forward * other).mean().abs() < 5 / forward.numel() ** 0.5


def test_the_prior_is_standard_normal_and_not_the_noise_of_a_step():
    index = torch.arange(400)
    prior = optimal().prior(index)
    assert moments(prior) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.04))
    for t in range(2, T + 1):
        other = noise.normal(SEED, Stream.REVERSE, t, index, SHAPE)
        assert (prior * other).mean().abs() < 5 / prior.numel() ** 0.5


def moments(images: torch.Tensor) -> tuple[float, float]:
    return images.double().mean().item(), images.double().var().item()


def test_from_t_T_surrogate_diffusion_is_the_plain_chain_in_distribution():
    diffusion = Diffusion(T=40, beta_1=0.005, beta_T=0.5)
    index = torch.arange(1500)
    plain = WholeProcess(optimal((1, 4, 4), diffusion))(index)
    sampler = SurrogateDiffusion(Constant(0.9, (1, 4, 4)), 40, optimal((1, 4, 4), diffusion))
    assert sampler.reverse.schedule.alpha_bar[-1] < 1e-4
    refined = sampler(index)
    (mean, variance), (other_mean, other_variance) = moments(refined), moments(plain)
    assert mean == pytest.approx(other_mean, abs=0.015)
    assert variance == pytest.approx(other_variance, rel=0.05)


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_the_best_denoiser_of_a_gaussian_gives_its_mean_and_variance(variance):
    reverse = optimal((1, 3, 4), Diffusion(T=1000, beta_1=1e-4, beta_T=0.02), variance)
    mean, found = moments(WholeProcess(reverse)(torch.arange(800)))
    assert mean == pytest.approx(reverse.denoiser.m, abs=4.5 * reverse.denoiser.s / 9600**0.5 + 0.002)
    assert found == pytest.approx(reverse.denoiser.s**2, rel=4.5 * (2 / 9600) ** 0.5 + 0.02)


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_a_short_chain_has_the_moments_that_its_steps_give(variance):
    """Each step is linear in x_t, so that mean and variance follow from Algorithm 2 by recursion."""
    reverse = optimal(variance=variance)
    schedule, m, s = reverse.schedule, reverse.denoiser.m, reverse.denoiser.s
    mean, spread = 0.0, 1.0
    for t in range(T, 0, -1):
        a, alpha, beta = schedule.alpha_bar[t].item(), schedule.alpha[t].item(), schedule.beta[t].item()
        slope = (1 - beta / (a * s**2 + 1 - a)) / alpha**0.5
        mean = slope * mean + beta * a**0.5 * m / (a * s**2 + 1 - a) / alpha**0.5
        before = schedule.alpha_bar[t - 1].item()
        added = beta if variance == "fixed_large" else beta * (1 - before) / (1 - a)
        spread = slope**2 * spread + (added if t > 1 else 0)
    images = WholeProcess(reverse)(torch.arange(1000))
    found_mean, found = moments(images)
    assert found_mean == pytest.approx(mean, abs=4.5 * (spread / images.numel()) ** 0.5)
    assert found == pytest.approx(spread, rel=4.5 * (2 / images.numel()) ** 0.5)


@pytest.mark.parametrize("t", range(1, T + 1))
def test_clipping_keeps_the_predicted_x0_within_the_range_of_images(t):
    schedule = Schedule(DIFFUSION)
    x_t = noise.normal(0, Stream.EPS, 0, INDEX, SHAPE) * 2
    means = []
    for clip in (True, False):
        reverse = ReverseProcess(lambda x, t: -0.5 * x, schedule, SHAPE, SEED, clip)
        z = noise.normal(SEED, Stream.REVERSE, t, INDEX, SHAPE) * schedule.sigma[t].float() if t > 1 else 0
        means.append((reverse.step(x_t, t, INDEX) - z).double())
    implied = [(mean - schedule.posterior_xt[t] * x_t) / schedule.posterior_x0[t] for mean in means]
    predicted = (1 + 0.5 * schedule.noise[t]) / schedule.signal[t] * x_t.double()
    assert implied[0].abs().max() <= 1 + 1e-4
    assert torch.allclose(implied[0], predicted.clamp(-1, 1), atol=1e-4)
    assert torch.allclose(implied[1], predicted, rtol=1e-4, atol=1e-4)
    assert predicted.abs().max() > 1


def test_a_clipped_chain_ends_within_the_range_of_images():
    schedule = Schedule(DIFFUSION)
    wild = ReverseProcess(lambda x, t: -3 * x, schedule, SHAPE, SEED, clip_x0=True)
    assert WholeProcess(wild)(INDEX).abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("handover", ["x0", "x_t"])
@pytest.mark.parametrize("t_mid", [0, 1, 5, T])
def test_a_low_resolution_surrogate_runs_down_to_t_mid_and_hands_over_the_right_size(handover, t_mid):
    sampler = low(t_mid, handover)
    estimate = handover == "x0" and t_mid > 0
    images = sampler(INDEX)
    denoiser = sampler.reverse.denoiser
    assert denoiser.seen == list(range(T, t_mid, -1)) + [t_mid] * estimate
    assert set(denoiser.shapes) <= {(1, 4, 4)}
    assert advances(low(t_mid, handover)) == T - t_mid + estimate
    assert images.shape == (len(INDEX), 1, 8, 8)
    if handover == "x0" or t_mid == 0:
        assert images.abs().max() <= 1


def test_an_x_t_that_is_handed_over_keeps_065_of_its_noise():
    """Weights of 3/4 and 1/4 each way leave 10/16 of the standard deviation, and more along the edges."""
    images = LowResolutionDiffusion(optimal((3, 16, 16)), T, 32, "x_t")(torch.arange(100))
    assert float(images.std()) == pytest.approx(0.65, abs=0.005)
    assert float(images[..., 1:-1, 1:-1].std()) == pytest.approx(0.625, abs=0.005)


@pytest.mark.parametrize("t_mid", [1, 5, T])
def test_both_handovers_agree_with_the_process_that_they_come_from(t_mid):
    process = optimal((1, 4, 4), stream=Stream.LOW_RESOLUTION)
    x_t = process.run(process.prior(INDEX), INDEX, T, t_mid)
    x_0 = process.predict(x_t, t_mid).x_0.clamp(-1, 1)
    for handover, small in (("x_t", x_t), ("x0", x_0)):
        handed = low(t_mid, handover)(INDEX)
        # Twice the size: corners stay, and the mean of each 2x2 block is a known mix of its neighbours.
        assert torch.allclose(handed[..., ::7, ::7], small[..., ::3, ::3], atol=1e-6)
        inner = torch.nn.functional.avg_pool2d(handed, 2)[..., 1:-1, 1:-1]
        across = 0.125 * small[..., :-2] + 0.75 * small[..., 1:-1] + 0.125 * small[..., 2:]
        both = 0.125 * across[..., :-2, :] + 0.75 * across[..., 1:-1, :] + 0.125 * across[..., 2:, :]
        assert torch.allclose(inner, both, atol=1e-5)


def test_a_handed_over_x_t_gets_no_noise_and_an_x0_gets_it():
    given_x = {}
    for handover in ("x0", "x_t"):
        seen = []

        def recording(x_t, t, seen=seen):
            seen.append((int(t[0]), x_t))
            return torch.zeros_like(x_t)

        surrogate = low(5, handover)
        sampler = SurrogateDiffusion(surrogate, 5, ReverseProcess(recording, Schedule(DIFFUSION), SHAPE, SEED))
        sampler(INDEX)
        assert [t for t, _ in seen] == [5, 4, 3, 2, 1]
        given_x[handover] = seen[0][1]
        assert advances(sampler) == T - 5 + (handover == "x0") + 5
    assert torch.equal(given_x["x_t"], low(5, "x_t")(INDEX))
    x_0 = low(5, "x0")(INDEX)
    eps = noise.normal(SEED, Stream.FORWARD, 5, INDEX, SHAPE)
    assert torch.allclose(given_x["x0"], Schedule(DIFFUSION).q_sample(x_0, 5, eps), atol=1e-6)


def test_a_generator_is_evaluated_once_on_the_numbers_of_its_samples():
    sampler = gan()
    z = noise.normal(SEED, Stream.Z, 0, INDEX, (6,))
    assert torch.allclose(sampler(INDEX), sampler.generator(z), atol=1e-6)
    assert sampler(INDEX).abs().max() <= 1
    assert advances(sampler) == 1
