"""Trained networks by their model's run and the training step."""

from pathlib import Path

import torch

from surrodiff import networks
from surrodiff.store import tensors
from surrodiff.store.runs import load_run, verified


def snapshot_name(step: int) -> str:
    """File of the weights to sample with after `step` training steps."""
    return f"weights-{step}.safetensors"


def load_weights(results: Path, model_id: str, step: int, device: torch.device):
    """The network of a trained model after `step` steps, in eval mode on `device`, and the model's configuration.

    Raises UserError if the model is not trained or its weights are missing, truncated or altered.
    """
    path, config, record = load_run(results, "models", model_id)
    weights, _ = tensors.load(verified(path, record, snapshot_name(step)))
    network = networks.build({**record, **config})
    network.load_state_dict(weights)
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False), config
