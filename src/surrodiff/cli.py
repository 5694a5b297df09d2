"""The command line: parse, call one function, print one result. `import torch` comes late, so that --help is quick."""

import argparse
import contextlib
import errno
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from surrodiff import __version__
from surrodiff.config import params
from surrodiff.data import identity
from surrodiff.errors import UserError
from surrodiff.planning import plan, recipes
from surrodiff.runtime import distributed, stopping
from surrodiff.runtime.stopping import Stopped
from surrodiff.store.runs import cache_folder, shared

EXAMPLES = """\
Each command does one step of the workflow for one run, named by params.yaml; `snakemake --cores all` does them all in
order. A finished run is found, not made again; an interrupted one resumes where it stopped.

examples, in the folder that holds params.yaml:
  surrodiff models --preset paper         what would be trained
  surrodiff plan --preset paper           what each job costs on this machine, and what is done
  surrodiff data digits                   the images (the data source's name)
  surrodiff train Default                 a model of the preset
  surrodiff sample Default_750            a model's samples after 750 steps; SNGAN_t15: Surrogate Diffusion
  surrodiff score Default_750             their Frechet distance and Inception Score
  surrodiff table table_4_1               a table from its scores
"""

LONE_SECONDS = 10  # after which an error of another process than the first is one that the first does not have

STAGES = {
    "data": ("data", "read, resize and split the images"),
    "train": ("models", "train a model, or go on from its checkpoint"),
    "sample": ("samples", "draw a model's samples"),
    "reference": ("references", "features of both splits, and the calibration on real images"),
    "score": ("scores", "score samples against the training and the held-out split"),
    "likelihood": ("likelihoods", "bits per dimension of a model's variational bound on held-out images"),
    "time": ("timings", "time a model's training step and sampling beside Default's"),
}


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters (default: params.yaml)")
    common.add_argument("--preset", help="preset to use (default: the file's `preset`)")
    common.add_argument("--results", type=Path, help="folder of results (default: results/<preset>)")
    parser = argparse.ArgumentParser(
        prog="surrodiff",
        description="Diffusion generative models on small images: train, sample with surrogates, score, tabulate.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, (stage, text) in STAGES.items():
        sub = commands.add_parser(command, parents=[common], help=text, description=text)
        sub.add_argument("run", help=f"a run of results/<preset>/{stage}: its name or its whole id")
        _add_machine(sub)
    text = "make runs of any stages, in order, each with a log (what the workflow calls)"
    sub = commands.add_parser("make", parents=[common], help=text, description=text)
    stages = ", ".join(stage for stage, _ in STAGES.values())
    sub.add_argument("runs", nargs="+", metavar="RUN", help=f"a run's whole id, or all runs of a stage: {stages}")
    _add_machine(sub)
    for command, text in (("table", "write a table as CSV and Markdown"), ("figure", "draw a figure as PNG and SVG")):
        sub = commands.add_parser(command, parents=[common], help=text, description=text)
        more = ", or calibration, likelihood" * (command == "table")
        sub.add_argument("output", help=f"{command}_4_1 and so on{more}")
    for command, text in (
        ("claims", "judge the paper's sentences that compare rows"),
        ("summary", "write what dvc metrics and dvc plots read: every row's scores and speed, and the training curves"),
    ):
        commands.add_parser(command, parents=[common], help=text, description=text)
    text = "score real images, whole and damaged, and say whether the scores are what they should be"
    _add_machine(commands.add_parser("calibrate", parents=[common], help=text, description=text))
    text = "record the preset's finished results in DVC; refuses while anything is missing or stale"
    commands.add_parser("record", help=text, description=text)
    text = "list runs that no preset of params.yaml asks for (runs of old values), with their sizes"
    sub = commands.add_parser("prune", help=text, description=text)
    sub.add_argument("--delete", action="store_true", help="delete those that DVC has recorded in a commit")
    sub.add_argument("--force", action="store_true", help="with --delete: the others too; they cannot be brought back")
    text = "write the page that `dvc plots` fills, with Vega in it, so that plots need no network"
    commands.add_parser("plots-page", help=text, description=text)
    text = "list the preset's models: blocks, parameters, multiply-accumulates"
    commands.add_parser("models", parents=[common], help=text, description=text)
    text = "list every run of the preset: whether it is done, and what it costs on this machine"
    more = "Seconds are those of records where there are any; the rest is measured in one or two steps each, and kept."
    sub = commands.add_parser("plan", parents=[common], help=text, description=f"{text}. {more}")
    sub.add_argument("--left", action="store_true", help="only how much is left, by what is known; measures nothing")
    _add_machine(sub)
    return parser


def count(text: str) -> int:
    """The number that an option asks for; argparse says what was wrong with it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _add_machine(parser: argparse.ArgumentParser):
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where to run (default: the file's `device`)")
    parser.add_argument("--threads", type=count, help="CPU threads (default: the preset's execution.threads)")


def _params(args) -> params.Params:
    """The parameters, read once a command, and what is odd about them."""
    if "loaded" not in args:
        loaded = params.load(args.params, preset=args.preset, device=getattr(args, "device", None))
        args.loaded = identity.identified(loaded)
        if args.command != "make":  # which the workflow calls, and the workflow has printed them
            for warning in params.warnings(args.loaded, str(args.params)):
                distributed.print_rank0(warning)
    return args.loaded


def _find(args, made: plan.Plan) -> plan.Run:
    """The run of a plan that the command line names."""
    stage, _ = STAGES[args.command]
    runs = made.runs.values()
    found = [run for run in runs if run.stage == stage and args.run in (run.id, run.name)]
    if not found:
        names = ", ".join(run.name for run in runs if run.stage == stage)
        raise UserError(f"{args.params}: the preset has no {args.run!r} to {args.command}; there are {names}")
    return found[0]


def _given(args, made: plan.Plan) -> list[plan.Run]:
    """The runs of a plan that `make` is given by their ids, or by their stages."""
    found = []
    for name in args.runs:
        named = [name] if name in made.runs else made.of_stage(name)
        if not named:
            raise UserError(
                f"{args.params}: asks for no run {name!r}; `surrodiff plan` lists the ids of those it asks for"
            )
        found += [made.runs[run_id] for run_id in named]
    return found


def _results(args) -> Path:
    return args.results or Path("results") / _params(args).preset


@contextlib.contextmanager
def _logging(path: Path):
    """Append progress, warnings and errors to a log; an error is then reported on the terminal, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    with file as log, contextlib.redirect_stderr(log):
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} process {os.getpid()} on {socket.gethostname()}", file=log)
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


