"""One step of training a DDPM (Algorithm 1, or 3 for IWDiff)."""

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from surrodiff import networks
from surrodiff.config.models import DDPM
from surrodiff.diffusion.objectives import ObjectiveGradient
from surrodiff.diffusion.schedule import Schedule
from surrodiff.kinds.batches import Batches, load_optimiser_state, optimiser_state, prefixed, without_prefix
from surrodiff.networks.acceleration import compiled, layout, resolve_precision
from surrodiff.networks.blocks import Dropout
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.devices import autocast
from surrodiff.runtime.noise import Stream


class DiffusionTrainer:
    """Adam with warm-up and clipping; the exponential moving average of the weights is what gets sampled."""

    def __init__(self, config: dict, images, labels, device: torch.device, execution: dict):
        model = DDPM.model_validate({key: config[key] for key in DDPM.model_fields})
        self.training, self.device, self.micro_batch = model.training, device, execution["micro_batch"]
        self.seed = config["seed"]
        flip = self.training.horizontal_flip
        self.batches = Batches(images, labels, image_size=model.image_size, flip=flip, seed=self.seed, device=device)
        torch.manual_seed(self.seed)
        self.precision = resolve_precision(self.training.precision, device, config)
        memory_format = layout(execution["channels_last"], device)
        self.network = networks.build(config).to(device, memory_format=memory_format).train()
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.weights, self.ema_weights = list(self.network.parameters()), list(self.ema.parameters())
        self.dropouts = [module for module in self.network.modules() if isinstance(module, Dropout)]
        self.update_ema = get_ema_multi_avg_fn(self.training.ema_decay)
        rate, fused = self.training.learning_rate, execution["fused"]
        self.optimiser = torch.optim.Adam(self.weights, lr=rate, fused=fused)
        schedule = Schedule(model.diffusion, device=device)
        self.objective = ObjectiveGradient(model.objective, schedule, self.seed, device, self._seed_dropout)
        self.denoise = compiled(self._denoise, execution["compile"], device, config)

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

    def step(self, step: int) -> dict[str, torch.Tensor]:
        """Training step number `step` = 1, 2, ...; returns scalars on the device, without waiting for them."""
        x_0, _ = self.batches.get(step - 1, self.training.batch_size)
        rate = self.training.learning_rate * min(1.0, step / max(1, self.training.warmup_steps))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.objective.accumulate(self.denoise, x_0, step, self.micro_batch)
        distributed.sum_gradients(self.weights)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.training.grad_clip)
        self.optimiser.step()
        self.update_ema(self.ema_weights, self.weights, None)
        return {"loss": loss, "grad_norm": norm}

    def log(self, step: int) -> dict[str, torch.Tensor]:
        """The loss at uniform t on the step's batch, without weights (Figure 4.3)."""
        x_0, _ = self.batches.get(step - 1, self.training.batch_size)
        return {"loss_uniform_t": self.objective.uniform_loss(self.denoise, x_0, step, self.micro_batch)}

    def state(self) -> dict[str, torch.Tensor]:
        return {
            **prefixed("model", self.network.state_dict()),
            **prefixed("ema", self.ema.state_dict()),
            **optimiser_state(self.optimiser, "adam"),
            **prefixed("timesteps", self.objective.sampler.state()),
        }

    def load_state(self, tensors: dict[str, torch.Tensor]):
        self.network.load_state_dict(without_prefix("model", tensors))
        self.ema.load_state_dict(without_prefix("ema", tensors))
        load_optimiser_state(self.optimiser, "adam", tensors)
        self.objective.sampler.load_state(without_prefix("timesteps", tensors))

    @property
    def result(self) -> torch.nn.Module:
        """The network to sample with: the moving average."""
        return self.ema
