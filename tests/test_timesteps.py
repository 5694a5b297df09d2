"""How timesteps are drawn: the history, the probabilities, and that the objective's mean stays."""

from collections import deque

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats

from surrodiff.diffusion.timesteps import Importance, Uniform
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

SHARE = 0.001


def uniforms(seed: int, count: int) -> torch.Tensor:
    return noise.uniform(seed, Stream.TIMESTEP, 0, torch.arange(count))[:, 0]


def warmed(rows: np.ndarray) -> Importance:
    """A sampler whose history holds row t - 1 (10 losses) for timestep t."""
    sampler = Importance(len(rows))
    for column in rows.T:
        sampler.update(torch.arange(1, len(rows) + 1), torch.tensor(column))
    return sampler


def probabilities(rows: np.ndarray) -> np.ndarray:
    root = np.sqrt((rows.astype(np.float32).astype(np.float64) ** 2).mean(1))
    return (1 - SHARE) * root / root.sum() + SHARE / len(rows)


@st.composite
def batches(draw):
    T = draw(st.integers(1, 6))
    entry = st.tuples(st.integers(1, T), st.floats(0, 5, width=32))
    return T, draw(st.lists(st.lists(entry, min_size=1, max_size=45), min_size=1, max_size=8))


@settings(max_examples=80, deadline=None)
@given(batches())
def test_the_history_keeps_the_last_ten_losses_of_each_timestep(case):
    T, sequence = case
    sampler, last, seen = Importance(T), {t: deque(maxlen=10) for t in range(1, T + 1)}, [0] * T
    for batch in sequence:
        t, losses = zip(*batch, strict=True)
        sampler.update(torch.tensor(t), torch.tensor(losses, dtype=torch.float32))
        for step, loss in batch:
            last[step].append(loss)
            seen[step - 1] += 1
    assert sampler.counts.tolist() == seen
    rings = sampler.history[:-1].reshape(T, 10)
    for step, kept in last.items():
        assert sorted(rings[step - 1, : len(kept)].tolist()) == sorted(kept)
    warm = all(len(kept) == 10 for kept in last.values())
    if warm and any(map(any, last.values())):
        assert np.allclose(sampler.probabilities(), probabilities(np.array([list(k) for k in last.values()])))
    else:
        assert np.allclose(sampler.probabilities(), 1 / T)


def test_of_more_than_ten_equal_timesteps_in_a_batch_the_last_ten_stay():
    sampler = Importance(3)
    sampler.update(torch.tensor([2] * 4), torch.tensor([100.0] * 4))
    t = torch.tensor([2, 1] * 23)
    sampler.update(t, torch.arange(46.0))
    rings = sampler.history[:-1].reshape(3, 10)
    assert sorted(rings[1].tolist()) == [float(2 * n) for n in range(13, 23)]
    assert sorted(rings[0].tolist()) == [float(2 * n + 1) for n in range(13, 23)]
    assert sampler.counts.tolist() == [23, 27, 0]


def test_the_oldest_loss_is_the_one_replaced():
    sampler = Importance(1)
    for loss in range(25):
        sampler.update(torch.tensor([1]), torch.tensor([float(loss)]))
        assert sorted(sampler.history[: min(loss + 1, 10)].tolist()) == list(range(max(0, loss - 9), loss + 1))


def test_one_cold_timestep_keeps_the_draws_uniform():
    sampler, T = Importance(4), 4
    losses = torch.tensor([9.0, 1.0, 1.0, 1.0])
    for _ in range(9):
        sampler.update(torch.arange(1, T + 1), losses)
    for _ in range(10):
        sampler.update(torch.arange(1, T), losses[:3])
    u = uniforms(0, 1000)
    t, weights = sampler.draw(u)
    assert torch.equal(t, Uniform(T).draw(u)[0])
    assert torch.equal(weights, torch.ones(1000))
    assert np.allclose(sampler.probabilities(), 1 / T)
    sampler.update(torch.tensor([T]), losses[3:])
    assert sampler.probabilities()[0] > 0.7


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_probabilities_agree_with_the_formula(T, seed):
    rows = np.random.default_rng(seed).exponential(size=(T, 10)) * np.random.default_rng(seed + 1).random((T, 1)) ** 3
    sampler = warmed(rows)
    assert np.allclose(sampler.probabilities(), probabilities(rows), rtol=1e-9)
    assert sampler.probabilities().sum().item() == pytest.approx(1, abs=1e-12)
    assert sampler.probabilities().min().item() >= 0.999 * SHARE / T


