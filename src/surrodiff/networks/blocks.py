"""The building blocks of the UNet: residual blocks (Figure 4.1), MBConv blocks (section 4.4) and attention."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CACHED = 2**21  # bytes of an MBConv block's hidden maps that a thread keeps in its caches from one layer to the next


def initialise(module: nn.Module, gain: float = 1.0):
    """Xavier-uniform weights and zero biases of every convolution and linear layer inside `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def silu_of(h: torch.Tensor) -> torch.Tensor:
    """SiLU of a layer's output that nothing else reads: in inference in its place, which spares a pass over memory."""
    return F.silu(h, inplace=not torch.is_grad_enabled())


def add_to(h: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The sum, where nothing else reads h: in inference in h's place."""
    return other + h if torch.is_grad_enabled() else h.add_(other)


class TimestepEmbedding(nn.Module):
    """Sinusoidal position embedding (Vaswani et al., 2017) of t in 1..T and two linear layers: (B,) -> (B, 4 ch).

    dtype: of the layers' weights.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, 4 * channels))
        initialise(self)

    def forward(self, t: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        half = torch.arange(0, self.channels, 2, device=t.device, dtype=torch.float32) / self.channels
        angle = t.float()[:, None] * torch.exp(-half * math.log(10000))
        return self.layers(torch.stack([angle.sin(), angle.cos()], -1).flatten(1).to(dtype))


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm, on small maps in bfloat16 and channels last on a CPU computed in float32.

    There PyTorch's kernel, on groups that are narrower than half of the processor's vectors, takes several times as
    long as for float32.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, c, h, w = x.shape
        slow = x.dtype == torch.bfloat16 and x.device.type == "cpu" and h * w < 1024 and c < 16 * self.num_groups
        if not slow or x.is_contiguous():
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class Dropout(nn.Dropout):
    """Dropout of images (B, C, H, W) whose masks depend neither on how they lie in memory nor on how a batch is split.

    part: None, or (rows, total) where the input is those rows, int64 (B,), of a batch of `total`: the mask is then that
    of the whole batch, of which the rows are taken. With the generator seeded before each pass, all splits drop alike.
    On a CPU, p is rounded down to a multiple of 1/65536.
    """

    part: tuple[torch.Tensor, int] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        rows, total = self.part or (None, len(x))
        _, c, h, w = x.shape
        # The generator fills memory in order, whatever x is: in the layout that is most often the fastest.
        if x.device.type == "cpu":
            mask = self._mask_on_cpu(total, c, h, w).to(x.dtype)
        else:
            mask = super().forward(x.new_ones(total, h, w, c)).permute(0, 3, 1, 2)
        return x * (mask if rows is None else mask[rows])

    def _mask_on_cpu(self, *shape: int) -> torch.Tensor:
        """Float32 masks: 0, or what keeps the mean. PyTorch's own take ten times as long: it draws number by number."""
        count, dropped = math.prod(shape), int(self.p * 2**16)
        words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 4),))
        numbers = words.view(torch.int16)[:count].view(shape)  # uniform: four of 16 bits in each word
        return (numbers >= dropped - 2**15) * (2**16 / (2**16 - dropped))


class ResBlock(nn.Module):
    """Residual block of two 3x3 convolutions (Figure 4.1), which begins as its shortcut."""

    def __init__(self, c_in: int, c_out: int, temb_channels: int, groups: int, dropout: float):
        super().__init__()
        self.norm1 = GroupNorm(groups, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.temb = nn.Linear(temb_channels, c_out)
        self.norm2 = GroupNorm(groups, c_out)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        initialise(self)
        initialise(self.conv2, gain=1e-5)

    def forward(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        h = add_to(self.conv1(silu_of(self.norm1(x))), self.temb(F.silu(temb))[:, :, None, None])
        shortcut = self.shortcut(x)
        return add_to(self.conv2(self.dropout(silu_of(self.norm2(h)))), shortcut)


class SqueezeExcitation(nn.Module):
    """Channel-wise gates from the channels' means (Hu et al., 2018); in inference in the input's place."""

    def __init__(self, channels: int, bottleneck: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, bottleneck, bias=False)
        self.excite = nn.Linear(bottleneck, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3))))))
        gate = gate[:, :, None, None]
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class MBConvBlock(nn.Module):
    """Inverted bottleneck with a depthwise 3x3 convolution and squeeze-excitation (section 4.4); expansion 4, SE ratio
    0.25, both of the input's channels. All of it keeps PyTorch's initialisation, as in the author's code, where nothing
    calls the block's own: unlike a ResBlock, it does not begin as its shortcut."""

    def __init__(self, c_in: int, c_out: int, temb_channels: int, groups: int, dropout: float):
        super().__init__()
        hidden = 4 * c_in
        self.norm1 = GroupNorm(groups, c_in)
        self.expand = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.temb = nn.Linear(temb_channels, hidden)
        self.norm2 = GroupNorm(groups, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.norm3 = GroupNorm(groups, hidden)
        self.se = SqueezeExcitation(hidden, max(1, c_in // 4))
        self.dropout = Dropout(dropout)
        self.project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        images = self._at_once(x)
        if images >= len(x):
            return self._evaluated(x, temb)
        parts = zip(x.split(images), temb.split(images), strict=True)
        return torch.cat([self._evaluated(*part) for part in parts])

    def _at_once(self, x: torch.Tensor) -> int:
        """Images whose hidden maps are evaluated together: in inference on a CPU, as many as its caches hold."""
        cached = x.device.type == "cpu" and not (self.training or torch.is_grad_enabled())
        if not cached or torch.compiler.is_compiling():
            return len(x)
        threads = torch.get_num_threads()
        if threads == 1 and x.dtype == torch.bfloat16:
            return len(x)  # there PyTorch's 1x1 convolutions of fewer than 16 images take longer than the cache saves
        _, _, h, w = x.shape
        map_bytes = self.expand.out_channels * h * w * x.element_size()
        return max(1, CACHED * threads // map_bytes)

    def _evaluated(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        h = add_to(self.expand(silu_of(self.norm1(x))), self.temb(F.silu(temb))[:, :, None, None])
        h = self.depthwise(silu_of(self.norm2(h)))
        h = self.se(silu_of(self.norm3(h)))
        shortcut = self.shortcut(x)
        return add_to(self.project(self.dropout(h)), shortcut)


class Attention(nn.Module):
    """Single-head self-attention over the pixels, residual.

    out_gain: of the last layer's initial weights. The author's code makes it 1e-5, and then 1 again where the attention
    stands in a ResBlock, which initialises all that is inside it.
    """

    def __init__(self, channels: int, groups: int, out_gain: float):
        super().__init__()
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        # Each of q, k and v is a layer of its own for Xavier's fan-in and fan-out.
        for part in self.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(self.qkv.bias)
        initialise(self.out, out_gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c, h * w).transpose(2, 3).unbind(1)  # (B, HW, C) each
        if q.dtype == torch.bfloat16 and q.device.type == "cpu":
            # A third of the time of PyTorch's fused kernel; its memory is nothing at 16 x 16 pixels.
            a = (q * c**-0.5 @ k.transpose(1, 2)).softmax(-1) @ v
        else:
            a = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return add_to(self.out(a.transpose(1, 2).reshape(b, c, h, w)), x)
