"""The plan of the selected preset, and how rules refer to it."""

import collections
import functools
import os
import pathlib
import shlex
import sys
import tempfile
import time

SOURCES = str(pathlib.Path(str(workflow.current_basedir)).resolve().parents[1] / "src")
sys.path.insert(0, SOURCES)

from surrodiff.config import params as surrodiff_params
from surrodiff.data import identity
from surrodiff.errors import shown
from surrodiff.planning import frozen, recipes
from surrodiff.planning import plan as surrodiff_plan
from surrodiff.stages import costs

# Jobs import the same code; what else their path holds stays there.
_paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join([SOURCES, *(path for path in _paths if path not in ("", SOURCES))])

# Names the file of the parameters for the Snakemake that a submitted job starts; one variable for each use as a module.
FROZEN = "_".join(filter(None, ("SURRODIFF_PARAMS", workflow.modifier.namespace)))
# Never the user's own: the main process always sets it.
SUBMITTED = not workflow.is_main_process and FROZEN in os.environ

# Where relative paths begin.
HERE = pathlib.Path().absolute()
DRY_RUN = bool({"-n", "--dry-run", "--dryrun"} & {*sys.argv})
if DRY_RUN and not os.access(".", os.W_OK):
    # Snakemake writes into its folder even then, so it plans in another one that shows the same files.
    _shown = tempfile.TemporaryDirectory(prefix="surrodiff-dry-run-")
    for _name in os.listdir():
        if _name != ".snakemake":
            os.symlink(os.path.abspath(_name), os.path.join(_shown.name, _name))

    workdir: _shown.name


_changes = workflow.config_settings.overwrite_config
# Whether the studies are those of the preset's own groups, which claims and summary are of.
OWN_GROUPS = "groups" not in _changes
with shown():
    if SUBMITTED:
        PARAMS = surrodiff_params.load(pathlib.Path(os.environ[FROZEN]))
    elif workflow.modifier.skip_configfile:  # a module that is given its configuration
        PARAMS = surrodiff_params.of_config(config)
    elif "presets" in _changes and not os.path.exists("params.yaml"):  # by --configfile, in another folder
        PARAMS = surrodiff_params.of_config(_changes)
    else:
        PARAMS = surrodiff_params.load(changes=_changes)
    PARAMS = identity.identified(PARAMS, HERE)
if workflow.is_main_process:
    for _warning in surrodiff_params.warnings(PARAMS):
        print(_warning, file=sys.stderr)

PLAN = surrodiff_plan.build(PARAMS)
RESULTS = f"results/{PARAMS.preset}"
# Where Snakemake puts what it calls RESULTS: elsewhere if this is a module with a prefix.
FOLDER = workflow.modifier.path_modifier.replace_prefix(RESULTS)
_moved = workflow.modifier.path_modifier.replace_prefix(f"{RESULTS}/tables/x")
if _moved != f"{FOLDER}/tables/x":
    sys.exit(f"surrodiff: replace_prefix: moves only a part of {RESULTS} (to {_moved}); move all of results/")
EXECUTION = PARAMS.selected.execution
# A GPU is a resource only where jobs will use one; elsewhere jobs share the cores.
GPU = int(PARAMS.device == "cuda" or (PARAMS.device == "auto" and os.path.exists("/dev/nvidiactl")))

STATE = pathlib.Path(".snakemake/surrodiff")
# An input of every table and figure that is not what its recipe asks for: always newer. Without it, a number changed back
# would leave yesterday's table standing.
ALWAYS_STALE = STATE / "now"
if SUBMITTED:
    PARAMS_FILE = pathlib.Path(os.environ[FROZEN])
else:
    try:
        PARAMS_FILE = frozen.freeze(PARAMS, STATE)
        # A new content too: Snakemake takes a newer file of the same checksum for unchanged.
        ALWAYS_STALE.write_text(str(time.time_ns()))
    except OSError as error:
        # Snakemake itself fails with a traceback where it cannot write, even in a dry run; it lists rules, though.
        if not {"--list", "--list-rules", "-l", "--list-target-rules", "--lt", "--lint"} & set(sys.argv):
            sys.exit(
                f"surrodiff: {error.filename}: {error.strerror}; make this folder writable, or work in another one: "
                f"snakemake --snakefile {shlex.quote(workflow.main_snakefile)} --configfile PARAMS.yaml"
            )
        PARAMS_FILE = STATE / "not written"
    os.environ[FROZEN] = str(PARAMS_FILE)