def test_losses_of_zero_leave_the_draws_uniform():
    assert np.allclose(warmed(np.zeros((5, 10))).probabilities(), 1 / 5)


def varied(T: int = 25) -> tuple[np.ndarray, Importance]:
    """Losses L_t that fall steeply with t, and a sampler that has seen noisy versions of them."""
    losses = 2.0 / np.arange(1, T + 1) + 0.02
    scatter = np.random.default_rng(0).lognormal(0, 0.3, (T, 10))
    return losses, warmed(losses[:, None] * scatter)


def test_timesteps_come_as_often_as_their_probabilities_say():
    _, sampler = varied()
    t, weights = sampler.draw(uniforms(1, 100_000))
    p = sampler.probabilities().numpy()
    assert t.dtype == torch.int64
    assert stats.chisquare(np.bincount(t, minlength=26)[1:], p * len(t)).pvalue > 0.01
    assert weights.dtype == torch.float32
    assert np.allclose(weights, 1 / (25 * p[t.numpy() - 1]))


@pytest.mark.parametrize("seed", range(3))
def test_weighted_losses_have_the_mean_of_uniform_timesteps(seed):
    losses, sampler = varied()
    t, weights = sampler.draw(uniforms(seed, 200_000))
    weighted = weights.double().numpy() * losses[t.numpy() - 1]
    assert weighted.mean() == pytest.approx(losses.mean(), abs=4 * weighted.std() / len(weighted) ** 0.5)


def test_weighted_losses_vary_less_than_those_of_uniform_timesteps():
    losses, sampler = varied()
    u = uniforms(4, 20_000)
    t, weights = sampler.draw(u)
    uniform_t, _ = Uniform(25).draw(u)
    assert np.var(weights.numpy() * losses[t.numpy() - 1]) < 0.2 * np.var(losses[uniform_t.numpy() - 1])


@pytest.mark.parametrize("T", [1, 2, 7, 100, 1000])
def test_uniform_covers_every_timestep_equally(T):
    u = (torch.arange(3 * T) + 0.5) / (3 * T)
    t, weights = Uniform(T).draw(u)
    assert torch.equal(t, torch.arange(1, T + 1).repeat_interleave(3))
    assert torch.equal(weights, torch.ones(3 * T))


@pytest.mark.parametrize("T", [1, 2, 1000])
def test_the_smallest_and_largest_numbers_give_the_first_and_last_timestep(T):
    ends = torch.tensor([0.5 * 2.0**-23, 1 - 2.0**-24])
    assert Uniform(T).draw(ends)[0].tolist() == [1, T]
    assert Importance(T).draw(ends)[0].tolist() == [1, T]
    assert warmed(np.ones((T, 10))).draw(ends)[0].tolist() == [1, T]


def test_a_saved_state_goes_on_as_if_never_interrupted():
    _, sampler = varied()
    state = {name: tensor.clone() for name, tensor in sampler.state().items()}
    other = Importance(25)
    other.load_state(state)
    u = uniforms(5, 500)
    for _ in range(3):
        t, weights = sampler.draw(u)
        other_t, other_weights = other.draw(u)
        assert torch.equal(t, other_t)
        assert torch.equal(weights, other_weights)
        sampler.update(t, 1.0 / t)
        other.update(t, 1.0 / t)
    assert torch.equal(sampler.probabilities(), other.probabilities())


def test_uniform_has_no_state():
    sampler = Uniform(5)
    sampler.update(torch.tensor([1, 2]), torch.tensor([3.0, 4.0]))
    assert sampler.state() == {}
    sampler.load_state({})
    assert sampler.draw(torch.tensor([0.5]))[0].tolist() == [3]
