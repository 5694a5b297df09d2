"""The plan of the selected preset, and how rules refer to it."""

import collections
import json
import os
import pathlib
import shlex
import sys
import time

sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from surrodiff import costs
from surrodiff import params as surrodiff_params
from surrodiff import plan as surrodiff_plan
from surrodiff import recipes
from surrodiff.errors import shown
from surrodiff.plan import canonical

with shown():
    PARAMS = surrodiff_params.load(changes=workflow.config_settings.overwrite_config)
if workflow.is_main_process:
    for _warning in surrodiff_params.warnings(PARAMS):
        print(_warning, file=sys.stderr)

PLAN = surrodiff_plan.build(PARAMS)
RESULTS = f"results/{PARAMS.preset}"
EXECUTION = PARAMS.selected.execution
# A GPU is a resource only where jobs will use one; elsewhere jobs share the cores.
GPU = int(PARAMS.device == "cuda" or (PARAMS.device == "auto" and os.path.exists("/dev/nvidiactl")))
os.environ["PYTHONPATH"] = os.path.join(workflow.basedir, "src")


wildcard_constraints:
    run=r"\w+-[0-9a-f]{8}",
    table="|".join(PLAN.tables),
    figure="|".join(PLAN.figures),


def done(stage, run):
    return f"{RESULTS}/{stage}/{run}/done.json"


def needed(wildcards):
    """Markers of the runs that a run reads. Existence is validity: a run's id says all that it was made from."""
    return [ancient(done(*need)) for need in surrodiff_plan.needs(PLAN, wildcards.run)]


SCORES_OF = collections.defaultdict(list)
for _run in PLAN.of_stage("scores"):
    SCORES_OF[PLAN.runs[_run].config["sample"]].append(_run)


def command(*run_ids):
    """The runs to make, in order, as the command line's one JSON word."""
    runs = [vars(PLAN.runs[run]) for run in run_ids]
    return shlex.quote(canonical({"runs": runs, "execution": EXECUTION.model_dump()}))


class TimeLeft:
    """What is left of the preset, told when a job starts: messages are formatted then. `surrodiff plan` tells more."""

    def __str__(self):
        return costs.time_left(PLAN, pathlib.Path(RESULTS))


LEFT = TimeLeft()


def own_command(wildcards):
    return command(wildcards.run)


def processes(wildcards):
    """How many processes, each with a GPU of its own, make a run."""
    return EXECUTION.gpus_per_job if PLAN.runs[wildcards.run].config.get("kind", "ddpm") == "ddpm" else 1


def gpus(wildcards):
    return GPU * processes(wildcards)


def start(wildcards):
    """How Python is to start the command."""
    count = processes(wildcards)
    return "" if count == 1 else f"-m torch.distributed.run --standalone --nproc-per-node {count}"


PYTHON = shlex.quote(sys.executable)
MAKE = f"{PYTHON} {{params.start}} -m surrodiff.cli make {{params.runs}} --results {RESULTS} --device {PARAMS.device} --threads {{threads}} > /dev/null"
