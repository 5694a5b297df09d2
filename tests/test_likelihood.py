"""The variational bound: closed forms, the published loop by torch.distributions, and the stage on a trained model."""

import csv
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from data_runs import refusal
from hypothesis import given
from records import forget
from torch.distributions import Normal, kl_divergence

from surrodiff.config.diffusion import Diffusion
from surrodiff.data import pixels, sources
from surrodiff.diffusion.bound import decoder_nll
from surrodiff.diffusion.likelihood import variational_bound
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.kinds.weights import load_evaluation, load_weights
from surrodiff.planning.measures import LikelihoodConfig
from surrodiff.planning.runs import Run
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream
from surrodiff.stages import likelihood
from surrodiff.store.runs import work_folder

SEED = 5
SHORT = Diffusion(T=12, beta_1=0.02, beta_T=0.6)
PIXELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1

either_variance = pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
clipped_or_not = pytest.mark.parametrize("clip_x0", [True, False])


def exact(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float64)


def gaussian_pixels(count: int, m: float, s: float, shape=(1, 8, 8)) -> torch.Tensor:
    """8-bit images in [-1, 1] whose pixels are independently N(m, s^2)."""
    x = m + s * torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    return pixels.to_float(pixels.to_uint8(x))


def best(schedule: Schedule, m: float, s: float):
    """The best denoiser of such images, elementwise."""

    def denoiser(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert (t == t[0]).all()
        a = schedule.alpha_bar[t[0]].item()
        return (1 - a) ** 0.5 * (x_t - a**0.5 * m) / (a * s**2 + 1 - a)

    return denoiser


def wild(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A bad denoiser, whose predicted x_0 often leaves [-1, 1]."""
    return torch.sin(3 * x_t) + 0.05 * t.reshape(-1, 1, 1, 1)


def of_best(diffusion=SHORT, variance="fixed_large", m=0.1, s=0.2, **how) -> ReverseProcess:
    schedule = Schedule(diffusion, variance)
    return ReverseProcess(best(schedule, m, s), schedule, (1, 8, 8), SEED, **how)


def published(denoiser, diffusion: Diffusion, variance: str, clip_x0: bool, x_0, index, seed: int) -> torch.Tensor:
    """`calc_bpd_loop` of Improved DDPM with its 0-based timesteps, by torch.distributions; (B, T + 1), the prior first.

    Only the noise is ours.
    """
    betas = torch.linspace(diffusion.beta_1, diffusion.beta_T, diffusion.T, dtype=torch.float64)
    bar = torch.cumprod(1 - betas, 0)
    bar_prev = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    posterior = betas * (1 - bar_prev) / (1 - bar)
    model = torch.cat([posterior[1:2], (betas if variance == "fixed_large" else posterior)[1:]])
    x_0 = x_0.double()
    prior = kl_divergence(Normal(bar[-1].sqrt() * x_0, (1 - bar[-1]).sqrt()), Normal(0.0, 1.0))
    terms = [prior]
    for t in range(diffusion.T):
        eps = noise.normal(seed, Stream.BOUND, t + 1, index, x_0.shape[1:])
        x_t = bar[t].sqrt() * x_0 + (1 - bar[t]).sqrt() * eps
        predicted_eps = denoiser(x_t.float(), torch.full((len(x_0),), t + 1)).double()
        pred_xstart = (1 / bar[t]).sqrt() * x_t - (1 / bar[t] - 1).sqrt() * predicted_eps
        if clip_x0:
            pred_xstart = pred_xstart.clamp(-1, 1)
        coef1 = betas[t] * bar_prev[t].sqrt() / (1 - bar[t])
        coef2 = (1 - bar_prev[t]) * (1 - betas[t]).sqrt() / (1 - bar[t])
        p = Normal(coef1 * pred_xstart + coef2 * x_t, model[t].sqrt())
        if t == 0:
            below = torch.where(x_0 < -0.999, 0.0, p.cdf(x_0 - 1 / 255))
            above = torch.where(x_0 > 0.999, 1.0, p.cdf(x_0 + 1 / 255))
            terms.append(-torch.log(above - below))
        else:
            terms.append(kl_divergence(Normal(coef1 * x_0 + coef2 * x_t, posterior[t].sqrt()), p))
    return torch.stack([term.flatten(1).mean(1) for term in terms], 1) / math.log(2)


@either_variance
@clipped_or_not
def test_terms_are_those_of_the_published_loop(variance, clip_x0):
    x_0, index = gaussian_pixels(20, 0.2, 0.6), torch.arange(20) + 7
    assert (x_0.abs() == 1).any()
    reverse = ReverseProcess(wild, Schedule(SHORT, variance), (1, 8, 8), SEED, clip_x0)
    terms, _ = variational_bound(reverse, x_0, index)
    assert terms.shape == (20, SHORT.T + 1)
    assert terms.dtype == torch.float64
    assert torch.allclose(terms, published(wild, SHORT, variance, clip_x0, x_0, index, SEED), rtol=1e-4, atol=1e-6)


def test_clipping_lowers_the_bound_of_a_denoiser_that_leaves_the_range_of_images():
    x_0, index = gaussian_pixels(20, 0.2, 0.6), torch.arange(20)
    clipped, free = (
        variational_bound(ReverseProcess(wild, Schedule(SHORT), (1, 8, 8), SEED, clip_x0), x_0, index)[0]
        for clip_x0 in (True, False)
    )
    # Not so the decoder's: its open bins gain from a mean beyond them.
    assert (clipped[:, 2:] <= free[:, 2:]).all()
    assert (clipped.sum(1) < free.sum(1) - 0.1).all()


@either_variance
def test_the_best_denoisers_terms_have_their_closed_form(variance):
    """The mean square of x_0 less its prediction is the variance of x_0 given x_t."""
    m, s, count = 0.1, 0.2, 1000
    reverse = of_best(variance=variance, m=m, s=s)
    x_0 = gaussian_pixels(count, m, s)
    terms = variational_bound(reverse, x_0, torch.arange(count))[0].mean(0)
    beta, bar = reverse.schedule.beta.tolist(), reverse.schedule.alpha_bar.tolist()
    for t in range(2, SHORT.T + 1):
        q_variance = beta[t] * (1 - bar[t - 1]) / (1 - bar[t])
        p_variance = beta[t] if variance == "fixed_large" else q_variance
        unexplained = s**2 * (1 - bar[t]) / (bar[t] * s**2 + 1 - bar[t])
        from_mean = bar[t - 1] * (beta[t] / (1 - bar[t])) ** 2 * unexplained / p_variance / 2
        from_variance = (q_variance / p_variance - 1 - math.log(q_variance / p_variance)) / 2
        expected = (from_mean + from_variance) / math.log(2)
        error = from_mean * (2 / x_0.numel()) ** 0.5 / math.log(2)
        assert terms[t].item() == pytest.approx(expected, abs=4.5 * error + 1e-3 * from_mean)
    mean_q, variance_q = bar[-1] ** 0.5 * x_0.double(), 1 - bar[-1]
    prior = (mean_q**2 + variance_q - 1 - math.log(variance_q)).mean().item() / 2 / math.log(2)
    assert terms[0].item() == pytest.approx(prior, rel=1e-9)


@either_variance
def test_what_the_best_denoiser_loses_is_the_divergence_of_its_variances_from_the_true_ones(variance):
    """Its means are those of q(x_{t-1} | x_t), so that the bound exceeds -log p(x_0) by what sigma_t costs."""
    m, s, count = 0.1, 0.2, 500
    diffusion = Diffusion(T=100, beta_1=1e-3, beta_T=0.2)
    reverse = of_best(diffusion, variance, m, s)
    x_0 = gaussian_pixels(count, m, s)
    bound = variational_bound(reverse, x_0, torch.arange(count))[0].sum(1).mean().item()
    truth = (decoder_nll(x_0.double(), exact(m), exact(s)).mean() / math.log(2)).item()
    assert truth == pytest.approx(0.5 * math.log2(2 * math.pi * math.e * s**2) + math.log2(127.5), abs=0.02)
    beta, bar = reverse.schedule.beta.tolist(), reverse.schedule.alpha_bar.tolist()
    marginal = Normal(exact(bar[-1] ** 0.5 * m), exact(bar[-1] * s**2 + 1 - bar[-1]).sqrt())
    lost = kl_divergence(marginal, Normal(exact(0), exact(1))).item()
    for t in range(1, diffusion.T + 1):
        # x_{t-1} and x_t are jointly Gaussian.
        before, after = (bar[i] * s**2 + 1 - bar[i] for i in (t - 1, t))
        ratio = before * beta[t] / after / reverse.schedule.sigma[t].item() ** 2
        lost += (ratio - 1 - math.log(ratio)) / 2
    assert bound - truth == pytest.approx(lost / math.log(2), abs=0.02)


def test_the_bound_neither_depends_on_how_images_are_batched_nor_on_their_order():
    x_0, index = gaussian_pixels(10, 0.1, 0.2), torch.arange(10) * 3
    reverse = of_best()
    whole, _ = variational_bound(reverse, x_0, index)
    for bounds in ([0, 1, 4, 10], [0, 5, 6, 10]):
        parts = [variational_bound(reverse, x_0[a:b], index[a:b])[0] for a, b in pairwise(bounds)]
        assert torch.allclose(torch.cat(parts), whole, rtol=1e-12, atol=0)
    assert torch.allclose(variational_bound(reverse, x_0.flip(0), index.flip(0))[0].flip(0), whole, rtol=1e-12, atol=0)
    assert not torch.allclose(variational_bound(replace(reverse, seed=SEED + 1), x_0, index)[0], whole, rtol=1e-3)


def test_every_evaluation_of_the_network_is_told():
    counts = []
    variational_bound(of_best(), gaussian_pixels(3, 0.1, 0.2), torch.arange(3), counts.append)
    assert counts == [3] * SHORT.T


@given(mean=st.floats(-3, 3), sigma=st.floats(1e-3, 10))
def test_the_decoders_probabilities_of_all_pixel_values_sum_to_1(mean, sigma):
    nll = decoder_nll(PIXELS, exact(mean), exact(sigma))
    assert (nll >= 0).all()
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-9)


@given(mean=st.floats(-1.2, 1.2), sigma=st.floats(0.05, 3))
def test_the_decoder_agrees_with_the_difference_of_distribution_functions(mean, sigma):
    normal = Normal(exact(mean), exact(sigma))
    edges = normal.cdf(PIXELS[:-1] + 1 / 255)
    mass = torch.cat([edges[:1], edges.diff(), 1 - edges[-1:]])
    found = torch.exp(-decoder_nll(PIXELS, normal.loc, normal.scale))
    assert torch.allclose(found, mass, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("mean", [-1e6, -50.0, 50.0, 1e6])
@pytest.mark.parametrize("sigma", [1e-4, 1e-2])
def test_the_decoder_stays_exact_far_in_the_tails(mean, sigma):
    """There the mass is that of Mills's ratio at the nearer edge; the farther one adds nothing."""
    nll = decoder_nll(PIXELS, exact(mean), exact(sigma))
    assert torch.isfinite(nll).all()
    z = (torch.abs(PIXELS - mean) - 1 / 255) / sigma
    z[0 if mean < 0 else -1] = math.nan  # the open bin, which reaches over the mean
    expected = z**2 / 2 + torch.log(z * math.sqrt(2 * math.pi)) - torch.log1p(-(z**-2))
    known = ~z.isnan()
    assert torch.allclose(nll[known], expected[known], rtol=1e-12)
    assert nll[~known].item() == pytest.approx(0, abs=1e-12)


def bound_run(run_named, model="Default", **changes) -> Run:
    config = {
        "model": {"run": run_named("models", model).id, "step": 6},
        "data": run_named("data", "digits").id,
        "num_images": 20,
        "clip_x0": True,
        "variance": "fixed_large",
        "precision": "auto",
        "seed": 3,
        "revision": 1,
    }
    return Run(model, LikelihoodConfig.model_validate(config | changes))


def expected_terms(results, run: Run, cpu, size: int = 8) -> torch.Tensor:
    config = run.config
    network, trained = load_weights(results, config.model.run, config.model.step, cpu)
    held_out = sources.load(results, trained.data)[0]["held_out_images"]
    order = noise.permutation(config.seed, Stream.BOUND, 0, len(held_out))[: config.num_images]
    x_0 = pixels.to_float(pixels.resize_uint8(held_out, size)[order])
    diffusion = trained.model.diffusion
    return published(network, diffusion, config.variance, config.clip_x0, x_0, order, config.seed)


@either_variance
@clipped_or_not
def test_the_stage_reports_the_bound_of_a_trained_model(own_results, run_named, cpu, variance, clip_x0, make):
    run = bound_run(run_named, variance=variance, clip_x0=clip_x0)
    record = make(run, own_results)
    terms = expected_terms(own_results, run, cpu)
    bounds, means = terms.sum(1), terms.mean(0)
    assert record["bits_per_dim"] == pytest.approx(bounds.mean().item(), rel=1e-4)
    assert record["bits_per_dim_error"] == pytest.approx(bounds.std().item() / 20**0.5, rel=1e-3)
    assert record["prior"] == pytest.approx(means[0].item(), rel=1e-6)
    assert record["decoder"] == pytest.approx(means[1].item(), rel=1e-4)
    assert record["kl"] == pytest.approx(means[2:].sum().item(), rel=1e-4)
    assert record["prior"] + record["decoder"] + record["kl"] == pytest.approx(record["bits_per_dim"], rel=1e-12)
    assert (record["num_images"], record["image_size"], record["T"], record["data"]) == (20, 8, 8, "digits")
    folder = own_results / "likelihoods" / run.id
    with open(folder / "terms.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["t"]) for row in rows] == list(range(9))
    assert sum(float(row["bits_per_dim"]) for row in rows) == pytest.approx(record["bits_per_dim"], rel=1e-12)
    assert {file.name for file in folder.iterdir()} == {"config.json", "record.json", "done.json", "terms.csv"}


def test_pictures_are_resized_to_the_models_size(own_results, run_named, cpu, make):
    make(run_named("models", "DDPMHalf"), own_results)
    run = bound_run(run_named, "DDPMHalf")
    record = make(run, own_results)
    assert record["image_size"] == 4
    expected = expected_terms(own_results, run, cpu, size=4).sum(1).mean().item()
    assert record["bits_per_dim"] == pytest.approx(expected, rel=1e-4)


def test_an_interrupted_run_goes_on_after_the_last_whole_image(own_results, run_named, monkeypatch, make):
    run = bound_run(run_named)
    whole = make(run, own_results, sampling_batch=64)
    forget(own_results, "likelihoods", run.id)
    evaluated = []

    def counted(reverse, x_0, index, advance):
        if len(evaluated) == 2:
            raise KeyboardInterrupt
        evaluated.append(len(index))
        return variational_bound(reverse, x_0, index, advance)

    monkeypatch.setattr(likelihood, "variational_bound", counted)
    with pytest.raises(KeyboardInterrupt):
        make(run, own_results, sampling_batch=6)  # 20 in four batches of 5
    part = work_folder(own_results, "likelihoods", run.id) / "terms-0.part"
    assert part.stat().st_size == 10 * (2 + 9) * 8  # a row lies beside its checksum and its number
    part.write_bytes(part.read_bytes()[:-100])  # in the middle of the last but one
    monkeypatch.setattr(likelihood, "variational_bound", variational_bound)
    record = make(run, own_results, sampling_batch=7)
    assert record["evaluated_now"] == 20 - 8
    for key in ("bits_per_dim", "bits_per_dim_error", "prior", "kl", "decoder"):
        assert record[key] == pytest.approx(whole[key], rel=1e-5)
    assert not part.exists()


def test_a_finished_run_is_found(own_results, run_named, monkeypatch, make):
    run = bound_run(run_named)
    record = make(run, own_results, sampling_batch=64)
    monkeypatch.setattr(likelihood, "variational_bound", None)
    assert make(run, own_results, sampling_batch=64) == record


@pytest.mark.parametrize("count", [0, 1, 361])
def test_a_number_of_images_that_cannot_be_had_is_told(own_results, run_named, make, count):
    run = bound_run(run_named, num_images=count)
    message = refusal(make, run, own_results)
    assert message == f"likelihood.num_images: must be from 2 to the 360 held-out images, got {count}"


def test_a_model_without_a_bound_is_told(own_results, run_named, make):
    message = refusal(make, bound_run(run_named, "SNGAN"), own_results)
    assert message.startswith("likelihood: SNGAN-")
    assert message.endswith("is a sngan, which has no such likelihood")


def test_bounds_that_are_not_finite_are_told_and_not_kept(own_results, run_named, make, monkeypatch):
    def diverged(*arguments):
        _, trained = load_evaluation(*arguments)
        return lambda x_t, t: torch.full_like(x_t, torch.nan), trained

    monkeypatch.setattr(likelihood, "load_evaluation", diverged)
    run = bound_run(run_named)
    message = refusal(partial(make, sampling_batch=6), run, own_results)
    assert "bounds of images 0 to 4 are not finite" in message
    assert not (own_results / "likelihoods" / run.id / "record.json").exists()
    assert (work_folder(own_results, "likelihoods", run.id) / "terms-0.part").stat().st_size == 0
