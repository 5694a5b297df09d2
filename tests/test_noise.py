"""Counter-based random numbers: known answers, independence of the batch, and the right distributions."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from scipy import stats

from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

ONES = 0xFFFFFFFF
INDEX = torch.arange(40)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, words):
    tensors = noise.philox4x32(tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key))
    assert [int(word) for word in tensors] == list(words)
    assert noise.philox4x32(tuple(torch.tensor([c]) for c in counter), key)[0].item() == words[0]


def test_the_first_numbers_come_from_the_first_words():
    """The counter and the key are laid out as documented: column 0 of index 0 is the known answer."""
    first = noise.uniform(0, Stream.ORDER, 0, torch.tensor([0]), 4)[0].double()
    expected = torch.tensor([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]).double() / 2**32
    assert torch.allclose(first, expected, atol=2**-23, rtol=0)


def splits_of(cuts: list[int]) -> list[torch.Tensor]:
    bounds = [0, *sorted(cuts), len(INDEX)]
    return [INDEX[a:b] for a, b in pairwise(bounds) if b > a]


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(INDEX)), max_size=6),
    shape=st.sampled_from([(1,), (3,), (5,), (3, 8, 8), (1, 5, 7)]),
    seed=st.integers(0, ONES),
    step=st.integers(0, 10**6),
)
def test_any_split_of_the_samples_gives_the_same_numbers(cuts, shape, seed, step):
    normal = noise.normal(seed, Stream.EPS, step, INDEX, shape)
    uniform = noise.uniform(seed, Stream.EPS, step, INDEX, shape[0])
    parts = splits_of(cuts)
    assert torch.equal(torch.cat([noise.normal(seed, Stream.EPS, step, part, shape) for part in parts]), normal)
    assert torch.equal(torch.cat([noise.uniform(seed, Stream.EPS, step, p, shape[0]) for p in parts]), uniform)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)))
def test_the_order_of_the_samples_does_not_matter(order):
    order = torch.tensor(order)
    in_order = noise.normal(7, Stream.Z, 3, torch.arange(12), (3, 4))
    assert torch.equal(noise.normal(7, Stream.Z, 3, order, (3, 4)), in_order[order])


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 40))
def test_fewer_numbers_of_a_sample_are_the_first_of_more(n):
    assert torch.equal(noise.uniform(1, Stream.FLIP, 2, INDEX, n), noise.uniform(1, Stream.FLIP, 2, INDEX, 40)[:, :n])


def test_seeds_streams_steps_and_samples_differ():
    draws = [
        noise.normal(seed, stream, step, torch.tensor([index]), (8,))
        for seed in (0, 1, ONES)
        for stream in Stream
        for step in (0, 1, 1000)
        for index in (0, 1, 2**32, 2**32 + 1)
    ]
    assert len({tuple(draw[0].tolist()) for draw in draws}) == len(draws)


def test_streams_have_different_numbers():
    assert len({int(stream) for stream in Stream}) == len(Stream.__members__)


def test_uniform_numbers_are_uniform_and_inside_the_open_interval():
    u = noise.uniform(3, Stream.TIMESTEP, 5, torch.arange(20_000), 5)
    assert u.dtype == torch.float32
    assert u.shape == (20_000, 5)
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert u.double().mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / u.numel()) ** 0.5)
    assert stats.kstest(u.flatten().double().numpy(), "uniform").pvalue > 0.01


def test_normal_numbers_are_standard_normal():
    x = noise.normal(3, Stream.EPS, 5, torch.arange(20_000), (5,))
    assert x.dtype == torch.float32
    values, n = x.flatten().double(), x.numel()
    assert torch.isfinite(values).all()
    assert values.mean().item() == pytest.approx(0, abs=4 / n**0.5)
    assert values.var().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert stats.skew(values.numpy()) == pytest.approx(0, abs=4 * (6 / n) ** 0.5)
    assert stats.kurtosis(values.numpy()) == pytest.approx(0, abs=4 * (24 / n) ** 0.5)
    assert stats.kstest(values.numpy(), "norm").pvalue > 0.01


def test_numbers_are_uncorrelated_within_a_sample_between_samples_and_between_steps():
    x = noise.normal(0, Stream.EPS, 1, torch.arange(20_000), (6,)).double()
    other = noise.normal(0, Stream.EPS, 2, torch.arange(20_000), (6,)).double()
    bound = 4.5 / len(x) ** 0.5
    correlation = torch.corrcoef(torch.cat([x, other], 1).T) - torch.eye(12)
    assert correlation.abs().max() < bound
    assert (x[1:] * x[:-1]).mean(0).abs().max() < bound


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), seed=st.integers(0, ONES))
def test_a_permutation_holds_every_number_once_and_differs_between_epochs(n, seed):
    epochs = [noise.permutation(seed, Stream.ORDER, epoch, n) for epoch in range(2)]
    for order in epochs:
        assert order.dtype == torch.int64
        assert sorted(order.tolist()) == list(range(n))
    if n > 20:
        assert not torch.equal(*epochs)


def test_every_place_of_a_permutation_is_equally_likely():
    first = torch.stack([noise.permutation(0, Stream.ORDER, epoch, 5) for epoch in range(500)])
    for place in range(5):
        assert stats.chisquare(torch.bincount(first[:, place], minlength=5).numpy()).pvalue > 0.001
