"""How the gradient of a trained DDPM's objective varies over its noises, by timestep (see diffusion.diagnosis)."""

import time

import numpy as np

from surrodiff.config.samplers import grid
from surrodiff.data import pixels, sources
from surrodiff.diffusion.diagnosis import diagnose
from surrodiff.diffusion.schedule import Schedule
from surrodiff.errors import UserError
from surrodiff.kinds.weights import load_weights
from surrodiff.planning.measures import DIAGNOSED, DiagnosisConfig
from surrodiff.planning.runs import Run
from surrodiff.runtime import devices, noise
from surrodiff.runtime.noise import Stream
from surrodiff.stages.job import Job
from surrodiff.store import provenance
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import RunFolder, write_text

TIMESTEPS = "timesteps.csv"


def make(run: Run[DiagnosisConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Diagnose the objective of a model at each of its timesteps, or resume where it was interrupted.

    The gradient is that of the averaged weights, which are sampled, without dropout and in float32. Writes
    `timesteps.csv`: by t, what DIAGNOSED names. As many evaluations are held at once as a training step holds.
    """
    config, device = run.config, job.device
    network, trained = load_weights(job.results, config.model.run, config.model.step, device)
    network.requires_grad_(True)
    model = trained.model
    arrays, data_record = sources.load(job.results, config.data)
    images = arrays["train_images"]
    if config.num_images > len(images):
        raise UserError(f"diagnosis.num_images: {config.num_images} is more than the {len(images)} training images")
    order = noise.permutation(config.seed, Stream.DIAGNOSIS, 0, len(images))[: config.num_images]
    x_0 = pixels.to_float(pixels.resize_uint8(images[order], model.image_size)).to(device)
    variance = "learned" if model.network.learned_variance else "fixed_large"
    schedule = Schedule(model.diffusion, variance, device)
    timesteps = grid(model.diffusion, config.timesteps)
    most = job.execution.micro_batch or model.training.batch_size * model.objective.noises
    parts = PartFiles(folder.path, "timesteps", len(timesteps), np.float64, (len(DIAGNOSED),))
    start, (_, own) = len(timesteps) - len(parts.missing), parts.batches(1)
    began = time.monotonic()
    progress = devices.Progress(f"diagnosis {run.id}", len(timesteps), "timesteps", start)
    # Assumes equal progress on all ranks.
    scale = len(parts.missing) / max(1, len(own))
    with parts.counted("timesteps"):
        for numbers in own:
            t = timesteps[numbers[0]]
            found = diagnose(
                model.objective,
                schedule,
                network,
                network.parameters(),
                x_0,
                t,
                seed=config.seed,
                repetitions=config.repetitions,
                most=most,
            )
            if not found.isfinite().all():
                raise UserError(
                    f"{folder.path}: the gradient at t = {t} is not finite; the model may have diverged (see its "
                    "losses.csv)"
                )
            folder.check()
            parts.add(numbers, found[None].cpu().numpy())
            progress.advance(scale)
    progress.close()
    collected = parts.collected()
    if collected is None:
        return None
    lines = [",".join(map(str, (t, *row))) for t, row in zip(timesteps, collected.tolist(), strict=True)]
    write_text(folder.path / TIMESTEPS, "\n".join([",".join(("t", *DIAGNOSED)), *lines, ""]))
    record = {
        "num_images": config.num_images,
        "repetitions": config.repetitions,
        "noises": model.objective.noises,
        "T": schedule.T,
        "timesteps": len(timesteps),
        "data": data_record["source"],
        "diagnosed_now": len(timesteps) - start,
        "seconds": time.monotonic() - began,
        "provenance": provenance.describe(device, "float32"),
    }
    return record, [TIMESTEPS]
