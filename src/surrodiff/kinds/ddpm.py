"""A DDPM: its network, one step of training it (Algorithm 1, or 3 for IWDiff), and how it samples."""

from collections.abc import Callable
from functools import partial

import torch

from surrodiff import networks
from surrodiff.config.memory import is_large
from surrodiff.config.models import DDPM
from surrodiff.config.presets import Execution
from surrodiff.config.samplers import Ancestral, Sampler
from surrodiff.diffusion.objectives import ObjectiveGradient
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.kinds.averaged import AveragedTrainer
from surrodiff.kinds.batches import Batches, prefixed, without_prefix
from surrodiff.kinds.kind import Kind
from surrodiff.networks.acceleration import Evaluation, compiled, layout, resolve_precision
from surrodiff.networks.blocks import Dropout
from surrodiff.networks.unet import UNet
from surrodiff.planning.runs import ModelConfig, SampleConfig
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.devices import autocast
from surrodiff.runtime.noise import Stream
from surrodiff.sampling import registry as samplers
from surrodiff.sampling.low_resolution import LowResolutionDiffusion


def build(model: DDPM, channels: int, classes: None = None) -> UNet:
    """The network that predicts what the model does of images with so many channels."""
    return UNet(model.network, channels)


def macs_per_image(model: DDPM, channels: int) -> int:
    """Multiply-accumulates of one evaluation on one image."""
    with torch.device("meta"):
        x_t = torch.empty(1, channels, model.image_size, model.image_size)
        return networks.macs(build(model, channels), x_t, torch.ones(1, dtype=torch.long))


def described(model: DDPM, parameters: int) -> dict[str, object]:
    """What a list of models says of one, by column."""
    return {
        "block": model.network.block,
        "multipliers": str(model.network.channel_multipliers),
        "res blocks": model.network.num_res_blocks,
        "base channels": model.network.base_channels,
        "parameters": parameters,
        "paper's count, M": f"{networks.parameters_by_paper(parameters, model):.2f}",
    }


def process(
    network: Evaluation,
    config: ModelConfig,
    sampler: Sampler,
    seed: int,
    device: torch.device,
    compile: bool | str = False,
    stream: Stream = Stream.REVERSE,
) -> ReverseProcess:
    """The reverse process of a trained network, its steps taken as the sampler's settings say.

    compile: as in `execution`.
    """
    model = config.model
    return samplers.process(
        sampler,
        model.diffusion,
        device,
        denoiser=network,
        shape=(config.channels, model.image_size, model.image_size),
        seed=seed,
        stream=stream,
        compiled=partial(compiled, setting=compile, device=device, large=is_large(model), cuda_graph=True),
    )


def surrogate(
    network: Evaluation, config: ModelConfig, sample: SampleConfig, image_size: int, device, compile: bool | str
) -> LowResolutionDiffusion:
    """A trained network, mostly of lower resolution, as the surrogate of a sample run with images of a size."""
    reverse = process(network, config, sample.sampler, sample.seed, device, compile, Stream.LOW_RESOLUTION)
    return LowResolutionDiffusion(reverse, sample.surrogate.t_mid, image_size, sample.surrogate.handover)


def sampling_step(
    network: Evaluation, config: ModelConfig, batch: int, device: torch.device, compile: bool | str
) -> Callable[[], None]:
    """What takes one evaluation of a sample for a batch: a reverse step."""
    sampler = Ancestral(kind="ancestral", variance="fixed_large", clip_x0=False)
    reverse, index = process(network, config, sampler, 0, device, compile), torch.arange(batch, device=device)
    x_t, t = reverse.prior(index), config.model.diffusion.T // 2

    @torch.inference_mode()
    def step():
        reverse.step(x_t, t, index)

    return step


class DiffusionTrainer(AveragedTrainer):
    """Minimises a diffusion's objective; all processes of a job do it together."""

    def __init__(self, config: ModelConfig, images, labels, device: torch.device, execution: Execution):
        model, self.seed, self.device = config.model, config.seed, device
        self.model, self.micro_batch = model, execution.micro_batch
        flip = model.training.horizontal_flip
        self.batches = Batches(images, labels, image_size=model.image_size, flip=flip, seed=self.seed, device=device)
        torch.manual_seed(self.seed)
        large = is_large(model)
        self.precision = resolve_precision(model.training.precision, device, large)
        memory_format = layout(execution.channels_last, device)
        network = build(model, config.channels).to(device, memory_format=memory_format).train()
        super().__init__(model.training, network, execution.fused)
        self.dropouts = [module for module in self.network.modules() if isinstance(module, Dropout)]
        variance = "learned" if model.network.learned_variance else "fixed_large"
        schedule = Schedule(model.diffusion, variance, device)
        self.objective = ObjectiveGradient(model.objective, schedule, self.seed, self._seed_dropout)
        self.denoise = compiled(self._denoise, execution.compile, device, large)

    def _seed_dropout(self, stream: Stream, number: int, rows: torch.Tensor, total: int):
        """Make the next evaluation's dropout a function of the seed, the pass and the row alone, so that neither a
        resumption nor a split of the batch changes it."""
        (word, *_) = noise.philox4x32((number, int(stream), 0, 0), (self.seed, int(Stream.DROPOUT)))
        torch.manual_seed(word)
        for dropout in self.dropouts:
            dropout.part = None if len(rows) == total else (rows, total)

    def _denoise(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with autocast(self.device, self.precision):
            return self.network(x_t, t)

    def accumulate(self, step: int) -> dict[str, torch.Tensor]:
        x_0, _ = self.batches.get(step - 1, self.training.batch_size)
        losses = self.objective.accumulate(self.denoise, x_0, step, self.micro_batch)
        distributed.sum_gradients(self.weights)
        return losses

    def log(self, step: int) -> dict[str, torch.Tensor]:
        """The loss at uniform t on the step's batch, without weights (Figure 4.3), and of each quartile of t."""
        x_0, _ = self.batches.get(step - 1, self.training.batch_size)
        return self.objective.uniform_loss(self.denoise, x_0, step, self.micro_batch)

    def state(self) -> dict[str, torch.Tensor]:
        return super().state() | prefixed("timesteps", self.objective.sampler.state())

    def load_state(self, tensors: dict[str, torch.Tensor]):
        super().load_state(tensors)
        self.objective.sampler.load_state(without_prefix("timesteps", tensors))

    def record(self, arrays: dict[str, torch.Tensor]) -> dict:
        """What else a record says of it, given the arrays of its data."""
        parameters = networks.trainable_parameters(self.result)
        return {"parameters_by_paper": networks.parameters_by_paper(parameters, self.model)}


KIND = Kind(
    build=build,
    trainer=DiffusionTrainer,
    macs_per_image=macs_per_image,
    described=described,
    sampling_step=sampling_step,
    process=process,
    surrogate=surrogate,
)
