"""A linear autoencoder of images."""

import torch
from torch import nn


class LinearAutoencoder(nn.Module):
    """A linear variational autoencoder (Kingma and Welling, 2014), whose codes have unit variance."""

    def __init__(self, image_size: int, image_channels: int, z_dim: int, prior_weight: float):
        super().__init__()
        self.z_dim, self.prior_weight, self.shape = z_dim, prior_weight, (image_channels, image_size, image_size)
        pixels = image_channels * image_size**2
        self.encoder, self.decoder = nn.Linear(pixels, z_dim), nn.Linear(z_dim, pixels)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Codes (B, z_dim) to images (B, C, S, S) in [-1, 1]."""
        return self.decoder(z).unflatten(1, self.shape).tanh()

    def loss(self, x_0: torch.Tensor, draws) -> torch.Tensor:
        """The squared error of the decoded images, and `prior_weight` of the codes' squared distance from 0."""
        mean = self.encoder(x_0.flatten(1))
        decoded = self.decoder(mean + draws.normal(self.z_dim)).unflatten(1, self.shape).tanh()
        return (decoded - x_0).square().mean() + self.prior_weight * mean.square().mean()
