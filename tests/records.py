"""Records as if runs had been made, for what is made from records; records that are changed, runs that are deleted."""

import shutil
from collections.abc import Callable
from pathlib import Path

from surrodiff.planning.plan import Plan
from surrodiff.store.runs import open_run, read_record, shared, write_json

# Seconds of Default, and how many times as long others take for one evaluation and for one training step.
EVALUATION, TRAIN_STEP = 0.002, 0.5
RATIOS = {"Default": (1.0, 1.0), "DeepRes1": (0.6, 0.8), "SNGAN": (0.04, 0.3), "DDPMHalf": (0.35, 0.4)}
OTHERS = (1.25, 1.75)
LOSSES = "step,loss,loss_uniform_t,seconds\n" + "".join(f"{n},{1 + n % 2},1.0,0\n" for n in range(1, 181))


def distances_to(distance: float) -> dict:
    """The part of a score's record that compares with one split."""
    return {
        "frechet_distance": distance,
        "frechet_error": distance / 64,
        "frechet_infinity": distance - 1,
        "kernel_distance": distance / 1024,
        "kernel_distance_std": distance / 8192,
        "precision": 0.75,
        "recall": 0.5,
    }


def calibration_row(images: str, split: str, distance: float, corruption=None, amount=None, is_mean=9.5) -> dict:
    description = {
        "images": images,
        "corruption": corruption,
        "amount": amount,
        "num_images": 1437 if images == "train" else 360,
    }
    return description | {"is_mean": is_mean, "is_std": 0.25, split: distances_to(distance)}


def changes_of(distance: float) -> dict:
    """A refinement's record in pixels or in features."""
    shares = {"kept": 0.75, "kept_by_chance": 0.25, "above_chance": 0.5, "within": 0.875, "within_by_chance": 0.375}
    errors = {"distance_error": distance / 64, "relative_error": 1 / 64, "kept_error": 1 / 32}
    return {"distance": distance, "relative": distance / 2, "above_chance_error": 1 / 16, **shares, **errors}


def terms(timesteps: int, learned: bool) -> str:
    """A likelihood's terms by timestep: 1 / (t + 1) bits, and where a variance is learned v = t / 100."""
    lines = [f"{t},{1 / (t + 1)},{t / 100 if learned and t else ''}\n" for t in range(timesteps + 1)]
    return "t,bits_per_dim,v\n" + "".join(lines)


def of_its_own(number: int) -> dict:
    """The record of a likelihood in nats, by two bounds."""
    nats = 20 + number / 8
    lines = [
        {"samples": 1, "nats": nats + 1, "nats_error": 0.5, "rise": None, "rise_error": None},
        {"samples": 100, "nats": nats, "nats_error": 0.5, "rise": 1.0, "rise_error": 0.25},
    ]
    record = {"bits_per_dim": nats / 64, "bits_per_dim_error": 0.01, "nats": nats, "nats_error": 0.5, "bounds": lines}
    return record | {"num_images": 8, "data": "digits"}


def fill(plan: Plan, results, features: str, num_samples: int, losses: dict[str, str] | None = None):
    """Records of every run of a plan, as if it had been made; returns each score's Frechet distance.

    losses: texts of loss logs by the model's name, instead of LOSSES.
    """
    distances = {}
    provenance = {"device": "Slide rule, 1 thread"}
    for number, (run_id, run) in enumerate(plan.runs.items()):
        evaluation, train = RATIOS.get(run.name, OTHERS)
        distances[run_id] = 10 + number / 8
        timed = {"parameters": 1, "train_step_seconds": train * TRAIN_STEP}
        timed |= {"evaluation_seconds_per_image": evaluation * EVALUATION}
        record = {
            "data": {"source": "digits"},
            "models": {"parameters": 1000 + number, "parameters_by_paper": number / 4},
            "samples": {},
            "scores": {
                "train": distances_to(distances[run_id]),
                "held_out": distances_to(distances[run_id] + 2),
                "is_mean": 2 + number / 16,
                "is_std": number / 1024,
                "is_splits": 4,
                "num_samples": num_samples,
                "features": features,
                "data": "digits",
            },
            "references": {
                "features": features,
                "features_sha256": "c0ffee" * 10,
                "features_precision": "float32",
                "data": "digits",
                "train_images": 1437,
                "held_out_images": 360,
                "is_splits": 2,
                "calibration": [
                    calibration_row("train", "held_out", 1.5),
                    calibration_row("held_out", "train", 1.625, is_mean=9.25),
                    calibration_row("held_out", "train", 20.5, "noise", 16, is_mean=4.5),
                ],
            },
            "refinements": {
                "pixels": changes_of(number / 256),
                "features": changes_of(number / 128),
                "num_samples": num_samples,
                "train_images": 1437,
                "neighbours": 10,
                "data": "digits",
                "feature_network": features,
            },
            "likelihoods": of_its_own(number)
            if getattr(run.config, "samples", None)
            else {
                "bits_per_dim": 3 + number / 64,
                "bits_per_dim_error": 0.25,
                "prior": 0.125,
                "kl": 2 + number / 64,
                "decoder": 0.875,
                "num_images": 8,
                "data": "digits",
            },
            "diagnoses": {"data": "digits", "num_images": 4, "repetitions": 2},
            "timings": {
                "model": timed,
                "baseline": {},
                "to_baseline": {"train_step_seconds": train, "evaluation_seconds_per_image": evaluation},
                "to_baseline_interval": {"train_step_seconds": 0.125, "evaluation_seconds_per_image": evaluation / 16},
                "provenance": provenance,
            },
        }[run.stage]
        with open_run(results, run) as folder:
            texts = {}
            if run.stage == "models":
                texts["losses.csv"] = (losses or {}).get(run.name, LOSSES)
            if run.stage == "likelihoods":
                if run.config.samples:
                    texts["images.csv"] = "image,nats_1,nats_100\n" + "".join(f"{i},21,{20 + i}\n" for i in range(8))
                else:
                    T = plan.runs[run.config.model.run].config.model.diffusion.T
                    texts["terms.csv"] = terms(run.config.timesteps or T, run.config.variance == "learned")
            if run.stage == "diagnoses":
                texts["timesteps.csv"] = "t,effective_sample_size,loss,gradient_variance,gradient_square\n" + "".join(
                    f"{t},{1 / t},{2 / t},{3 * t},{t - 2}\n" for t in range(1, run.config.timesteps + 1)
                )
            for file, text in texts.items():
                (folder.path / file).write_text(text)
            folder.finish(record, list(texts))
    return distances


def forget(results: Path, stage: str, run_id: str = ""):
    """Delete a run, or all of a stage, where it is read and where it was made, so that it does not come back."""
    for folder in (results, shared(results) / "work"):
        shutil.rmtree(folder / stage / run_id, ignore_errors=True)


def change_record(path: Path, change: Callable[[dict], object]):
    """Change the record in a run's folder, as if it had been written so."""
    record = read_record(path)
    change(record)
    write_json(path / "record.json", record)