def _torch(threads: int):
    """PyTorch with so many threads on the CPU."""
    # OpenMP reads this once, at the import.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Where PyTorch keeps compiled code for later jobs; read once, too.
    with contextlib.suppress(OSError):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_compiled_code()))
    import torch

    torch.set_num_threads(threads)
    return torch


def _stages(args, runs: list[plan.Run], execution: dict) -> Iterator[dict]:
    """Make runs in order, each with its log if the workflow calls, and yield their records."""
    torch = _torch(max(1, (args.threads or execution["threads"]) // distributed.world()))
    from surrodiff.runtime import devices
    from surrodiff.stages import registry

    cpu = all(run.stage == "data" for run in runs)  # which need no GPU, even where one is asked for
    device = torch.device("cpu") if cpu else devices.resolve(args.device or _params(args).device)
    with distributed.joined(device.type), contextlib.nullcontext(device) if cpu else devices.claimed(device) as own:
        for run in runs:
            log = _logging(shared(_results(args)) / "logs" / run.stage / f"{run.id}.log")
            with log if args.command == "make" else contextlib.nullcontext():
                yield registry.make(run, _results(args), own, execution)


def _make(args):
    parameters = _params(args)
    made = plan.build(parameters)
    runs = _given(args, made) if args.command == "make" else [_find(args, made)]
    execution = parameters.selected.execution.model_dump()
    for run, _ in zip(runs, _stages(args, runs, execution), strict=True):
        if distributed.rank() == 0:
            print(_results(args) / run.stage / run.id, flush=True)


def _calibrate(args):
    from surrodiff.scoring import calibration

    made = plan.build(_params(args))
    needed = [run_id for _, run_id in plan.needs(made, made.reference)]
    runs = [made.runs[run_id] for run_id in [*needed, made.reference]]
    *_, reference = _stages(args, runs, _params(args).selected.execution.model_dump())
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


def _run_output(args):
    output = getattr(args, "output", args.command)
    made = plan.build(_params(args))
    known = {"table": made.tables, "figure": made.figures}.get(args.command, [output])
    if output not in known:
        raise UserError(f"there is no {args.command} {output!r}; there are {', '.join(known)}")
    # Only what is asked for: matplotlib alone takes longer to import than a table to write.
    match args.command:
        case "table":
            from surrodiff.report.tables import write

            where = f"tables/{output}"
        case "figure":
            from surrodiff.report.figures import write

            where = f"figures/{output}"
        case "claims":
            from surrodiff.report.tables import write_claims as write

            where = "claims.csv"
        case "summary":
            from surrodiff.report.summary import write

            where = "summary"
    write(recipes.recipe(made, output), _results(args))
    print(_results(args) / where)


def _list_models(args):
    import pandas as pd
    import torch

    from surrodiff import networks

    made = plan.build(_params(args))
    rows = []
    for run_id in made.of_stage("models"):
        config = made.runs[run_id].config
        if config["kind"] == "classifier":
            continue
        with torch.device("meta"):
            parameters = networks.trainable_parameters(networks.build(config))
        ddpm = config["kind"] == "ddpm"
        network = config.get("network", {})
        rows.append(
            {
                "model": made.runs[run_id].name,
                "run": run_id,
                "image": f"{config['channels']}x{config['image_size']}x{config['image_size']}",
                "block": network.get("block", "SNGAN generator"),
                "multipliers": str(network.get("channel_multipliers", "")),
                "res blocks": network.get("num_res_blocks", ""),
                "base channels": network.get("base_channels", config.get("generator_channels")),
                "parameters": parameters,
                "paper's count, M": f"{networks.parameters_by_paper(parameters, config):.2f}" if ddpm else "",
                "MACs per image, M": f"{networks.macs_per_image(config) / 1e6:.1f}",
                "steps": config["training"]["steps"],
            }
        )
    print(pd.DataFrame(rows).to_string(index=False))
    print("\nThe paper's count is in units of 2^20 and includes the frozen T x base-channels timestep table.")


def _plan(args):
    from surrodiff.stages import costs

    parameters = _params(args)
    made, results, execution = plan.build(parameters), _results(args), parameters.selected.execution.model_dump()
    if args.left:
        print(costs.time_left(made, results))
        return
    _torch(args.threads or min(execution["threads"], os.cpu_count() or 1))
    from surrodiff.runtime import devices
    from surrodiff.stages import timing

    device = devices.resolve(parameters.device)
    found = costs.Costs(made, results, devices.description(device))
    timing.measure_unknown(found, device, execution)
    for path in dict.fromkeys(found.damaged):
        print(f"surrodiff: {path}: damaged; this report goes without it", file=sys.stderr)
    print(costs.report(found.all()))
    print(f"\nOne job after another on {found.machine}; scoring by its feature network alone until one is finished.")


def _record(args):
    from surrodiff.dvc import recording

    recording.record(params.load())
    print(
        "recorded; now commit dvc.lock, params.yaml, and the tables, figures and summary under results/ with git; then "
        "`dvc push --all-commits` ships it (without that option only the selected preset's)"
    )


def _prune(args):
    from surrodiff.dvc import recording

    found = recording.leftovers(params.load())
    kept = [leftover for leftover in found if not args.delete or not (leftover.recorded or args.force)]
    for leftover in found:
        state = "recorded" if leftover.recorded else "not recorded"
        did = "" if leftover in kept else ", deleted"
        if leftover not in kept:
            leftover.delete()
        print(f"{leftover.size / 1e6:12.2f} MB  {leftover.paths[0]}  ({state} in a commit{did})")
    total, freed = (
        sum(leftover.size for leftover in part) / 1e6 for part in (found, [f for f in found if f not in kept])
    )
    print(f"{total:12.2f} MB in {len(found)} runs that nothing asks for, {freed:.2f} MB deleted")
    if args.delete and kept:
        print("kept what no commit has recorded: see `surrodiff record`, or add --force")


def _plots_page(args):
    from surrodiff.dvc import plots_page

    plots_page.write()
    print(plots_page.PAGE)


def _failed(message: str) -> int:
    """Tell an error and return the exit code."""
    if distributed.rank() > 0:
        # The first process meets most errors, too, and its end ends this one; it tells what it alone has met.
        time.sleep(LONE_SECONDS)
    print(f"surrodiff: {message}", file=sys.stderr)
    return 1


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for an error that is reported in one line, 143 or 130 if it was
    stopped by SIGTERM or SIGINT."""
    args = _parser().parse_args(argv)
    try:
        with stopping.watched():
            return _run(args)
    except Stopped as stop:
        kept = "" if stop.kept else "; nothing finished is lost, and the same command resumes where it stopped"
        distributed.print_rank0(f"surrodiff: {stop}{kept}")
        return 128 + stop.number


def _run(args: argparse.Namespace) -> int:
    try:
        if args.command in STAGES or args.command == "make":
            _make(args)
        elif args.command == "calibrate":
            _calibrate(args)
        elif distributed.rank() == 0:
            others = {"models": _list_models, "plan": _plan, "record": _record, "prune": _prune}
            others["plots-page"] = _plots_page
            others.get(args.command, _run_output)(args)
    except UserError as error:
        return _failed(str(error))
    except OSError as error:
        hint = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again: nothing finished is lost",
            errno.EACCES: "no permission; make the folder writable",
            errno.EROFS: "the file system is read-only",
        }.get(error.errno, error.strerror or str(error))
        return _failed(f"{error.filename or args.command}: {hint}")
    except (MemoryError, RuntimeError) as error:
        out = ("MemoryError", "OutOfMemoryError")
        if type(error).__name__ not in out and "can't allocate memory" not in str(error):
            raise
        return _failed(
            "the memory is full; lower execution.micro_batch (training a DDPM) or execution.sampling_batch "
            "(sampling, scoring): neither changes the results"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
