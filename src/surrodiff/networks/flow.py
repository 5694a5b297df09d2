"""A normalising flow for images (Glow: Kingma & Dhariwal, 2018), of normflows' transforms (Stimper et al., 2023)."""

import math

import torch
from normflows.flows import AffineCouplingBlock, Invertible1x1Conv, Merge, Squeeze
from normflows.nets import ConvNet2d
from normflows.transforms import Logit
from torch import nn

from surrodiff.runtime.noise import Draws, Stream

ALPHA = 0.05  # of RealNVP's logit: pixels from 0 to 1 become the logits of 0.05 to 0.95
LARGEST_LOG_SCALE = 2.0  # of a coupling
LEAST_STD = 1e-3  # of a channel, by which `begin` divides


class _Standardiser(nn.Module):
    """From latents to images, a scale and shift of each channel, or of each value (Glow's activation normalisation).

    Not normflows' ActNorm, which asks the device at every evaluation whether it has begun.
    """

    def __init__(self, channels: int, height: int = 1, width: int = 1):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, channels, height, width))
        self.shift = nn.Parameter(torch.zeros(1, channels, height, width))

    def begin(self, x: torch.Tensor):
        """Make the inverse of x (B, C, H, W) have mean 0 and variance 1 over all that shares a scale."""
        over = [0] + [dim for dim in (2, 3) if self.shift.shape[dim] == 1]
        std, mean = torch.std_mean(x, over, correction=0, keepdim=True)
        self.log_scale.copy_(std.clamp(min=LEAST_STD).log())
        self.shift.copy_(mean)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * self.log_scale.exp() + self.shift, self._log_det(x)

    def inverse(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (x - self.shift) * (-self.log_scale).exp(), -self._log_det(x)

    def _log_det(self, x: torch.Tensor) -> torch.Tensor:
        return self.log_scale.sum() * (x[0].numel() // self.log_scale.numel())


class _ShiftAndScale(ConvNet2d):
    """The shifts, and between them the logarithms of scales, of a coupling; all 0 at first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shift, log_scale = super().forward(x).unflatten(1, (-1, 2)).unbind(2)
        # Unbounded scales send some latents to infinity in a few steps, and their images to NaN.
        return torch.stack([shift, LARGEST_LOG_SCALE * torch.tanh(log_scale / LARGEST_LOG_SCALE)], 2).flatten(1, 2)


def _step(channels: int, hidden_channels: int) -> list[nn.Module]:
    """One step of the flow, from latents to images: affine coupling, 1x1 convolution, a scale and shift per channel."""
    coupling = _ShiftAndScale((channels // 2, hidden_channels, hidden_channels, channels), (3, 1, 3))
    return [
        AffineCouplingBlock(coupling, scale_map="exp"),
        Invertible1x1Conv(channels, use_lu=False),
        _Standardiser(channels),
    ]


class Flow(nn.Module):
    """An invertible map between standard normal z (B, C*S*S) and images (B, C, S, S) in [-1, 1].

    From images: logits of the pixels, then at each level a squeeze of 2x2 pixels into channels and `steps_per_level`
    steps; all levels but the last keep half of the channels as latents (Glow, figure 2). The latents of a level get a
    learned scale and shift each.
    """

    def __init__(self, image_size: int, image_channels: int, levels: int, steps_per_level: int, hidden_channels: int):
        """image_size: divisible by 2^levels. The first weights are from PyTorch's generator."""
        super().__init__()
        self.image_shape = (image_channels, image_size, image_size)
        self.z_dim = math.prod(self.image_shape)
        self.logit, self.squeeze, self.merge = Logit(ALPHA), Squeeze(), Merge()
        self.levels, self.priors, self.shapes = nn.ModuleList(), nn.ModuleList(), []
        channels, side = image_channels, image_size
        for level in range(levels):
            channels, side = 4 * channels, side // 2
            steps = [part for _ in range(steps_per_level) for part in _step(channels, hidden_channels)]
            self.levels.append(nn.ModuleList(steps))
            if level < levels - 1:
                channels //= 2
            self.shapes.append((channels, side, side))  # of the latents that leave here
            self.priors.append(_Standardiser(*self.shapes[-1]))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Images (B, C, S, S) of latents z (B, C*S*S), from -1.12 to 1.12: the logit reaches that far beyond pixels."""
        parts = z.split([math.prod(shape) for shape in self.shapes], 1)
        x = None
        for part, shape, prior, steps in reversed(list(zip(parts, self.shapes, self.priors, self.levels, strict=True))):
            latents, _ = prior(part.reshape(-1, *shape))
            x = latents if x is None else self.merge([x, latents])[0]
            for transform in steps:
                x, _ = transform(x)
            x, _ = self.squeeze(x)
        y, _ = self.logit(x)
        return (256 * y - 128) / 127.5

    def inverse(self, images: torch.Tensor, begins: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents z (B, C*S*S) of dequantised images (B, C, S, S), and the logarithm of |det dz/dimages| (B,).

        begins: the scales and shifts are set on the way, so that their outputs have mean 0 and variance 1.
        """
        x, total = self.logit.inverse((127.5 * images + 128) / 256)
        total = total + self.z_dim * math.log(127.5 / 256)
        parts = []
        for level, (steps, prior) in enumerate(zip(self.levels, self.priors, strict=True)):
            x, _ = self.squeeze.inverse(x)
            for transform in reversed(steps):
                if begins and isinstance(transform, _Standardiser):
                    transform.begin(x)
                x, log_det = transform.inverse(x)
                total = total + log_det
            latents = x
            if level < len(self.levels) - 1:
                (x, latents), _ = self.merge.inverse(x)
            if begins:
                prior.begin(latents)
            latents, log_det = prior.inverse(latents)
            total = total + log_det
            parts.append(latents.flatten(1))
        return torch.cat(parts, 1), total

    def log_density(self, images: torch.Tensor) -> torch.Tensor:
        """Logarithm (B,) of the density of dequantised images (B, C, S, S)."""
        z, log_det = self.inverse(images)
        return log_det - (z**2 + math.log(2 * math.pi)).sum(1) / 2

    def _dequantised(self, x_0: torch.Tensor, draws: Draws, samples: int = 1) -> torch.Tensor:
        """Images (B * samples, C, S, S), uniform within half an 8-bit level of x_0 (B, C, S, S): between -1 - 1/255 and
        1 + 1/255, and x_0 if rounded."""
        u = draws.uniform(samples, *self.image_shape).to(x_0)
        return (x_0[:, None] + (u - 0.5) / 127.5).flatten(0, 1)

    @torch.no_grad()
    def begin(self, x_0: torch.Tensor):
        """Set the scales and shifts by a first batch of images x_0 (B, C, S, S) in [-1, 1] (Glow, section 3.1)."""
        draws = Draws(0, Stream.GENERATOR_LOSS, 0, torch.arange(len(x_0), device=x_0.device))
        self.inverse(self._dequantised(x_0, draws), begins=True)

    def log_likelihood(self, x_0: torch.Tensor, draws: Draws, samples: int = 1) -> torch.Tensor:
        """Nats (B,) of images x_0 (B, C, S, S) in [-1, 1] of 8 bits: in expectation a bound from below (Theis et al.,
        2016, section 3.1), which `samples` dequantisations averaged inside the logarithm make tighter (Burda et al.,
        2016, theorem 1)."""
        cell = self.z_dim * math.log(127.5)  # of an 8-bit level, 1/127.5 wide
        nats = self.log_density(self._dequantised(x_0, draws, samples)).reshape(len(x_0), samples)
        return torch.logsumexp(nats, 1) - math.log(samples) - cell

    def loss(self, x_0: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Mean bits per dimension () of images x_0 (B, C, S, S) in [-1, 1] of 8 bits, by one dequantisation each."""
        return -self.log_likelihood(x_0, draws).mean() / (self.z_dim * math.log(2))
