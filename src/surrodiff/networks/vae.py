"""Variational and importance weighted autoencoders (Kingma & Welling, 2014; Burda et al., 2016; section 2.4).

An image x has the code z ~ N(0, I), the decoder gives p(x | z), and the encoder the Gaussian q(z | x) from which codes
are drawn. With k codes, L_k = E log (1/k) sum_i w_i, w_i = p(x, z_i) / q(z_i | x), is a bound on log p(x) that rises
with k (equation 12); L_1 is the ELBO. Autograd of it weights the gradients of the log w_i by the normalised w_i
(equation 14).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from surrodiff.runtime.noise import Draws

BIN = 2 / 255  # between two of the 256 values of a pixel in [-1, 1]
CODES_AT_ONCE = 100  # of an image, where the likelihood takes thousands; part of what random numbers depend on
SHARE_OF_SMALLER = 10  # bounds by fewer codes are averaged over a tenth as many codes in all as the tightest has
_LOG_2_PI = math.log(2 * math.pi)


def importance_weighted(log_weights: torch.Tensor) -> torch.Tensor:
    """The logarithm of the mean weight along the first axis, (k, ...) to (...): one draw of L_k (equation 12)."""
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))


class VAE(nn.Module):
    """encoder: images (B, C, S, S) to the mean and the log standard deviation of q(z | x), (B, 2 z_dim). decoder: codes
    (B, z_dim) to images (B, C, S, S): the mean of a Gaussian whose standard deviation is one number, learned too
    (Rybkin et al., 2021), or the logits of a Bernoulli distribution.

    A Gaussian's density is of pixels to which uniform noise as wide as a bin was added, so that the bounds, with the
    logarithm of the bin's width, hold for the probabilities of the 8-bit values (Theis et al., 2016). A Bernoulli
    decoder is of binary pixels, each 1 with the probability that is its intensity.

    importance_samples: k, codes inside the logarithm in training; repetitions: such bounds that are averaged.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        z_dim: int,
        likelihood: Literal["gaussian", "bernoulli"],
        importance_samples: int = 1,
        repetitions: int = 1,
    ):
        super().__init__()
        self.encoder, self.decoder, self.z_dim, self.likelihood = encoder, decoder, z_dim, likelihood
        self.importance_samples, self.repetitions = importance_samples, repetitions
        if likelihood == "gaussian":
            self.log_sigma = nn.Parameter(torch.zeros(()))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Images (B, C, S, S) in about [-1, 1] of codes (B, z_dim): the mean of p(x | z)."""
        decoded = self.decoder(z)
        return decoded if self.likelihood == "gaussian" else 2 * torch.sigmoid(decoded) - 1

    def observed(self, x_0: torch.Tensor, draws: Draws) -> torch.Tensor:
        """What p(x | z) is of, for images x_0 of 8-bit values in [-1, 1]: dequantised in [-1, 1], or binary."""
        u = draws.uniform(*x_0.shape[1:])
        return x_0 + BIN * (u - 0.5) if self.likelihood == "gaussian" else (u < (x_0 + 1) / 2).float()

    def log_density(self, x: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        """log p(x | z), (N, B), of observed x (B, C, S, S) by what the decoder gives for N codes of each,
        (N, B, C, S, S)."""
        if self.likelihood == "gaussian":
            log_sigma = self.log_sigma.float()
            each = -((x - decoded) * torch.exp(-log_sigma)).square() / 2 - log_sigma - _LOG_2_PI / 2
        else:
            each = x * decoded - F.softplus(decoded)
        return each.flatten(2).sum(-1)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation of q(z | x), (B, z_dim) each."""
        mean, log_std = self.encoder(x).float().chunk(2, 1)
        return mean, log_std

    def log_weights(self, x: torch.Tensor, posterior: tuple[torch.Tensor, torch.Tensor], eps: torch.Tensor):
        """log w (N, B) of observed x (B, C, S, S) and N codes of each, by eps ~ N(0, I) of shape (N, B, z_dim); a
        Gaussian's of the density."""
        mean, log_std = posterior
        z = mean + torch.exp(log_std) * eps
        decoded = self.decoder(z.flatten(0, 1)).float().unflatten(0, eps.shape[:2])
        prior_less_posterior = ((eps**2 - z**2) / 2).sum(-1) + log_std.sum(-1)
        return self.log_density(x, decoded) + prior_less_posterior

    def _log_bin(self, x: torch.Tensor) -> float:
        """What makes the logarithm of a density of x that of the probability of its bin."""
        return x[0].numel() * math.log(BIN) if self.likelihood == "gaussian" else 0.0

    def loss(self, x_0: torch.Tensor, draws: Draws) -> torch.Tensor:
        """-L_k in nats per image, averaged over the repetitions and the batch."""
        x, k = self.observed(x_0, draws), self.importance_samples
        eps = draws.normal(k * self.repetitions, self.z_dim).transpose(0, 1)
        log_weights = self.log_weights(x, self.posterior(x), eps).unflatten(0, (k, self.repetitions))
        return -importance_weighted(log_weights).mean() - self._log_bin(x)

    @torch.no_grad()
    def bounds(self, x_0: torch.Tensor, draws: Draws, sizes: tuple[int, ...]) -> torch.Tensor:
        """L_k in nats for each k of sizes, in rising order, float64 (B, len(sizes)): each by codes of its own, so that
        a difference of two says something; all but the last are means over several draws of L_k."""
        x = self.observed(x_0, draws)
        posterior = self.posterior(x)
        found = []
        for k in sizes:
            count = k * max(1, sizes[-1] // (SHARE_OF_SMALLER * k) if k < sizes[-1] else 1)
            parts = []
            for first in range(0, count, CODES_AT_ONCE):
                eps = draws.normal(min(CODES_AT_ONCE, count - first), self.z_dim).transpose(0, 1)
                parts.append(self.log_weights(x, posterior, eps).double())
            found.append(importance_weighted(torch.cat(parts).unflatten(0, (k, count // k))).mean(0))
        return torch.stack(found, 1) + self._log_bin(x)


def connected(image_size: int, channels: int, z_dim: int, width: int) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder with two layers of tanh units each (Burda et al., 2016, with one stochastic layer)."""
    shape = (channels, image_size, image_size)
    encoder = nn.Sequential(nn.Flatten(), *_tanh_layers(math.prod(shape), width, 2 * z_dim))
    decoder = nn.Sequential(*_tanh_layers(z_dim, width, math.prod(shape)), nn.Unflatten(1, shape))
    return encoder, decoder


def _tanh_layers(inputs: int, width: int, outputs: int) -> list[nn.Module]:
    layers = [nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return [layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2]]


def halvings(image_size: int) -> int:
    """How often a side is halved: while it is even and beyond 4 pixels."""
    return 0 if image_size <= 4 or image_size % 2 else 1 + halvings(image_size // 2)


def convolutional(image_size: int, channels: int, z_dim: int, width: int) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder of 3x3 convolutions and SiLU: two at each resolution, the first with `width` channels,
    all others with twice as many; the sides are halved as `halvings` says."""
    levels = halvings(image_size)
    side, widths = image_size >> levels, [width] + [2 * width] * levels
    values = widths[-1] * side**2
    down, up = [*_conv(channels, width)], []
    for wide, narrow in zip(widths[1:], widths, strict=False):
        down += [*_conv(narrow, narrow), *_conv(narrow, wide, stride=2)]
        up = [nn.Upsample(scale_factor=2), *_conv(wide, narrow), *_conv(narrow, narrow), *up]
    encoder = nn.Sequential(*down, *_conv(widths[-1], widths[-1]), nn.Flatten(), nn.Linear(values, 2 * z_dim))
    decoder = nn.Sequential(
        nn.Linear(z_dim, values),
        nn.Unflatten(1, (widths[-1], side, side)),
        *_conv(widths[-1], widths[-1]),
        *up,
        nn.Conv2d(width, channels, 3, padding=1),
    )
    return encoder, decoder


def _conv(c_in: int, c_out: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1), nn.SiLU()
