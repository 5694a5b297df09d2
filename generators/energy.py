"""A generator trained by the energy distance (Szekely & Rizzo, 2013), in one file: an example for your own.

params.yaml, under `models`:

    Energy:
      kind: own
      file: generators/energy.py
      image_size: 32
      settings: {z_dim: 32, width: 256}
      training: {steps: 20000, snapshot_every: 20000, batch_size: 128, learning_rate: 0.001, warmup_steps: 100,
        grad_clip: 1.0, ema_decay: 0.99, horizontal_flip: true, precision: float32, revision: 1}

with `image_size: 8` under `presets.demo.models.Energy` and `presets.test.models.Energy`, whose images are smaller; and
in a study's row `surrogate: Energy`.
"""

import torch
from torch import nn


class Generator(nn.Module):
    """Two hidden layers from z ~ N(0, I), (B, z_dim), to images (B, C, S, S) in [-1, 1]."""

    def __init__(self, image_size: int, channels: int, z_dim: int, width: int):
        super().__init__()
        self.z_dim, self.shape = z_dim, (channels, image_size, image_size)
        pixels = channels * image_size**2
        self.layers = nn.Sequential(
            *(nn.Linear(z_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()),
            *(nn.Linear(width, pixels), nn.Tanh()),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z).reshape(-1, *self.shape)

    def loss(self, x_0: torch.Tensor, draws) -> torch.Tensor:
        """2 E|x - G(z)| - E|G(z) - G(z')|, which is least where G(z) is distributed as x.

        draws: random numbers for each image of the batch; `draws.normal(n)` is (B, n) and new with every call.
        """
        one, other = (self.layers(draws.normal(self.z_dim)) for _ in range(2))
        return 2 * torch.cdist(x_0.flatten(1), one).mean() - torch.cdist(one, other).mean()
