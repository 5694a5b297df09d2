"""Small copies of the project whose work takes seconds and can be interrupted anywhere."""

from pathlib import Path

import yaml
from workflow.project import ROOT, Project

PRESET = "test"
ONE_MODEL = {f"table_4_{number}": ["Default"] for number in range(1, 6)}
SEVERAL_MODELS = {
    **ONE_MODEL,
    "table_4_2": ["ShortDiffusion"],
    "table_4_4": ["Default", "IWDiffImportanceSampling"],
    "table_4_5": ["DDPMHalf", "SNGAN", "Default"],
}


def parameters(tables: dict, *, steps: int, samples: int, images: int, batch: int, processes: int = 1) -> dict:
    """The document of params.yaml with the preset `test` alone, cut to the given tables and sizes.

    steps: of each training, with a snapshot every quarter; samples, images: of a sample run and of a likelihood, made
    in batches of `batch`; processes: of each job.
    """
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    preset = raw["presets"][PRESET]
    every = steps // 4
    for model in ("Default", "SNGAN"):
        preset["models"][model]["training"] |= {"steps": steps, "snapshot_every": every}
    preset["evaluated_steps"] = [steps]
    preset["seeds"]["calibration"] = [0]
    preset["surrogate"]["t_mid"] = [0, 2]
    preset["sampling"]["num_samples"] = samples
    preset["likelihood"]["num_images"] = images
    preset["timing"]["rounds"] = 1
    preset["execution"] |= {"sampling_batch": batch, "checkpoint_every": max(1, every // 3), "log_every": 2}
    preset["execution"]["gpus_per_job"] = processes
    return {"preset": PRESET, "device": "cpu", "tables": tables, "presets": {PRESET: preset}}


def project(path: Path, document: dict) -> Project:
    """A copy of the project in a new folder, with the given parameters."""
    path.mkdir(parents=True)
    made = Project(path, PRESET)
    (path / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return made
