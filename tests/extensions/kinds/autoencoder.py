"""A linear variational autoencoder (Kingma and Welling, 2014), whose codes have unit variance: its decoder is the
generator, one step of training it, and its samples."""

from collections.abc import Callable

import torch

from surrodiff import networks
from surrodiff.config.memory import is_large
from surrodiff.config.models import Autoencoder
from surrodiff.config.presets import Execution
from surrodiff.kinds.adam import Adam
from surrodiff.kinds.batches import Batches, prefixed, without_prefix
from surrodiff.networks.acceleration import Evaluation, resolve_precision
from surrodiff.networks.autoencoder import Decoder, Encoder
from surrodiff.planning.runs import ModelConfig, SampleConfig
from surrodiff.runtime import noise
from surrodiff.runtime.devices import autocast
from surrodiff.runtime.noise import Stream
from surrodiff.sampling.generator import GeneratorSampler


def build(model: Autoencoder, channels: int, classes: None = None) -> Decoder:
    """The decoder to images with so many channels."""
    return Decoder(model.image_size, channels, model.z_dim)


def macs_per_image(model: Autoencoder, channels: int) -> int:
    """Multiply-accumulates of one image."""
    with torch.device("meta"):
        return networks.macs(build(model, channels), torch.empty(1, model.z_dim))


def described(model: Autoencoder, parameters: int) -> dict[str, object]:
    """What a list of models says of one, by column."""
    return {
        "block": "linear decoder",
        "multipliers": "",
        "res blocks": "",
        "base channels": "",
        "parameters": parameters,
        "paper's count, M": "",
    }


def surrogate(
    network: Evaluation, config: ModelConfig, sample: SampleConfig, image_size: int, device, compile: bool | str
) -> GeneratorSampler:
    """A trained decoder as the surrogate of a sample run, whose images have its size."""
    return GeneratorSampler(network, config.model.z_dim, sample.seed)


def sampling_step(
    network: Evaluation, config: ModelConfig, batch: int, device: torch.device, compile: bool | str
) -> Callable[[], None]:
    """What takes one evaluation of a sample for a batch: all of it."""
    z = noise.normal(0, Stream.Z, 0, torch.arange(batch, device=device), (config.model.z_dim,))

    @torch.inference_mode()
    def step():
        network(z)

    return step


class AutoencoderTrainer:
    """Adam on the squared error of the decoded image and the codes' distance from N(0, I)."""

    def __init__(self, config: ModelConfig, images, labels, device: torch.device, execution: Execution):
        model, self.seed, self.device = config.model, config.seed, device
        self.training = model.training
        flip = self.training.horizontal_flip
        self.batches = Batches(images, labels, image_size=model.image_size, flip=flip, seed=self.seed, device=device)
        torch.manual_seed(self.seed)
        self.encoder = Encoder(model.image_size, config.channels, model.z_dim).to(device).train()
        self.decoder = build(model, config.channels).to(device).train()
        weights = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimiser = Adam(weights, self.training.learning_rate)
        self.precision = resolve_precision(self.training.precision, device, is_large(model))

    def step(self, step: int) -> dict[str, torch.Tensor]:
        """Training step number `step` = 1, 2, ...; returns the loss on the device."""
        x_0, _ = self.batches.get(step - 1, self.training.batch_size)
        self.optimiser.zero_grad()
        with autocast(self.device, self.precision):
            mean = self.encoder(x_0)
            index = torch.arange(len(x_0), device=self.device)
            decoded = self.decoder(mean + noise.normal(self.seed, Stream.Z, step, index, mean.shape[1:]))
        loss = (decoded - x_0).square().mean() + self.training.prior_weight * mean.square().mean()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}

    def log(self, step: int) -> dict[str, torch.Tensor]:
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        return {
            **prefixed("encoder", self.encoder.state_dict()),
            **prefixed("decoder", self.decoder.state_dict()),
            **prefixed("adam", self.optimiser.state()),
        }

    def load_state(self, tensors: dict[str, torch.Tensor]):
        self.encoder.load_state_dict(without_prefix("encoder", tensors))
        self.decoder.load_state_dict(without_prefix("decoder", tensors))
        self.optimiser.load_state(without_prefix("adam", tensors))

    def record(self, arrays: dict[str, torch.Tensor]) -> dict:
        """What else a record says of it: nothing."""
        return {}

    @property
    def result(self) -> torch.nn.Module:
        return self.decoder
