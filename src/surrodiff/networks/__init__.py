"""The networks, and what they cost."""

import torch

from surrodiff.config.models import DDPM


def trainable_parameters(network: torch.nn.Module) -> int:
    """Number of values that training sets (buffers, such as running means, do not count)."""
    return sum(p.numel() for p in network.parameters())


def parameters_by_paper(parameters: int, model: DDPM) -> float:
    """Table 4.3's "Parameters, M": units of 2^20, the frozen T x base_channels timestep table counted as parameters."""
    return (parameters + model.diffusion.T * model.network.base_channels) / 2**20


def macs(network: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-accumulates of one evaluation: convolutions, linear layers and attention's products.

    The evaluation is made; on the meta device it computes nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    return counter.get_total_flops() // 2
