"""Generators of the user's own: a class `Generator` in a file, trained, sampled and timed like those here.

The class is a torch.nn.Module as kinds.generators says: made with `image_size`, `channels` and the model's `settings`,
it has `z_dim`, `forward(z)` and `loss(x_0, draws)`. generators/energy.py is an example.
"""

import contextlib
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from surrodiff.config.models import Own
from surrodiff.config.presets import Execution
from surrodiff.errors import UserError, printable
from surrodiff.kinds import generators
from surrodiff.planning.runs import ModelConfig


def _loaded(path: Path, sha256: str | None) -> ModuleType:
    """The module in a file. Raises UserError if it is not the file that was planned with, or cannot be imported."""
    where = printable(str(path))
    try:
        code = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}; models.*.file names it") from None
    if sha256 not in (None, hashlib.sha256(code).hexdigest()):
        raise UserError(
            f"{where}: has changed since this model was planned; run the same command again for a model of the new "
            "file, or put the old one back for the old model"
        )
    spec = importlib.util.spec_from_loader(path.stem, loader=None, origin=str(path))
    module = importlib.util.module_from_spec(spec)
    try:
        # What was read is what runs, whatever happens to the file meanwhile.
        exec(compile(code, str(path), "exec"), module.__dict__)
    except Exception as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{where}{line}: cannot be imported ({type(error).__name__}: {error}); mend it") from error
    return module


def build(model: Own, channels: int, classes: None = None) -> torch.nn.Module:
    """The network that a model's file describes. Raises UserError, naming the file, if it does not make one."""
    where, module = printable(model.file), _loaded(Path(model.file), model.sha256)
    cls = getattr(module, "Generator", None)
    if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
        raise UserError(f"{where}: has no class `Generator` that is a torch.nn.Module; write one")
    try:
        network = cls(image_size=model.image_size, channels=channels, **model.settings)
    except Exception as error:
        given = ", ".join(["image_size", "channels", *model.settings])
        raise UserError(f"{where}: Generator({given}): {type(error).__name__}: {error}") from error
    z_dim = getattr(network, "z_dim", None)
    if type(z_dim) is not int or z_dim < 1:
        raise UserError(f"{where}: Generator has no whole number `z_dim` from 1, how many numbers its z has; set it")
    if not callable(getattr(network, "loss", None)):
        raise UserError(f"{where}: Generator has no method loss(x_0, draws), which training minimises; write it")
    return network


class OwnTrainer(generators.GeneratorTrainer):
    """As its base. Raises UserError, naming the file, if the network's images or its loss are not what they must be, or
    if the loss fails."""

    def __init__(self, config: ModelConfig, images, labels, device: torch.device, execution: Execution):
        self.where = printable(config.model.file)
        with self._named("begin(x_0)"):
            super().__init__(build, config, images, labels, device, execution)
        with self._named("forward(z)"), torch.no_grad():
            shape = tuple(self.network(torch.zeros(2, self.network.z_dim, device=device)).shape)
        expected = (2, config.channels, config.model.image_size, config.model.image_size)
        if shape != expected:
            raise UserError(f"{self.where}: forward(z) of 2 gives images of shape {shape}; it must be {expected}")

    def accumulate(self, step: int) -> dict[str, torch.Tensor]:
        with self._named("loss(x_0, draws), or its gradient"):
            return super().accumulate(step)

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise UserError(f"{self.where}: {what}: {type(error).__name__}: {error}") from error


KIND = generators.kind("own", build, OwnTrainer)
