"""Commands that make runs."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from surrodiff.commands.given import parameters, results_folder
from surrodiff.config.presets import Execution
from surrodiff.errors import UserError
from surrodiff.planning.plan import Plan
from surrodiff.planning.plan import build as build_plan
from surrodiff.planning.runs import Run
from surrodiff.runtime import distributed
from surrodiff.runtime.stopping import Stopped
from surrodiff.store.runs import cache_folder, give_name, shared

# By command: the stage, and what it does.
STAGES = {
    "data": ("data", "read, resize and split the images"),
    "train": ("models", "train a model, or resume from its checkpoint"),
    "sample": ("samples", "draw a model's samples"),
    "reference": ("references", "features of both splits, and the calibration on real images"),
    "score": ("scores", "score samples against the training and the held-out split"),
    "refinement": ("refinements", "compare a surrogate's samples with what the diffusion makes of them"),
    "likelihood": (
        "likelihoods",
        "bound -log p of held-out images by a diffusion, an autoencoder or a flow",
    ),
    "diagnose": ("diagnoses", "how the gradient of a model's objective varies over noises, by timestep"),
    "time": ("timings", "time a model's training step and sampling beside Default's"),
}


def _find(args, plan: Plan) -> Run:
    """The run of a plan that the command line names."""
    stage, _ = STAGES[args.command]
    runs = plan.runs.values()
    matches = [run for run in runs if run.stage == stage and args.run in (run.id, run.name)]
    if not matches:
        names = ", ".join(run.name for run in runs if run.stage == stage)
        raise UserError(f"{args.params}: the preset has no {args.run!r} to {args.command}; there are {names}")
    return matches[0]


def _given(args, plan: Plan) -> list[Run]:
    """The runs of a plan that `make` is given by their ids, or by their stages."""
    runs = []
    for name in args.runs:
        run_ids = [name] if name in plan.runs else plan.of_stage(name)
        if not run_ids:
            raise UserError(
                f"{args.params}: asks for no run {name!r}; `surrodiff plan` lists the ids of those it asks for"
            )
        runs += [plan.runs[run_id] for run_id in run_ids]
    return runs


@contextlib.contextmanager
def _logging(path: Path, results: Path):
    """Append progress, warnings and errors to a log below `results`/logs; an error is shown on the terminal, too.

    The workflow deletes a job's log when the job starts. So all attempts are kept where runs are made, and `path` is
    another name of that file.
    """
    log_file = shared(results) / "work" / path.relative_to(results)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    file = open(log_file, "a", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    with file as log, contextlib.redirect_stderr(log):
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} process {os.getpid()} on {socket.gethostname()}", file=log)
        if distributed.rank() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            give_name(log_file, path)
        try:
            yield
        except (Exception, Stopped) as error:
            print(f"{type(error).__name__}: {error}", file=log)
            raise


def _compiled_code() -> Path:
    """A writable folder for compiled code. PyTorch's own choice fails for a user without a name."""
    with contextlib.suppress(OSError, UserError):
        folder = cache_folder() / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir()) / f"surrodiff-{os.getuid()}" / "compiled"


def start_torch(threads: int):
    """PyTorch with so many threads on the CPU."""
    # OpenMP reads this once, at the import.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Where PyTorch keeps compiled code for later jobs; read once, too.
    with contextlib.suppress(OSError):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_compiled_code()))
    import torch

    torch.set_num_threads(threads)
    return torch


def _stages(args, runs: list[Run], execution: Execution) -> Iterator[dict]:
    """Make runs in order, with a log if the workflow calls, and yield their records."""
    from surrodiff.stages import registry
    from surrodiff.stages.job import Job

    results, log = results_folder(args), getattr(args, "log", None)
    with _logging(log, results) if log else contextlib.nullcontext():
        # What is made is found without PyTorch, whose import takes seconds.
        records = [registry.find(run, results) for run in runs] if distributed.world() == 1 else [None]
        if None not in records:
            yield from records
            return
        torch = start_torch(max(1, (args.threads or execution.threads) // distributed.world()))
        from surrodiff.runtime import devices

        on_cpu = all(run.stage == "data" for run in runs)  # which need no GPU, even where one is asked for
        device = torch.device("cpu") if on_cpu else devices.resolve(args.device or parameters(args).device)
        with (
            distributed.joined(device.type),
            contextlib.nullcontext(device) if on_cpu else devices.claimed(device) as own_device,
        ):
            for run in runs:
                yield registry.make(run, Job(results, own_device, execution))


def make(args):
    """Make the runs that the command line names, or find them made, and print their folders."""
    loaded = parameters(args)
    plan = build_plan(loaded)
    runs = _given(args, plan) if args.command == "make" else [_find(args, plan)]
    execution = loaded.selected.execution
    for run, _ in zip(runs, _stages(args, runs, execution), strict=True):
        if distributed.rank() == 0:
            print(results_folder(args) / run.stage / run.id, flush=True)


def calibrate(args):
    """Make the reference and say whether its calibration is what it should be; raises UserError if it is not."""
    from surrodiff.scoring import calibration

    plan = build_plan(parameters(args))
    reference_run = plan.runs[plan.reference]
    runs = [*(plan.runs[run_id] for _, run_id in reference_run.config.needs()), reference_run]
    *_, reference = _stages(args, runs, parameters(args).selected.execution)
    if distributed.rank() > 0:
        return
    checks = calibration.checks(reference)
    print(
        f"{reference['features']} features of {reference['data']}: {reference['train_images']} training and "
        f"{reference['held_out_images']} held-out images"
    )
    for check in checks:
        print({True: "pass", False: "FAIL", None: "    "}[check.passed], check.text)
    if any(check.passed is False for check in checks):
        raise UserError("the calibration failed: scores made here do not compare with published ones")
