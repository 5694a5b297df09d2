"""SNGAN (Miyato et al., 2018): its generator and one step of training it."""

import torch

from surrodiff.config.memory import is_large
from surrodiff.config.models import SNGAN
from surrodiff.config.presets import Execution
from surrodiff.kinds import generators
from surrodiff.kinds.adam import Adam
from surrodiff.kinds.batches import Batches, prefixed, without_prefix
from surrodiff.networks.acceleration import resolve_precision
from surrodiff.networks.sngan import Discriminator, Generator, hinge_discriminator
from surrodiff.planning.runs import ModelConfig
from surrodiff.runtime import noise
from surrodiff.runtime.devices import autocast
from surrodiff.runtime.noise import Stream


def build(model: SNGAN, channels: int, classes: None = None) -> Generator:
    """The generator of images with so many channels."""
    return Generator(model.image_size, channels, model.z_dim, model.generator_channels)


class AdversarialTrainer:
    """Hinge loss, Adam with betas (0, 0.9), rates decayed linearly to 0, dequantised real images."""

    def __init__(self, config: ModelConfig, images, labels, device: torch.device, execution: Execution):
        model, self.seed, self.device = config.model, config.seed, device
        self.training, self.z_dim = model.training, model.z_dim
        flip = self.training.horizontal_flip
        self.batches = Batches(images, labels, image_size=model.image_size, flip=flip, seed=self.seed, device=device)
        torch.manual_seed(self.seed)
        self.generator = build(model, config.channels).to(device).train()
        channels = model.discriminator_channels
        self.discriminator = Discriminator(model.image_size, config.channels, channels).to(device).train()
        rate = self.training.learning_rate
        self.adam_generator = Adam(self.generator.parameters(), rate, betas=(0.0, 0.9))
        self.adam_discriminator = Adam(self.discriminator.parameters(), rate, betas=(0.0, 0.9))
        self.precision = resolve_precision(self.training.precision, device, is_large(model))

    def _z(self, stream: Stream, number: int, size: int) -> torch.Tensor:
        return noise.normal(self.seed, stream, number, torch.arange(size, device=self.device), (self.z_dim,))

    def _real(self, number: int) -> torch.Tensor:
        x_0, _ = self.batches.get(number, self.training.batch_size)
        index = torch.arange(len(x_0), device=self.device)
        u = noise.uniform(self.seed, Stream.DEQUANTISE, number, index, x_0[0].numel())
        return x_0 + u.reshape(x_0.shape) / 128

    def step(self, step: int) -> dict[str, torch.Tensor]:
        """Generator step number `step` = 1, 2, ... and the discriminator's steps before it; returns device scalars."""
        share = 1 - (step - 1) / self.training.steps
        for optimiser in (self.adam_generator, self.adam_discriminator):
            optimiser.lr = self.training.learning_rate * share
        size, repeats = self.training.batch_size, self.training.discriminator_steps
        for number in range((step - 1) * repeats, step * repeats):
            with torch.no_grad(), autocast(self.device, self.precision):
                fake = self.generator(self._z(Stream.Z_DISCRIMINATOR, number, size)).float()
            real = self._real(number)
            self.adam_discriminator.zero_grad()
            with autocast(self.device, self.precision):
                scores = self.discriminator(torch.cat([real, fake])).float()
            loss_discriminator = hinge_discriminator(*scores.split(size))
            loss_discriminator.backward()
            self.adam_discriminator.step()
        self.adam_generator.zero_grad()
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.precision):
            loss = -self.discriminator(self.generator(self._z(Stream.Z, step, 2 * size))).float().mean()
        loss.backward()
        self.discriminator.requires_grad_(True)
        self.adam_generator.step()
        return {"loss": loss.detach(), "loss_discriminator": loss_discriminator.detach()}

    def log(self, step: int) -> dict[str, torch.Tensor]:
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        return {
            **prefixed("generator", self.generator.state_dict()),
            **prefixed("discriminator", self.discriminator.state_dict()),
            **prefixed("adam_generator", self.adam_generator.state()),
            **prefixed("adam_discriminator", self.adam_discriminator.state()),
        }

    def load_state(self, tensors: dict[str, torch.Tensor]):
        self.generator.load_state_dict(without_prefix("generator", tensors))
        self.discriminator.load_state_dict(without_prefix("discriminator", tensors))
        self.adam_generator.load_state(without_prefix("adam_generator", tensors))
        self.adam_discriminator.load_state(without_prefix("adam_discriminator", tensors))

    def record(self, arrays: dict[str, torch.Tensor]) -> dict:
        """What else a record says of it: nothing."""
        return {}

    @property
    def result(self) -> torch.nn.Module:
        return self.generator


KIND = generators.kind("SNGAN generator", build, AdversarialTrainer)
