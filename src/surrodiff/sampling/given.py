"""Images that are there, as a sampler: sample number i is image i."""

import torch

from surrodiff.data.pixels import to_float
from surrodiff.diffusion.reverse import Advance, no_progress


class GivenImages:
    """images: uint8 (N, C, S, S), as float images in [-1, 1] on a device."""

    hands_over_x_t = False
    reverse = None

    def __init__(self, images: torch.Tensor, device: torch.device):
        self.images, self.device = images, device

    def __call__(self, index: torch.Tensor, advance: Advance = no_progress) -> torch.Tensor:
        return to_float(self.images[index.cpu()].to(self.device))
