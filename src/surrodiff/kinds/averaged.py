"""Training whose result is the moving average of the weights: what a diffusion and most generators have in common."""

import copy
from abc import ABC, abstractmethod

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from surrodiff.config.training import Training
from surrodiff.kinds.adam import Adam
from surrodiff.kinds.batches import prefixed, without_prefix


class AveragedTrainer(ABC):
    """Adam with linear warm-up and clipping; the exponential moving average of the weights is what gets sampled."""

    def __init__(self, training: Training, network: torch.nn.Module, fused: bool | None = None):
        self.training, self.network = training, network
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        self.weights, self.ema_weights = list(network.parameters()), list(self.ema.parameters())
        self.update_ema = get_ema_multi_avg_fn(training.ema_decay)
        self.optimiser = Adam(self.weights, training.learning_rate, fused=fused)

    @abstractmethod
    def accumulate(self, step: int) -> dict[str, torch.Tensor]:
        """Add the gradient of a step's loss; returns scalars for the log, detached: the `loss`, and what else a kind
        has."""

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.training.learning_rate * min(1.0, step / max(1, self.training.warmup_steps))

    def step(self, step: int) -> dict[str, torch.Tensor]:
        """Training step number `step` = 1, 2, ...; returns scalars on the device, without waiting for them."""
        self.optimiser.lr = self.rate(step)
        self.optimiser.zero_grad()
        losses = self.accumulate(step)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.training.grad_clip)
        self.optimiser.step()
        self.update_ema(self.ema_weights, self.weights, None)
        return {**losses, "grad_norm": norm}

    def state(self) -> dict[str, torch.Tensor]:
        return {
            **prefixed("model", self.network.state_dict()),
            **prefixed("ema", self.ema.state_dict()),
            **prefixed("adam", self.optimiser.state()),
        }

    def load_state(self, tensors: dict[str, torch.Tensor]):
        self.network.load_state_dict(without_prefix("model", tensors))
        self.ema.load_state_dict(without_prefix("ema", tensors))
        self.optimiser.load_state(without_prefix("adam", tensors))

    @property
    def result(self) -> torch.nn.Module:
        """The network to sample with: the moving average."""
        return self.ema
