"""Generators: how all of them are sampled and timed, and the training of those whose network has one loss.

A generator's network has `z_dim` and turns z ~ N(0, I), (B, z_dim), into images (B, C, S, S) in about [-1, 1]. One that
is trained here also has `loss(x_0, draws)`: of images x_0 (B, C, S, S) in [-1, 1] the mean loss over them, with random
numbers from `draws` (runtime.noise.Draws) alone; and may have `begin(x_0)`, which a new training calls with its first
batch.
"""

from collections.abc import Callable
from functools import partial

import torch

from surrodiff import networks
from surrodiff.config.memory import is_large
from surrodiff.config.models import Generator
from surrodiff.config.presets import Execution
from surrodiff.kinds.averaged import AveragedTrainer
from surrodiff.kinds.batches import Batches
from surrodiff.kinds.kind import Kind
from surrodiff.networks.acceleration import Evaluation, resolve_precision
from surrodiff.planning.runs import ModelConfig, SampleConfig
from surrodiff.runtime import noise
from surrodiff.runtime.devices import autocast
from surrodiff.runtime.noise import Draws, Stream
from surrodiff.sampling.generator import GeneratorSampler

Build = Callable[..., torch.nn.Module]
WIDTHS = ("generator_channels", "width", "hidden_channels")  # how kinds call their base channels


def _macs_per_image(build: Build, model: Generator, channels: int) -> int:
    """Multiply-accumulates of one image."""
    with torch.device("meta"):
        network = build(model, channels)
        return networks.macs(network, torch.empty(1, network.z_dim))


def _described(name: str, model: Generator, parameters: int) -> dict[str, object]:
    """What a list of models says of one, by column."""
    blanks = dict.fromkeys(("multipliers", "res blocks"), "")
    width = next((getattr(model, key) for key in WIDTHS if hasattr(model, key)), "")
    return {"block": name, **blanks, "base channels": width, "parameters": parameters, "paper's count, M": ""}


def _surrogate(
    network: Evaluation, config: ModelConfig, sample: SampleConfig, image_size: int, device, compile: bool | str
) -> GeneratorSampler:
    """A trained generator as the surrogate of a sample run, whose images have its size."""
    return GeneratorSampler(network, network.network.z_dim, sample.seed)


def _sampling_step(
    network: Evaluation, config: ModelConfig, batch: int, device: torch.device, compile: bool | str
) -> Callable[[], None]:
    """What takes one evaluation of a sample for a batch: all of it."""
    z = noise.normal(0, Stream.Z, 0, torch.arange(batch, device=device), (network.network.z_dim,))

    @torch.inference_mode()
    def step():
        network(z)

    return step


def kind(
    name: str,
    build: Build,
    trainer: Callable[..., object] | None = None,
    bounds: Callable[..., torch.Tensor] | None = None,
) -> Kind:
    """The kind of a generator. name: what a list of models calls it; build: its network, from the model and the
    images' channels; trainer: as of Kind, where the network has not one loss, or its rates differ; bounds: as of
    Kind."""
    return Kind(
        build=build,
        trainer=trainer or partial(GeneratorTrainer, build),
        macs_per_image=partial(_macs_per_image, build),
        described=partial(_described, name),
        sampling_step=_sampling_step,
        surrogate=_surrogate,
        bounds=bounds,
    )


class GeneratorTrainer(AveragedTrainer):
    """Minimises the loss that a generator's network has."""

    def __init__(self, build: Build, config: ModelConfig, images, labels, device: torch.device, execution: Execution):
        model, self.seed, self.device = config.model, config.seed, device
        flip = model.training.horizontal_flip
        self.batches = Batches(images, labels, image_size=model.image_size, flip=flip, seed=self.seed, device=device)
        self.precision = resolve_precision(model.training.precision, device, is_large(model))
        torch.manual_seed(self.seed)
        network = build(model, config.channels).to(device).train()
        if hasattr(network, "begin"):
            network.begin(self.batches.get(0, model.training.batch_size)[0])
        super().__init__(model.training, network)

    def accumulate(self, step: int) -> dict[str, torch.Tensor]:
        x_0, _ = self.batches.get(step - 1, self.training.batch_size)
        draws = Draws(self.seed, Stream.GENERATOR_LOSS, step, torch.arange(len(x_0), device=self.device))
        with autocast(self.device, self.precision):
            loss = self.network.loss(x_0, draws)
        loss.backward()
        return {"loss": loss.detach().float()}

    def step(self, step: int) -> dict[str, torch.Tensor]:
        metrics = super().step(step)
        # Of running means and the like, which are no weights, the last.
        for average, buffer in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            average.copy_(buffer)
        return metrics

    def log(self, step: int) -> dict[str, torch.Tensor]:
        return {}

    def record(self, arrays: dict[str, torch.Tensor]) -> dict:
        """What else a record says of it: nothing."""
        return {}
