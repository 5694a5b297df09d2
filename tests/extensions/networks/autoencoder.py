"""A linear autoencoder of images."""

import math

import torch
from torch import nn


class Encoder(nn.Module):
    """Images (B, C, S, S) to the means (B, z_dim) of their codes."""

    def __init__(self, image_size: int, image_channels: int, z_dim: int):
        super().__init__()
        self.linear = nn.Linear(image_channels * image_size**2, z_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


class Decoder(nn.Module):
    """Codes (B, z_dim) to images (B, C, S, S) in [-1, 1]."""

    def __init__(self, image_size: int, image_channels: int, z_dim: int):
        super().__init__()
        self.shape = (image_channels, image_size, image_size)
        self.linear = nn.Linear(z_dim, math.prod(self.shape))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.linear(z).unflatten(1, self.shape).tanh()
