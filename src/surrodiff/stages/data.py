"""A data run: the images, read, resized and split into those to train on and those held out."""

from pathlib import Path

from surrodiff.data import identity, sources
from surrodiff.data.pixels import resize_uint8
from surrodiff.data.sources import IMAGES, SPLITS, Split
from surrodiff.errors import UserError, printable
from surrodiff.planning.runs import DataConfig, Run
from surrodiff.runtime import distributed
from surrodiff.stages.job import Job
from surrodiff.store import provenance, tensors
from surrodiff.store.runs import RunFolder


def make(run: Run[DataConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Write `images.safetensors`. The first process does it alone.

    Raises UserError if the source is missing, broken or not what the configuration says.
    """
    if distributed.rank() > 0:
        return None
    config = run.config
    splits, origin, report = _read(config)
    arrays = {}
    for split, (images, labels) in splits.items():
        if len(images) < 2:
            raise UserError(f"{origin}: the {split} split has too few ({len(images)}); have at least two in each split")
        arrays[f"{split}_images"] = resize_uint8(images, config.image_size)
        arrays[f"{split}_labels"] = labels
    tensors.save(folder.path / IMAGES, arrays)
    name = f"{config.source} {Path(config.path).name}" if config.source == "image_folder" else config.source
    record = {"source": name} | {f"{split}_images": len(splits[split][0]) for split in SPLITS}
    return record | report | {"revision": provenance.revision()}, [IMAGES]


def _read(config: DataConfig) -> tuple[dict[str, Split], str, dict]:
    """Both splits, what they come from, in words, and what else the record says of reading them."""
    report = {}
    match config.source:
        case "digits":
            splits = {"train": sources.read_digits()}
        case "cifar10":
            train, held_out = sources.read_cifar10(identity.expanded(config.path))
            splits = {"train": train, "held_out": held_out}
        case "mnist":
            train, held_out = sources.read_mnist(identity.expanded(config.path))
            splits = {"train": train, "held_out": held_out}
        case "image_folder":
            splits, report = sources.read_planned_folder(config)
    if "held_out" in splits:
        return splits, printable(str(config.path)), report
    images, labels = splits["train"]
    parts = sources.stratified(labels, config.held_out, config.seed)
    splits = {split: (images[part], labels[part]) for split, part in zip(SPLITS, parts, strict=True)}
    return splits, f"data.held_out: {config.held_out} of {len(images)} images", report
