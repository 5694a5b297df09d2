"""Surrogate Diffusion (section 3.2, Algorithm 4)."""

import torch

from surrodiff.diffusion.reverse import Advance, ReverseProcess, Sampler, no_progress
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream


class SurrogateDiffusion:
    """Algorithm 4: noise the surrogate's sample to t_mid, then the reverse steps t = t_mid, ..., 1.

    surrogate: any sampler of images of the same size, or one that hands over a noisy x_tmid itself.
    """

    hands_over_x_t = False

    def __init__(self, surrogate: Sampler, t_mid: int, reverse: ReverseProcess):
        self.surrogate, self.t_mid, self.reverse = surrogate, t_mid, reverse

    @torch.inference_mode()
    def __call__(self, index: torch.Tensor, advance: Advance = no_progress) -> torch.Tensor:
        x = self.surrogate(index, advance)
        if not self.surrogate.hands_over_x_t:
            x = self.noised(x, index)
        return self.reverse.run(x, index, self.t_mid, 0, advance)

    def noised(self, x_0: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """x_tmid ~ q(x_tmid | x_0); x_0 itself where t_mid = 0."""
        eps = noise.normal(self.reverse.seed, Stream.FORWARD, self.t_mid, index, self.reverse.shape)
        return self.reverse.schedule.q_sample(x_0, self.t_mid, eps)
