"""Samples of a diffusion alone."""

import torch

from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress


class WholeProcess:
    """The whole reverse process, from x_T ~ N(0, I) to x_0."""

    hands_over_x_t = False

    def __init__(self, reverse: ReverseProcess):
        self.reverse = reverse

    @torch.inference_mode()
    def __call__(self, index: torch.Tensor, advance: Advance = no_progress) -> torch.Tensor:
        return self.reverse.run(self.reverse.prior(index), index, self.reverse.schedule.T, 0, advance)
