"""One function that makes any run, by its stage.

A stage is a module here with `make(run, folder, job)`, which makes the run in its open folder, or resumes where it was
interrupted, and returns its record and the files that belong to it; None on a process that has nothing to finish, which
only one that is not the first may be.
"""

from importlib import import_module
from pathlib import Path

from surrodiff.planning.runs import Run
from surrodiff.stages.job import Job
from surrodiff.store.runs import is_made, open_run

# By stage, the module; imported when the first of its runs is made, because some need much and others little.
MODULES = {
    "data": "data",
    "models": "train",
    "references": "reference",
    "samples": "sample",
    "scores": "score",
    "refinements": "refinement",
    "likelihoods": "likelihood",
    "diagnoses": "diagnosis",
    "timings": "time",
}


def find(run: Run, results: Path) -> dict | None:
    """The record of a run that is made, and mark it done for the workflow; None of another. Needs no torch."""
    if not is_made(results, run):
        return None
    with open_run(results, run) as folder:
        if folder.record is not None:
            folder.mark_done()
        return folder.record


def make(run: Run, job: Job) -> dict | None:
    """Make a run, resume it, or find it made; returns its record, None on other processes than the first if the run
    was made now.

    Raises UserError if a run that this one reads is not complete, or for anything else that the user can mend.
    """
    if run.stage not in MODULES:
        raise ValueError(f"no stage {run.stage!r}")
    with open_run(job.results, run) as folder:
        if folder.record is None:
            stage = import_module(f"surrodiff.stages.{MODULES[run.stage]}")
            result = stage.make(run, folder, job)
            if result is not None:
                folder.finish(*result)
        folder.mark_done()
        return folder.record
