"""What a training step minimises: gradients against autograd with constant weights, micro-batches, histories."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from surrodiff.config.diffusion import Diffusion, Objective
from surrodiff.diffusion.objectives import ObjectiveGradient, effective_noises, noise_weights
from surrodiff.diffusion.schedule import Schedule
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

T, BATCH, SEED = 4, 7, 11
SCHEDULE = Schedule(Diffusion(T=T, beta_1=0.02, beta_T=0.6))
SHAPE = (2, 4, 4)
PIXELS = math.prod(SHAPE)


class Network(nn.Module):
    """A small denoiser that sees t, smooth so that gradients differ from sample to sample."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.temb = nn.Embedding(T + 1, 6)
        self.last = nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x_t) + self.temb(t)[:, :, None, None]))


def objective(**changes) -> ObjectiveGradient:
    plain = {"timesteps": "uniform", "extra_timestep_batches": 0, "noises": 1, "weights": "importance"}
    return ObjectiveGradient(Objective(**{**plain, "reduction": "mean", **changes}), SCHEDULE, SEED)


def images(step: int = 0, batch: int = BATCH) -> torch.Tensor:
    return noise.uniform(1, Stream.ORDER, step, torch.arange(batch), PIXELS).reshape(batch, *SHAPE) * 2 - 1


def gradient(made: ObjectiveGradient, step: int = 1, micro_batch: int | None = None):
    """The gradient of one step as one vector, and the step's loss."""
    network = Network()
    loss = made.accumulate(network, images(), step, micro_batch)["loss"]
    return flat(network), loss


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def warm(made: ObjectiveGradient):
    """Give every timestep a full history with losses that grow with t."""
    for _ in range(10):
        made.sampler.update(torch.arange(1, T + 1), torch.arange(1, T + 1) / 3)


