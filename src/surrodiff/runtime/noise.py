"""Counter-based random numbers: every (seed, stream, step, index) has its own, whatever the batch, process or device.

Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3") in int64 tensor operations. Because a
number depends on what it is for and not on what was drawn before, any split of the samples over batches and machines
gives the same noise, and a resumed training draws what the uninterrupted one would have drawn.
"""

import math
from enum import IntEnum

import torch

_MASK = 0xFFFFFFFF


class Stream(IntEnum):
    """What a random number is for; part of its key, so that no two uses share numbers."""

    ORDER = 0
    FLIP = 1
    TIMESTEP = 2
    EPS = 3
    EXTRA_TIMESTEP = 4
    EXTRA_EPS = 5
    LOG_TIMESTEP = 6
    LOG_EPS = 7
    DROPOUT = 8
    INIT = 9
    DEQUANTISE = 10
    Z = 11
    Z_DISCRIMINATOR = 12
    REVERSE = 13  # the prior x_T and the noise of each reverse step
    FORWARD = 14  # q(x_tmid | x_0) of a surrogate's sample
    LOW_RESOLUTION = 15  # the reverse process of a low-resolution surrogate
    SPLIT = 16
    BOUND = 17  # which held-out images the variational bound is of, and their q(x_t | x_0)
    SCORING = 18  # the order in which real images are scored
    DAMAGE = 19
    GENERATOR_LOSS = 20  # what the loss of a generator with a likelihood draws
    GENERATOR_LIKELIHOOD = 21
    DIAGNOSIS = 22
    GIVEN = 23  # the order of images that no network makes
    REFINEMENT = 24  # the reverse process that begins with another run's samples


def philox4x32(counter, key, rounds: int = 10):
    """Four words of 32 bits for a counter of four and a key of two such words (int64 tensors or ints, broadcast)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def _words(seed: int, stream: Stream, step, index: torch.Tensor, n: int) -> torch.Tensor:
    """(B, n rounded up to a multiple of 4) words; column j is a function of (seed, stream, step, index, j) alone."""
    # Broadcast as late as Philox mixes them: its first rounds work on rows and columns alone.
    j, i = torch.arange((n + 3) // 4, device=index.device)[None], index[:, None]
    counter = (j, step if isinstance(step, int) else step[:, None], i & _MASK, i >> 32)
    return torch.stack(philox4x32(counter, (seed, int(stream))), -1).reshape(len(index), -1)


def uniform(seed: int, stream: Stream, step: int, index: torch.Tensor, n: int = 1) -> torch.Tensor:
    """(B, n) float32 in (0, 1) for int64 sample numbers index (B,)."""
    # 23 bits and half a step up are exact in float32, which keeps 0 and 1 out.
    return ((_words(seed, stream, step, index, n)[:, :n] >> 9).float() + 0.5) * 2.0**-23


def normal(seed: int, stream: Stream, step, index: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """(B, *shape) float32 standard normal for int64 sample numbers index (B,), by Box and Muller.

    step: an int, or int64 (B,), with which a compiled caller serves all steps.
    """
    n = math.prod(shape)
    words = _words(seed, stream, step, index, n)
    radius, angle = ((words.float() + 0.5) * 2.0**-32).reshape(len(index), -1, 2).unbind(-1)
    radius, angle = torch.sqrt(-2 * torch.log(radius)), 2 * math.pi * angle
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
    return pairs.reshape(len(index), -1)[:, :n].reshape(len(index), *shape)


def permutation(seed: int, stream: Stream, step: int, n: int, device=None) -> torch.Tensor:
    """A random order of 0, ..., n - 1, int64 (n,)."""
    words = _words(seed, stream, step, torch.arange(n, device=device), 2)
    return torch.argsort((words[:, 0] << 31) ^ words[:, 1], stable=True)


class Draws:
    """Random numbers for the rows of a batch. Each call gives new ones, which depend on the seed, the stream, the
    number of the batch, the row and the place of the call alone."""

    def __init__(self, seed: int, stream: Stream, number: int, index: torch.Tensor):
        """index: int64 (B,), the rows."""
        self.seed, self.stream, self.number, self.index, self.calls = seed, stream, number, index, 0

    def _rows(self) -> torch.Tensor:
        self.calls += 1
        return self.index + (self.calls << 32)

    def normal(self, *shape: int) -> torch.Tensor:
        """(B, *shape) float32 standard normal."""
        return normal(self.seed, self.stream, self.number, self._rows(), shape)

    def uniform(self, *shape: int) -> torch.Tensor:
        """(B, *shape) float32 in (0, 1)."""
        rows = self._rows()
        return uniform(self.seed, self.stream, self.number, rows, math.prod(shape)).reshape(len(rows), *shape)
