"""What is done with the models of one kind."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from surrodiff.diffusion.reverse import ReverseProcess, Sampler


@dataclass(frozen=True)
class Kind:
    """What is done with the models of one class.

    build: the network that samples or predicts, from the model, the images' channels and, of a classifier, the number
      of classes.
    trainer: makes its trainers from a ModelConfig, images, labels, a device and an Execution.
    macs_per_image: multiply-accumulates of an evaluation, from the model and the images' channels; None of a kind that
      samples nothing.
    described: what a list of models says of one, by column, given its parameters' number; None likewise.
    sampling_step: what takes one evaluation of a sample for a batch (see ddpm.sampling_step); None likewise.
    process: the reverse process of a trained diffusion (see ddpm.process); None of any other kind.
    surrogate: a trained model as the surrogate of a sample run (see ddpm.surrogate); None of a kind that is none.
    bounds: of a network with a likelihood of its own, of images x_0 (B, C, S, S) in [-1, 1] of 8-bit values and Draws
      for them, bounds on log p(x_0) in nats, float64 (B, len(sizes)), each by so many samples (config.models,
      `bound_sizes`); None of any other kind.
    """

    build: Callable[..., torch.nn.Module]
    trainer: Callable[..., object]
    macs_per_image: Callable[..., int] | None = None
    described: Callable[..., dict[str, object]] | None = None
    sampling_step: Callable[..., Callable[[], None]] | None = None
    process: Callable[..., ReverseProcess] | None = None
    surrogate: Callable[..., Sampler] | None = None
    bounds: Callable[..., torch.Tensor] | None = None
