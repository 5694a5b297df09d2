"""The UNet of the paper's section 4.1, in all architectures of Table 4.3."""

import torch
import torch.nn.functional as F
from torch import nn

from surrodiff.config.models import Network
from surrodiff.networks.blocks import Attention, GroupNorm, MBConvBlock, ResBlock, TimestepEmbedding, initialise


class _Level(nn.Module):
    """One block, and attention where the level has it."""

    def __init__(self, block: nn.Module, attention: nn.Module):
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        return self.attention(self.block(x, temb))


class _Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class UNet(nn.Module):
    """eps_theta(x_t, t): images (B, C, H, W) and timesteps int64 (B,) in 1..T to predicted noise (B, C, H, W), or what
    else the model predicts; with a learned variance (B, 2 C, H, W), the second half for that.

    Initialised as in the author's code (docs/paper.md): Xavier, but for MBConv blocks; the last layer begins near 0.
    """

    def __init__(self, network: Network, image_channels: int):
        super().__init__()
        ch, groups = network.base_channels, network.groups
        widths = [ch * m for m in network.channel_multipliers]
        block_type, attention_gain = {"standard": (ResBlock, 1.0), "mbconv": (MBConvBlock, 1e-5)}[network.block]

        def block(c_in: int, c_out: int) -> nn.Module:
            return block_type(c_in, c_out, 4 * ch, groups, network.dropout)

        def attention(channels: int) -> nn.Module:
            return Attention(channels, groups, attention_gain)

        def level(number: int, c_in: int, c_out: int) -> nn.Module:
            attended = attention(c_out) if number in network.attention_levels else nn.Identity()
            return _Level(block(c_in, c_out), attended)

        self.temb = TimestepEmbedding(ch)
        self.stem = nn.Conv2d(image_channels, ch, 3, padding=1)
        initialise(self.stem)

        self.down = nn.ModuleList()
        c, skips = ch, [ch]
        for number, width in enumerate(widths):
            for _ in range(network.num_res_blocks):
                self.down.append(level(number, c, width))
                c = width
                skips.append(c)
            if number < len(widths) - 1:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                initialise(self.down[-1])
                skips.append(c)

        self.middle = nn.ModuleList([_Level(block(c, c), attention(c)), _Level(block(c, c), nn.Identity())])

        self.up = nn.ModuleList()
        for number, width in reversed(list(enumerate(widths))):
            for _ in range(network.num_res_blocks + 1):
                self.up.append(level(number, c + skips.pop(), width))
                c = width
            if number > 0:
                self.up.append(_Upsample(c))

        out_channels = image_channels * (2 if network.learned_variance else 1)
        self.head = nn.Sequential(GroupNorm(groups, c), nn.SiLU(), nn.Conv2d(c, out_channels, 3, padding=1))
        initialise(self.head, gain=1e-5)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        temb = self.temb(t, x_t.dtype)
        h = self.stem(x_t)
        skips = [h]
        for layer in self.down:
            h = layer(h, temb) if isinstance(layer, _Level) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, temb)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], 1), temb) if isinstance(layer, _Level) else layer(h)
        return self.head(h)
