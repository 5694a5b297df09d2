"""surrodiff's side of the benchmarks: the product's own trainer and reverse process, of the preset `paper`.

Everything that the benchmarks make of the product is made here.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from surrodiff.cli import count
from surrodiff.config import params
from surrodiff.config.memory import is_large
from surrodiff.config.models import DDPM
from surrodiff.config.presets import Preset
from surrodiff.config.samplers import Ancestral, Sampler
from surrodiff.config.whole import Params
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.kinds import ddpm
from surrodiff.networks import acceleration
from surrodiff.networks.acceleration import Evaluation
from surrodiff.planning.runs import ModelConfig
from surrodiff.sampling.whole import WholeProcess


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


def _params() -> Params:
    return params.load(Path(__file__).parent.parent / "params.yaml", preset="paper")


def paper() -> Preset:
    """The preset `paper`."""
    return _params().selected


def printed_numbers(table: str, column: str) -> dict[str, float]:
    """What the paper prints in a column of a table, by model."""
    loaded = _params()
    lines = [line for line in loaded.lines(loaded.studies[table]) if column in line.paper]
    return {line.model: float(line.paper[column]) for line in lines}


def models(width: int) -> dict[str, DDPM]:
    """The diffusion models of the paper's tables at full resolution, all widths by `width` / 128."""
    loaded, resized = _params(), {}
    shown = {line.model for study in loaded.made(loaded.selected).values() for line in loaded.lines(study)}
    for name, model in loaded.selected.models.items():
        if name in shown and isinstance(model, DDPM) and model.image_size == 32:
            widths = {key: getattr(model.network, key) * width // 128 for key in ("base_channels", "groups")}
            resized[name] = with_network(model, **widths)
    return resized


def with_network(model: DDPM, **changes) -> DDPM:
    """A model with some numbers of its network changed."""
    return model.model_copy(update={"network": model.network.model_copy(update=changes)})


def eights(text: str) -> int:
    """The width that an option asks for."""
    if count(text) % 8:
        raise argparse.ArgumentTypeError(f"must be a multiple of 8, got {text!r}")
    return int(text)


def add_networks(parser: argparse.ArgumentParser, default: list[str] | None, text: str):
    """The option that names models of the preset `paper`."""
    choices = list(models(128))
    parser.add_argument("--networks", nargs="+", metavar="NAME", choices=choices, default=default, help=text)


def _config(model: DDPM) -> ModelConfig:
    return ModelConfig(model=model, channels=3, data="random", seed=0)


def macs(model: DDPM) -> int:
    """Multiply-accumulates of one evaluation on one image."""
    return ddpm.macs_per_image(model, 3)


def network_of(model: DDPM) -> torch.nn.Module:
    return ddpm.build(model, 3)


def precision(model: DDPM, setting: Setting, device: torch.device) -> str:
    return acceleration.resolve_precision(setting.precision, device, is_large(model))


def trainer(model: DDPM, batch: int, setting: Setting, device: torch.device) -> ddpm.DiffusionTrainer:
    """The product's trainer on random images."""
    training = model.training.model_copy(update={"batch_size": batch, "precision": setting.precision})
    config = _config(model.model_copy(update={"training": training}))
    images = torch.randint(0, 256, (4 * batch, 3, 32, 32), dtype=torch.uint8)
    changes = {"compile": setting.compiled, "channels_last": "auto", "fused": True, "micro_batch": None}
    execution = paper().execution.model_copy(update=changes)
    return ddpm.DiffusionTrainer(config, images, torch.zeros(len(images), dtype=torch.int64), device, execution)


ANCESTRAL = Ancestral(kind="ancestral", variance="fixed_large", clip_x0=False)


def reverse(
    model: DDPM, network: torch.nn.Module, setting: Setting, device: torch.device, sampler: Sampler = ANCESTRAL
) -> ReverseProcess:
    """The product's reverse process with a network of the model's."""
    network = network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    evaluation = Evaluation(network, precision(model, setting, device))
    return ddpm.process(evaluation, _config(model), sampler, 0, device, setting.compiled)


def train(model: DDPM, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    our_trainer, number = trainer(model, batch, setting, device), iter(range(1, 10**9))
    return lambda: our_trainer.step(next(number))


def sample(model: DDPM, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    process, index = reverse(model, network_of(model), setting, device), torch.arange(batch, device=device)
    x_t = process.prior(index)

    @torch.inference_mode()
    def step():
        process.step(x_t, 500, index)

    return step


def fast_sampler(name: str, evaluations: int, model: DDPM) -> Sampler:
    """The sampler of params.yaml with about so many evaluations an image."""
    return paper().samplers[name].within(model.diffusion, evaluations, model.diffusion.T)


def evaluations_of(sampler: Sampler, model: DDPM) -> int:
    return sampler.evaluations(model.diffusion, model.diffusion.T)


def sample_images(
    model: DDPM, batch: int, sampler: Sampler, setting: Setting, device: torch.device
) -> Callable[[], None]:
    """Whole images by a sampler."""
    made, index = reverse(model, network_of(model), setting, device, sampler), torch.arange(batch, device=device)
    draw = WholeProcess(made)
    return lambda: draw(index)
