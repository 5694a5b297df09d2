"""A normalising flow as a generator, trained on its likelihood."""

import torch

from surrodiff.config.models import Flow
from surrodiff.errors import UserError
from surrodiff.kinds import generators
from surrodiff.runtime.noise import Draws


def build(model: Flow, channels: int, classes: None = None) -> torch.nn.Module:
    """The network of images with so many channels. Raises UserError if the package that it needs is missing."""
    try:
        from surrodiff.networks import flow  # here: normflows is not everybody's
    except ModuleNotFoundError as error:
        raise UserError(
            f"kind: flow needs the package {error.name}, which is not installed; run `pip install 'surrodiff[flow]'`, "
            "or ask for no such model"
        ) from None
    return flow.Flow(model.image_size, channels, model.levels, model.steps_per_level, model.hidden_channels)


def bounds(network: torch.nn.Module, x_0: torch.Tensor, draws: Draws, sizes: tuple[int, ...]) -> torch.Tensor:
    """As of Kind, each by dequantisations of its own."""
    return torch.stack([network.log_likelihood(x_0, draws, samples).double() for samples in sizes], 1)


KIND = generators.kind("flow", build, bounds=bounds)
