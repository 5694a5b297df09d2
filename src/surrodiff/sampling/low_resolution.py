"""A DDPM at lower resolution as the surrogate (section 4.6)."""

import torch

from surrodiff.data.pixels import resize
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress


class LowResolutionDiffusion:
    """A DDPM at lower resolution that runs t = T, ..., t_mid + 1 and hands over, resized bilinearly to `image_size`.

    handover x0: its estimate of x_0 at t_mid, clipped to [-1, 1], as Algorithm 4 asks for a sample (at t_mid = 0 the
    finished sample).
    handover x_t: the noisy x_tmid itself. Bilinear resizing, which section 4.6 names, correlates its noise and, from 16
    to 32 pixels, leaves 0.65 of its standard deviation (0.625 away from the edges). The author's code resizes x_t too,
    but by nearest neighbour: each pixel twice each way, which correlates the noise and keeps its standard deviation. As
    committed it does so at every step below t_mid, so that the image doubles with each, and for batches of 1 alone.
    """

    def __init__(self, reverse: ReverseProcess, t_mid: int, image_size: int, handover: str):
        self.reverse, self.t_mid, self.image_size = reverse, t_mid, image_size
        self.hands_over_x_t = handover == "x_t"
        self.estimates = handover == "x0" and t_mid > 0

    @torch.inference_mode()
    def __call__(self, index: torch.Tensor, advance: Advance = no_progress) -> torch.Tensor:
        x = self.reverse.run(self.reverse.prior(index), index, self.reverse.schedule.T, self.t_mid, advance)
        if self.estimates:
            x = self.reverse.predict(x, self.t_mid).x_0.clamp(-1, 1)
            advance(len(index))
        elif self.t_mid == 0:
            x = x.clamp(-1, 1)
        return resize(x, self.image_size)
