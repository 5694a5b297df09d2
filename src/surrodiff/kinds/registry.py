"""All kinds of models: for the class of a model's configuration, what is done with such a model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from surrodiff.config.models import DDPM, SNGAN, Classifier, Model
from surrodiff.diffusion.reverse import ReverseProcess, Sampler
from surrodiff.kinds import classifier, ddpm, sngan


@dataclass(frozen=True)
class Kind:
    """What is done with the models of one class.

    build: the network that samples or predicts, from the model, the images' channels and, of a classifier, the number
      of classes.
    trainer: the class of its trainers, made from a ModelConfig, images, labels, a device and an Execution.
    macs_per_image: multiply-accumulates of an evaluation, from the model and the images' channels; None of a kind that
      samples nothing.
    described: what a list of models says of one, by column, given its parameters' number; None likewise.
    sampling_step: what takes one evaluation of a sample for a batch (see ddpm.sampling_step); None likewise.
    process: the reverse process of a trained diffusion (see ddpm.process); None of any other kind.
    surrogate: a trained model as the surrogate of a sample run (see ddpm.surrogate); None of a kind that is none.
    """

    build: Callable[..., torch.nn.Module]
    trainer: type
    macs_per_image: Callable[..., int] | None = None
    described: Callable[..., dict[str, object]] | None = None
    sampling_step: Callable[..., Callable[[], None]] | None = None
    process: Callable[..., ReverseProcess] | None = None
    surrogate: Callable[..., Sampler] | None = None


KINDS = {
    DDPM: Kind(
        build=ddpm.build,
        trainer=ddpm.DiffusionTrainer,
        macs_per_image=ddpm.macs_per_image,
        described=ddpm.described,
        sampling_step=ddpm.sampling_step,
        process=ddpm.process,
        surrogate=ddpm.surrogate,
    ),
    SNGAN: Kind(
        build=sngan.build,
        trainer=sngan.AdversarialTrainer,
        macs_per_image=sngan.macs_per_image,
        described=sngan.described,
        sampling_step=sngan.sampling_step,
        surrogate=sngan.surrogate,
    ),
    Classifier: Kind(build=classifier.build, trainer=classifier.ClassifierTrainer),
}


def kind_of(model: Model) -> Kind:
    """The kind of a model."""
    if type(model) not in KINDS:
        raise ValueError(f"no kind of model {type(model).__name__!r}")
    return KINDS[type(model)]
