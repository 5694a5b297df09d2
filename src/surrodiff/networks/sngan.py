"""SNGAN-ResNet (Miyato et al., 2018; 32x32 in the paper), for images of a power of two from 8 pixels."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def _conv(c_in: int, c_out: int, size: int, gain: float) -> nn.Conv2d:
    conv = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    nn.init.xavier_uniform_(conv.weight, gain)
    nn.init.zeros_(conv.bias)
    return conv


class _UpBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            _conv(channels, channels, 3, math.sqrt(2)),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            _conv(channels, channels, 3, math.sqrt(2)),
        )
        self.shortcut = nn.Sequential(nn.Upsample(scale_factor=2), _conv(channels, channels, 1, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residual(x) + self.shortcut(x)


class Generator(nn.Module):
    """z (B, z_dim) to images (B, C, S, S) in [-1, 1]: 4x4, doubled until S."""

    def __init__(self, image_size: int, image_channels: int, z_dim: int, channels: int):
        super().__init__()
        self.channels, self.z_dim = channels, z_dim
        self.linear = nn.Linear(z_dim, 4 * 4 * channels)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.blocks = nn.Sequential(*[_UpBlock(channels) for _ in range(int(math.log2(image_size // 4)))])
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), _conv(channels, image_channels, 3, 1.0), nn.Tanh()
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.linear(z).reshape(-1, self.channels, 4, 4)))


class _DownBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, down: bool, first: bool = False):
        super().__init__()
        pool = nn.AvgPool2d(2) if down else nn.Identity()
        self.residual = nn.Sequential(
            nn.Identity() if first else nn.ReLU(),
            spectral_norm(_conv(c_in, c_out, 3, math.sqrt(2))),
            nn.ReLU(),
            spectral_norm(_conv(c_out, c_out, 3, math.sqrt(2))),
            pool,
        )
        convolved = c_in != c_out or down
        # The first block pools before its 1x1 convolution, the others after it (Miyato's code).
        shortcut = [spectral_norm(_conv(c_in, c_out, 1, 1.0))] if convolved else []
        self.shortcut = nn.Sequential(*([pool, *shortcut] if first else [*shortcut, pool]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residual(x) + self.shortcut(x)


class Discriminator(nn.Module):
    """Images (B, C, S, S) in [-1, 1] to scores (B,): two blocks that halve (one where S = 8), two that do not."""

    def __init__(self, image_size: int, image_channels: int, channels: int):
        super().__init__()
        halvings = 2 if image_size >= 16 else 1
        self.blocks = nn.Sequential(
            _DownBlock(image_channels, channels, down=True, first=True),
            *[_DownBlock(channels, channels, down=number < halvings) for number in range(1, 4)],
            nn.ReLU(),
        )
        linear = nn.Linear(channels, 1, bias=False)
        nn.init.xavier_uniform_(linear.weight)
        self.linear = spectral_norm(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.blocks(x).sum((2, 3)))[:, 0]


def hinge_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the discriminator from its scores (B,) of real and generated images."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
