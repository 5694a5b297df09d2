"""surrodiff's side of the benchmarks: the product's own trainer and reverse process, of the preset `paper`.

Everything that the benchmarks make of the product is made here.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from surrodiff import networks
from surrodiff.cli import count
from surrodiff.config import params
from surrodiff.config.models import Diffusion
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.kinds import KINDS
from surrodiff.networks import acceleration
from surrodiff.networks.acceleration import Evaluation


@dataclass(frozen=True)
class Setting:
    """A precision, and whether the code is compiled, in the words of params.yaml."""

    precision: str
    compiled: bool | str

    def __str__(self) -> str:
        return self.precision + " compiled" * (self.compiled is True)


AUTO = Setting("auto", "auto")  # what the product does by itself
EAGER = [Setting("float32", False), Setting("bfloat16", False)]
COMPILED = [Setting("float32", True), Setting("bfloat16", True)]


def precisions(device: torch.device) -> list[str]:
    """What is compared on a device: without instructions for it, a step in bfloat16 takes minutes on a CPU."""
    return ["float32"] + ["bfloat16"] * acceleration.has_bfloat16(device)


def models(width: int) -> dict[str, dict]:
    """The preset `paper`'s diffusion models at full resolution, all widths by `width` / 128."""
    file = Path(__file__).parent.parent / "params.yaml"
    found = {}
    for name, model in params.load(file, preset="paper").selected.models.items():
        if model.kind == "ddpm" and model.image_size == 32:
            found[name] = {**model.model_dump(), "channels": 3, "seed": 0}
            network = found[name]["network"]
            network["base_channels"] = network["base_channels"] * width // 128
            network["groups"] = network["groups"] * width // 128
    return found


def eights(text: str) -> int:
    """The width that an option asks for."""
    if count(text) % 8:
        raise argparse.ArgumentTypeError(f"must be a multiple of 8, got {text!r}")
    return int(text)


def add_networks(parser: argparse.ArgumentParser, default: list[str] | None, text: str):
    """The option that names models of the preset `paper`."""
    choices = list(models(128))
    parser.add_argument("--networks", nargs="+", metavar="NAME", choices=choices, default=default, help=text)


def precision(model: dict, setting: Setting, device: torch.device) -> str:
    return acceleration.resolve_precision(setting.precision, device, model)


def trainer(model: dict, batch: int, setting: Setting, device: torch.device):
    """The product's trainer on random images."""
    config = copy.deepcopy(model)
    config["training"].update(batch_size=batch, precision=setting.precision)
    images = torch.randint(0, 256, (4 * batch, 3, 32, 32), dtype=torch.uint8)
    execution = {"compile": setting.compiled, "channels_last": "auto", "fused": True, "micro_batch": None}
    return KINDS["ddpm"](config, images, torch.zeros(len(images), dtype=torch.int64), device, execution)


def reverse(model: dict, network: torch.nn.Module, setting: Setting, device: torch.device) -> ReverseProcess:
    """The product's reverse process with a network of the model's."""
    network = network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    compiled = partial(acceleration.compiled, setting=setting.compiled, device=device, config=model, cuda_graph=True)
    schedule = Schedule(Diffusion.model_validate(model["diffusion"]), device=device)
    evaluation = Evaluation(network, precision(model, setting, device))
    return ReverseProcess(evaluation, schedule, (3, 32, 32), seed=0, compiled=compiled)


def train(model: dict, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    made, number = trainer(model, batch, setting, device), iter(range(1, 10**9))
    return lambda: made.step(next(number))


def sample(model: dict, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    made, index = reverse(model, networks.build(model), setting, device), torch.arange(batch, device=device)
    x_t = made.prior(index)

    @torch.inference_mode()
    def step():
        made.step(x_t, 500, index)

    return step
