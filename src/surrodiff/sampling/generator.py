"""Samples of a generator, the cheap model of section 4.6."""

import torch

from surrodiff.diffusion.reverse import Advance, no_progress
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream


class GeneratorSampler:
    """Samples of a generator: z ~ N(0, I) to images in [-1, 1]."""

    hands_over_x_t = False
    reverse = None

    def __init__(self, generator, z_dim: int, seed: int):
        self.generator, self.z_dim, self.seed = generator, z_dim, seed

    @torch.inference_mode()
    def __call__(self, index: torch.Tensor, advance: Advance = no_progress) -> torch.Tensor:
        images = self.generator(noise.normal(self.seed, Stream.Z, 0, index, (self.z_dim,))).float()
        advance(len(index))
        return images
