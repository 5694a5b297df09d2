"""Ancestral sampling (Algorithm 2)."""

import torch

from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress


class Ancestral:
    """Algorithm 2: the whole reverse process."""

    hands_over_x_t = False

    def __init__(self, reverse: ReverseProcess):
        self.reverse = reverse
        self.evaluations = reverse.schedule.T

    @torch.inference_mode()
    def __call__(self, index: torch.Tensor, advance: Advance = no_progress) -> torch.Tensor:
        return self.reverse.run(self.reverse.prior(index), index, self.reverse.schedule.T, 0, advance)