def drawn(step: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The timesteps and noises (k, B, ...) that a step with uniform timesteps uses."""
    index = torch.arange(BATCH)
    t = 1 + (noise.uniform(SEED, Stream.TIMESTEP, step, index)[:, 0] * T).long()
    eps = noise.normal(SEED, Stream.EPS, step, torch.arange(k * BATCH), SHAPE).reshape(k, BATCH, *SHAPE)
    return t, eps


def direct_losses(network, x_0, t, eps) -> torch.Tensor:
    """Equation 6 for every noise and sample by itself."""
    rows = []
    for noises in eps:
        row = []
        for i in range(len(x_0)):
            alpha_bar = SCHEDULE.alpha_bar[t[i]].float()
            x_t = alpha_bar.sqrt() * x_0[i] + (1 - alpha_bar).sqrt() * noises[i]
            row.append(((network(x_t[None], t[i : i + 1])[0] - noises[i]) ** 2).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_losses_agree_with_the_direct_formula(k):
    network, x_0 = Network(), images()
    t, eps = drawn(1, k)
    losses = objective().losses(network, x_0, t, eps)
    assert losses.shape == (k, BATCH)
    assert torch.allclose(losses, direct_losses(network, x_0, t, eps), rtol=1e-5)


def test_a_perfect_denoiser_has_no_loss():
    x_0 = images()
    t, eps = drawn(1, 2)
    knows = objective().losses(lambda x_t, t: eps.flatten(0, 1), x_0, t, eps)
    assert torch.equal(knows, torch.zeros(2, BATCH))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda k: st.lists(st.lists(st.floats(0, 3, width=32), min_size=k, max_size=k), min_size=1, max_size=5)
    ),
    st.sampled_from(["mean", "sum"]),
)
def test_noise_weights_are_the_softmax_of_the_losses(rows, reduction):
    losses = torch.tensor(rows).T
    scaled = losses.double().numpy() * (3072 if reduction == "sum" else 1)
    exponentials = np.exp(scaled - scaled.max(0))
    weights = noise_weights(losses, "importance", reduction, 3072)
    assert weights.shape == losses.shape
    assert np.allclose(weights, exponentials / exponentials.sum(0), atol=2e-3 if reduction == "sum" else 1e-6)
    assert np.allclose(weights.sum(0), 1, atol=1e-6)


@given(st.integers(1, 5), st.sampled_from(["mean", "sum"]))
def test_the_weights_of_equation_15_are_the_softmax_of_the_negative_losses(k, reduction):
    losses = 0.05 * torch.rand(k, 3, generator=torch.Generator().manual_seed(k))
    scaled = -losses.double().numpy() * (PIXELS if reduction == "sum" else 1)
    exponentials = np.exp(scaled)
    assert np.allclose(noise_weights(losses, "iwae", reduction, PIXELS), exponentials / exponentials.sum(0), atol=1e-6)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=6))
def test_effective_noises_are_kish_s_effective_sample_size(shares):
    w = np.array(shares) / sum(shares)
    found = effective_noises(torch.tensor(w)[:, None]).item()
    assert found == pytest.approx(sum(shares) ** 2 / (len(w) * np.square(shares).sum()))
    assert 1 / len(w) - 1e-9 <= found <= 1 + 1e-9


def test_weights_are_nearly_one_hot_for_sums_and_nearly_even_for_means():
    losses = torch.tensor([[0.030, 0.050], [0.034, 0.041]])
    assert torch.allclose(noise_weights(losses, "importance", "mean", 3072), torch.full((2, 2), 0.5), atol=0.003)
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert torch.allclose(noise_weights(losses, "importance", "sum", 3072), one_hot, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.sampled_from(["mean", "sum"]))
def test_uniform_weights_are_even(k, reduction):
    losses = torch.rand(k, 3, generator=torch.Generator().manual_seed(k))
    assert torch.equal(noise_weights(losses, "uniform", reduction, 100), torch.full((k, 3), 1 / k))


@pytest.mark.parametrize("weights", ["importance", "uniform"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_noise_is_the_plain_objective(weights, reduction):
    network, (t, eps) = Network(), drawn(1, 1)
    expected = direct_losses(network, images(), t, eps).mean()
    expected.backward()
    grad, loss = gradient(objective(noises=1, weights=weights, reduction=reduction))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(grad, flat(network), rtol=1e-4, atol=1e-7)
    assert torch.equal(grad, gradient(objective())[0])


@pytest.mark.parametrize(
    ("weights", "reduction"), [("importance", "mean"), ("importance", "sum"), ("uniform", "mean"), ("uniform", "sum")]
)
@pytest.mark.parametrize("k", [2, 3])
def test_no_gradient_flows_through_the_weights(k, weights, reduction):
    network, (t, eps) = Network(), drawn(5, k)
    losses = direct_losses(network, images(), t, eps)
    values = losses.detach().double().numpy() * (PIXELS if reduction == "sum" else 1)
    softmax = np.exp(values) / np.exp(values).sum(0)
    constant = torch.tensor(softmax if weights == "importance" else np.full_like(softmax, 1 / k)).float()
    expected = (constant * losses).sum(0).mean()
    expected.backward()
    grad, loss = gradient(objective(noises=k, weights=weights, reduction=reduction), step=5)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert not loss.requires_grad
    assert torch.allclose(grad, flat(network), rtol=1e-4, atol=1e-6)


def test_the_kinds_of_weights_give_different_gradients():
    kinds = [("importance", "mean"), ("importance", "sum"), ("uniform", "mean")]
    grads = [gradient(objective(noises=2, weights=w, reduction=r))[0] for w, r in kinds]
    for a in range(3):
        for b in range(a):
            assert (grads[a] - grads[b]).norm() > 1e-4 * grads[a].norm()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 6, 7, 20, 21, 100])
def test_micro_batches_leave_gradient_loss_and_history_as_they_are(k, micro_batch):
    whole, parts = (
        objective(noises=k, timesteps="importance", extra_timestep_batches=2, reduction="sum") for _ in range(2)
    )
    for made in (whole, parts):
        warm(made)
    grad, loss = gradient(whole)
    split_grad, split_loss = gradient(parts, micro_batch=micro_batch)
    assert torch.allclose(split_grad, grad, rtol=1e-4, atol=1e-6)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(parts.sampler.history[:-1], whole.sampler.history[:-1], rtol=1e-5, atol=1e-7)
    assert torch.equal(parts.sampler.counts, whole.sampler.counts)


@pytest.mark.parametrize(("k", "micro_batch", "most"), [(1, 3, 3), (2, 5, 4), (3, 6, 6), (3, 1, 1), (5, 2, 2)])
def test_a_micro_batch_bounds_how_much_is_evaluated_at_once(k, micro_batch, most):
    network, sizes = Network(), []

    def recording(x_t, t):
        sizes.append(len(x_t))
        return network(x_t, t)

    made = objective(noises=k, timesteps="importance", extra_timestep_batches=1)
    made.accumulate(recording, images(), 1, micro_batch)
    assert max(sizes) == most
    # Where not even a sample's k noises fit, they are evaluated twice: for their weights, then for the gradient.
    assert sum(sizes) == (2 if micro_batch >= k else 3) * k * BATCH


@pytest.mark.parametrize("k", [1, 2])
def test_importance_sampled_losses_are_weighted_by_the_inverse_of_their_probability(k):
    made = objective(noises=k, timesteps="importance", weights="uniform")
    warm(made)
    p = made.sampler.probabilities().clone()
    u = noise.uniform(SEED, Stream.TIMESTEP, 3, torch.arange(BATCH))[:, 0].double()
    t = 1 + (u[:, None] > p.cumsum(0)).sum(1)
    network, eps = Network(), drawn(3, k)[1]
    losses = direct_losses(network, images(), t, eps).mean(0)
    expected = (losses / (T * p[t - 1]).float()).mean()
    expected.backward()
    grad, loss = gradient(made, step=3)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(grad, flat(network), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_the_history_takes_the_combined_losses_without_their_weights(k):
    made = objective(noises=k, timesteps="importance", reduction="sum")
    _, eps = drawn(1, k)
    t = drawn(1, k)[0]
    losses = direct_losses(Network(), images(), t, eps).detach()
    combined = (noise_weights(losses, "importance", "sum", PIXELS) * losses).sum(0)
    gradient(made)
    rings = made.sampler.history[:-1].reshape(T, 10)
    for step in range(1, T + 1):
        expected = combined[t == step]
        assert made.sampler.counts[step - 1] == len(expected)
        assert torch.allclose(rings[step - 1, : len(expected)], expected, rtol=1e-5)


def test_a_full_history_goes_on_taking_losses_without_their_weights():
    made = objective(timesteps="importance")
    warm(made)
    u = noise.uniform(SEED, Stream.TIMESTEP, 1, torch.arange(BATCH))[:, 0]
    t, weight = made.sampler.draw(u)
    assert (weight - 1).abs().min() > 0.05
    losses = direct_losses(Network(), images(), t, drawn(1, 1)[1])[0].detach()
    gradient(made)
    rings = made.sampler.history[:-1].reshape(T, 10)
    for step in range(1, T + 1):
        assert torch.allclose(rings[step - 1, : int((t == step).sum())], losses[t == step], rtol=1e-5)


def test_two_more_batches_enter_the_history_and_leave_the_gradient_as_it_is():
    plain, more = (objective(timesteps="importance", extra_timestep_batches=extra) for extra in (0, 2))
    grad, loss = gradient(plain)
    extra_grad, extra_loss = gradient(more)
    assert torch.equal(extra_grad, grad)
    assert torch.equal(extra_loss, loss)
    assert plain.sampler.counts.sum() == BATCH
    assert more.sampler.counts.sum() == 3 * BATCH
    network, x_0 = Network(), images()
    numbers, index = (2, 3), torch.arange(BATCH)  # of the extra batches of step 1
    u = torch.cat([noise.uniform(SEED, Stream.EXTRA_TIMESTEP, number, index)[:, 0] for number in numbers])
    eps = torch.cat([noise.normal(SEED, Stream.EXTRA_EPS, number, index, SHAPE) for number in numbers])
    t = 1 + (u * T).long()
    assert torch.equal(more.sampler.counts - plain.sampler.counts, torch.bincount(t - 1, minlength=T))
    for batch in range(2):
        part = slice(batch * BATCH, (batch + 1) * BATCH)
        plain.sampler.update(t[part], direct_losses(network, x_0, t[part], eps[None, part]).detach()[0])
    assert torch.allclose(more.sampler.history[:-1], plain.sampler.history[:-1], rtol=1e-5)


def test_the_extra_batches_differ_from_the_step_and_from_each_other():
    seen, network = [], Network()

    def recording(x_t, t):
        seen.append(x_t.detach())
        return network(x_t, t)

    objective(timesteps="importance", extra_timestep_batches=2).accumulate(recording, images(), 1)
    assert len(seen) == 3
    for a in range(3):
        for b in range(a):
            assert not torch.allclose(seen[a], seen[b], atol=0.1)


def test_the_logged_loss_does_not_depend_on_the_objective():
    network, x_0 = Network(), images()
    index = torch.arange(BATCH)
    t = 1 + ((index + noise.uniform(SEED, Stream.LOG_TIMESTEP, 9, index)[:, 0]) / BATCH * T).long()
    eps = noise.normal(SEED, Stream.LOG_EPS, 9, index, SHAPE)
    expected = direct_losses(network, x_0, t, eps[None]).mean().item()
    importance = objective(timesteps="importance", extra_timestep_batches=2, noises=3, reduction="sum")
    warm(importance)
    before = importance.sampler.history.clone()
    for made in (objective(), objective(noises=2, weights="uniform"), importance):
        for micro_batch in (None, 1, 3, 100):
            loss = made.uniform_loss(network, x_0, 9, micro_batch)["loss_uniform_t"]
            assert not loss.requires_grad
            assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(importance.sampler.history, before)
    assert all(p.grad is None for p in network.parameters())


def test_the_logged_loss_sees_every_t_as_often_and_its_mean_over_t_hardly_varies():
    seen, made, x_0, steps = [], objective(), images(), 400

    def recording(x_t, t):
        seen.append(t)
        return x_t

    for step in range(1, steps + 1):
        made.uniform_loss(recording, x_0, step)
    t = torch.stack(seen).double()
    shares = torch.bincount(t.long().flatten(), minlength=T + 1)[1:] / t.numel()
    assert torch.allclose(shares, torch.full((T,), 1 / T, dtype=shares.dtype), atol=0.02)
    independent = (T**2 - 1) / 12 / BATCH  # the variance of the mean of BATCH independent t
    assert t.mean(1).var() < independent / 4


@pytest.mark.parametrize("batch", [1, 2, 3, 6, 8])
def test_the_logged_loss_of_each_quartile_of_t_is_of_the_images_whose_t_may_lie_there(batch):
    network, x_0 = Network(), images(batch=batch)
    index = torch.arange(batch)
    t = 1 + ((index + noise.uniform(SEED, Stream.LOG_TIMESTEP, 9, index)[:, 0]) / batch * T).long()
    eps = noise.normal(SEED, Stream.LOG_EPS, 9, index, SHAPE)
    losses = direct_losses(network, x_0, t, eps[None])[0].tolist()
    for micro_batch in (None, 2):
        logged = objective().uniform_loss(network, x_0, 9, micro_batch)
        for n in range(4):
            own = [loss for i, loss in enumerate(losses) if i / batch < (n + 1) / 4 and (i + 1) / batch > n / 4]
            assert logged[f"loss_t_q{n + 1}"].item() == pytest.approx(sum(own) / len(own), rel=1e-4)


@pytest.mark.parametrize("timesteps", ["uniform", "importance"])
@pytest.mark.parametrize("micro_batch", [None, 1, 4])
def test_the_effective_noises_of_a_step_are_logged_by_quarters_of_its_t(timesteps, micro_batch):
    made = objective(noises=3, reduction="sum", timesteps=timesteps)
    logged = made.accumulate(Network(), images(), 1, micro_batch)
    t, eps = drawn(1, 3)  # an importance sampler that has seen nothing draws uniformly
    w = torch.softmax(direct_losses(Network(), images(), t, eps) * PIXELS, 0)
    by_t = [(1 / (3 * w[:, i].square().sum())).item() for i in sorted(range(BATCH), key=lambda i: t[i].item())]
    for n in range(4):
        own = [one for i, one in enumerate(by_t) if i / BATCH < (n + 1) / 4 and (i + 1) / BATCH > n / 4]
        assert logged[f"effective_noises_t_q{n + 1}"].item() == pytest.approx(sum(own) / len(own), rel=1e-3)
    assert objective().accumulate(Network(), images(), 1, micro_batch).keys() == {"loss"}


def test_steps_differ_and_repeat():
    grads = [gradient(objective(noises=2), step)[0] for step in (1, 2, 1)]
    assert torch.equal(grads[0], grads[2])
    assert not torch.allclose(grads[0], grads[1], atol=1e-3)
