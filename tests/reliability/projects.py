"""Small copies of the project whose work takes seconds and can be interrupted anywhere."""

from pathlib import Path

import yaml
from workflow.project import ROOT, Project

PRESET = "test"


def parameters(studies: dict, *, steps: int, samples: int, images: int, batch: int, processes: int = 1) -> dict:
    """The document of params.yaml cut to the preset `test` with the given studies and sizes.

    steps: of each training, with a snapshot every quarter; samples, images: of a sample run and of a likelihood, made
    in batches of `batch`; processes: of each job.
    """
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    preset = raw["presets"][PRESET]
    every = steps // 4
    for model in ("Default", "SNGAN"):
        preset["models"][model]["training"] |= {"steps": steps, "snapshot_every": every}
    preset["seeds"] = {"calibration": [0]}
    preset["sampling"]["num_samples"] = samples
    preset["likelihood"]["num_images"] = images
    preset["timing"]["rounds"] = 1
    preset["execution"] |= {"sampling_batch": batch, "checkpoint_every": max(1, every // 3), "log_every": 2}
    preset["execution"]["gpus_per_job"] = processes
    presets = {"paper": raw["presets"]["paper"] | {"groups": []}, PRESET: preset}
    shared = {key: raw[key] for key in ("models", "samplers", "surrogates")}
    return {"preset": PRESET, "device": "cpu", "studies": studies, **shared, "presets": presets}


def project(path: Path, document: dict) -> Project:
    """A copy of the project in a new folder, with the given parameters."""
    path.mkdir(parents=True)
    copy = Project(path, PRESET)
    (path / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return copy