wildcard_constraints:
    run=r"\w+-[0-9a-f]{8}",
    table="|".join(PLAN.tables),
    figure="|".join(PLAN.figures) or "none",


def done(stage, run):
    """A run's marker. Existence is validity, so it is `ancient` as an input: a run's id says all that made it."""
    return f"{RESULTS}/{stage}/{run}/done.json"


def all_of(stage):
    return [done(stage, run) for run in PLAN.of_stage(stage)]


def needed(stage, of=lambda run: run):
    """An input function: the markers of those runs of a stage that a run reads, or what `of` names for it."""

    def markers(wildcards):
        needs = PLAN.runs[of(wildcards.run)].config.needs()
        return [ancient(done(*need)) for need in needs if need[0] == stage]

    return markers


def shown(score):
    """The model that a score is about: of Surrogate Diffusion, the surrogate; of images that no model makes, these."""
    return PLAN.runs[PLAN.runs[score].config.sample].config.subject(PLAN.runs)


SCORES_OF, MEASURES_OF = collections.defaultdict(list), collections.defaultdict(list)
SCORED = collections.defaultdict(list)  # by the samples
for _run in PLAN.of_stage("scores"):
    SCORES_OF[shown(_run)].append(_run)
    SCORED[PLAN.runs[_run].config.sample].append(_run)
for _run in PLAN.of_stage("likelihoods") + PLAN.of_stage("diagnoses"):
    MEASURES_OF[PLAN.runs[_run].config.model.run].append(_run)


def made_before(model, run=None):
    """The marker of a model's first score, if that score's job makes all else of the model, and this run too."""
    first = SCORES_OF[model][:1] if EXECUTION.one_job_per_model else []
    return [ancient(done("scores", score)) for score in first if score != run]


def made_by(score):
    """The runs that the job of a score makes: with their model's first score, all else of that model."""
    model = shown(score)
    together = EXECUTION.one_job_per_model and SCORES_OF[model][0] == score
    runs = []
    for own in SCORES_OF[model] if together else [score]:
        sample = PLAN.runs[own].config.sample
        runs += [*PLAN.runs[sample].config.begins_with(PLAN.runs), sample, own]
    return list(dict.fromkeys(runs + (MEASURES_OF[model] if together else [])))


def begins_after(score):
    """The markers of scores whose samples a score's samples begin with, where another job makes them."""
    if EXECUTION.one_job_per_model:
        return []
    begun = PLAN.runs[PLAN.runs[score].config.sample].config.begins_with(PLAN.runs)
    return [ancient(done("scores", run)) for sample in begun for run in SCORED[sample]]


def read_by(score, stage):
    """The markers of those runs of a stage that the job of a score reads."""
    needs = [need for run in made_by(score) for need in PLAN.runs[run].config.needs() if need[0] == stage]
    return [ancient(done(*need)) for need in dict.fromkeys(needs)]


def only_scores_are_there(sample):
    """Whether nothing will make these samples by the way, as the job of a missing score does."""
    there = [pathlib.Path(FOLDER, "scores", run, "done.json").exists() for run in SCORED[sample]]
    return all(there) and not pathlib.Path(FOLDER, "samples", sample, "done.json").exists()


def processes(wildcards):
    """How many processes, each with a GPU of its own, make a run."""
    config = PLAN.runs[wildcards.run].config
    return EXECUTION.gpus_per_job if config.stage != "models" or config.model.by_all else 1


def gpus(wildcards):
    return GPU * processes(wildcards)


def start(wildcards):
    """How Python is to start the command."""
    count = processes(wildcards)
    return "" if count == 1 else f"-m torch.distributed.run --standalone --nproc-per-node {count}"


def word(value):
    """A value as a word of a shell command that Snakemake formats."""
    return shlex.quote(str(value)).replace("{", "{{").replace("}", "}}")


# What a command line holds does not grow with rows or seeds: runs by id, and all else in the file of the parameters.
PYTHON = word(sys.executable)
GIVEN = f"--params {word(PARAMS_FILE)} --results {word(FOLDER)}"
# What a run's marker stands for belongs to the command, because Snakemake deletes the outputs of failed, killed and forced
# jobs. It deletes a log when its job starts; the command keeps all attempts and gives the log back.
RUN_COMMAND = (
    f"{PYTHON} {{params.start}} -m surrodiff.cli make {{params.runs:q}} {GIVEN} --threads {{threads}} --log {{log:q}}"
    " > /dev/null"
)
# In messages, as `params.left`: what is left when the job starts, since messages are formatted then.
TIME_LEFT = costs.TimeLeft(PLAN, pathlib.Path(FOLDER))
