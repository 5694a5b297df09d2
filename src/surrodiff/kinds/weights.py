"""Trained networks by their model's run and the training step."""

from pathlib import Path

import torch

from surrodiff.config.memory import is_large
from surrodiff.kinds.registry import kind_of
from surrodiff.networks.acceleration import Evaluation, resolve_precision
from surrodiff.planning.runs import ModelConfig, Trained
from surrodiff.store import tensors
from surrodiff.store.runs import load_run, verified


def snapshot_name(step: int) -> str:
    """File of the weights to sample with after `step` training steps."""
    return f"weights-{step}.safetensors"


def load_weights(results: Path, model_id: str, step: int, device: torch.device) -> tuple[torch.nn.Module, ModelConfig]:
    """The network of a trained model after `step` steps, in eval mode on `device`, and the model's configuration.

    Raises UserError if the model is not trained or its weights are missing, truncated or altered.
    """
    path, config, record = load_run(results, "models", model_id)
    weights, _ = tensors.load(verified(path, record, snapshot_name(step)))
    network = kind_of(config.model).build(config.model, config.channels, record.get("classes"))
    network.load_state_dict(weights)
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False), config


def load_evaluation(
    results: Path, trained: Trained, precision: str, device: torch.device
) -> tuple[Evaluation, ModelConfig]:
    """As load_weights, ready to sample in the precision that is asked for."""
    network, config = load_weights(results, trained.run, trained.step, device)
    asked = config.model.sampling_precision(precision)
    return Evaluation(network, resolve_precision(asked, device, is_large(config.model))), config
