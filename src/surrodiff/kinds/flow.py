"""A normalising flow as a generator, trained on its likelihood."""

import torch

from surrodiff.config.models import Flow
from surrodiff.errors import UserError
from surrodiff.kinds import generators


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


KIND = generators.kind("flow", build)
