"""One step of training SNGAN (Miyato et al., 2018)."""

import torch

from surrodiff import networks
from surrodiff.config.models import SNGAN
from surrodiff.kinds.batches import Batches, load_optimiser_state, optimiser_state, prefixed, without_prefix
from surrodiff.networks.acceleration import resolve_precision
from surrodiff.networks.sngan import Discriminator, hinge_discriminator
from surrodiff.runtime import noise
from surrodiff.runtime.devices import autocast
from surrodiff.runtime.noise import Stream


class AdversarialTrainer:
    """Hinge loss, Adam with betas (0, 0.9), rates decayed linearly to 0, dequantised real images."""

    def __init__(self, config: dict, images, labels, device: torch.device, execution: dict):
        model = SNGAN.model_validate({key: config[key] for key in SNGAN.model_fields})
        self.training, self.device, self.z_dim = model.training, device, model.z_dim
        self.seed = config["seed"]
        flip = self.training.horizontal_flip
        self.batches = Batches(images, labels, image_size=model.image_size, flip=flip, seed=self.seed, device=device)
        torch.manual_seed(self.seed)
        self.generator = networks.build(config).to(device).train()
        channels = model.discriminator_channels
        self.discriminator = Discriminator(model.image_size, config["channels"], channels).to(device).train()
        rate = self.training.learning_rate
        self.adam_generator = torch.optim.Adam(self.generator.parameters(), rate, betas=(0.0, 0.9))
        self.adam_discriminator = torch.optim.Adam(self.discriminator.parameters(), rate, betas=(0.0, 0.9))
        self.precision = resolve_precision(self.training.precision, device, config)

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
            for group in optimiser.param_groups:
                group["lr"] = self.training.learning_rate * share
        size, repeats = self.training.batch_size, self.training.discriminator_steps
        for number in range((step - 1) * repeats, step * repeats):
            with torch.no_grad(), autocast(self.device, self.precision):
                fake = self.generator(self._z(Stream.Z_DISCRIMINATOR, number, size)).float()
            real = self._real(number)
            self.adam_discriminator.zero_grad(set_to_none=True)
            with autocast(self.device, self.precision):
                scores = self.discriminator(torch.cat([real, fake])).float()
            loss_discriminator = hinge_discriminator(*scores.split(size))
            loss_discriminator.backward()
            self.adam_discriminator.step()
        self.adam_generator.zero_grad(set_to_none=True)
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
            **optimiser_state(self.adam_generator, "adam_generator"),
            **optimiser_state(self.adam_discriminator, "adam_discriminator"),
        }

    def load_state(self, tensors: dict[str, torch.Tensor]):
        self.generator.load_state_dict(without_prefix("generator", tensors))
        self.discriminator.load_state_dict(without_prefix("discriminator", tensors))
        load_optimiser_state(self.adam_generator, "adam_generator", tensors)
        load_optimiser_state(self.adam_discriminator, "adam_discriminator", tensors)

    @property
    def result(self) -> torch.nn.Module:
        return self.generator
