"""Networks by the configuration that names them, and what they cost."""

import torch

from surrodiff.config.models import Network
from surrodiff.networks.classifier import Classifier
from surrodiff.networks.sngan import Generator
from surrodiff.networks.unet import UNet


def build(config: dict) -> torch.nn.Module:
    """The network that a model's configuration samples or predicts with: UNet, SNGAN's generator or the classifier."""
    match config["kind"]:
        case "ddpm":
            return UNet(Network.model_validate(config["network"]), config["channels"])
        case "sngan":
            return Generator(config["image_size"], config["channels"], config["z_dim"], config["generator_channels"])
        case "classifier":
            return Classifier(config["image_size"], config["channels_in"], config["channels"], config["classes"])
        case kind:
            raise ValueError(f"no network of kind {kind!r}")


def trainable_parameters(network: torch.nn.Module) -> int:
    """Number of values that training sets (buffers, such as running means, do not count)."""
    return sum(p.numel() for p in network.parameters())


def parameters_by_paper(parameters: int, config: dict) -> float:
    """Table 4.3's "Parameters, M": units of 2^20, the frozen T x base_channels timestep table counted as parameters."""
    return (parameters + config["diffusion"]["T"] * config["network"]["base_channels"]) / 2**20


def macs_per_image(config: dict) -> int:
    """Multiply-accumulates of one evaluation on one image: convolutions, linear layers and attention's products."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = build(config).eval()
        if config["kind"] == "ddpm":
            size = config["image_size"]
            inputs = (torch.empty(1, config["channels"], size, size), torch.ones(1, dtype=torch.long))
        else:
            inputs = (torch.empty(1, config["z_dim"]),)
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
    return counter.get_total_flops() // 2
