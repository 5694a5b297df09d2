"""Data runs and images of random pixels, for the tests of data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from configs import changed
from PIL import Image

from surrodiff.config.presets import Execution
from surrodiff.data import image_folders, sources
from surrodiff.errors import UserError
from surrodiff.planning.runs import DataConfig, Run
from surrodiff.stages import registry
from surrodiff.stages.job import Job

DIGITS = DataConfig(source="digits", path=None, image_size=8, channels=1, held_out=0.2, seed=0, revision=1)


def prepare(run: Run[DataConfig], results: Path) -> dict:
    """Make a data run, which neither a device nor anything of `execution` changes; returns its record."""
    return registry.make(run, Job(results, torch.device("cpu"), Execution.model_construct()))


def prepared(results: Path, **changes) -> tuple[dict[str, torch.Tensor], dict]:
    """Arrays and record of a data run that differs from the digits' by the given keys."""
    run = Run("mine", changed(DIGITS, **changes))
    prepare(run, results)
    return sources.load(results, run.id)


def folder_data(path, **changes) -> dict:
    """What the configuration of a data run of an image folder, which was not planned, has unlike the digits'."""
    return {"source": "image_folder", "path": str(path), "channels": 3, **changes}


def read(root, size=8, channels=3, padding="crop"):
    """The training split of an image folder: its images, its labels, and the report of reading it."""
    splits, report = sources.read_image_folder(image_folders.find(root), size, channels, padding)
    return *splits["train"], report


def write_image(path, size=(8, 8), mode="RGB", seed=0, **options):
    """Write an image of random pixels; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    channels = {"L": 1, "RGBA": 4, "LA": 2}.get(mode, 3)
    pixels = rng.integers(0, 256, (size[1], size[0], channels), np.uint8)
    image = Image.fromarray(pixels if channels > 1 else pixels[..., 0])
    (image if image.mode == mode else image.convert(mode)).save(path, **options)
    return path


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message
