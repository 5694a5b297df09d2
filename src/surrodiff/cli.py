"""The command line: parsing, and how a command ends. `import torch` comes late, so that --help is quick."""

import argparse
import errno
import sys
import time
from pathlib import Path

from surrodiff import __version__
from surrodiff.commands import listings, outputs, records, runs
from surrodiff.config.params import STUDIES
from surrodiff.errors import UserError
from surrodiff.runtime import distributed, stopping
from surrodiff.runtime.stopping import Stopped

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


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters (default: params.yaml)")
    common.add_argument("--preset", help="preset to use (default: the file's `preset`)")
    text = "make the studies of this group, or this study; may be repeated (default: the preset's `groups`)"
    common.add_argument("--group", action="append", metavar="NAME", help=text)
    common.add_argument("--results", type=Path, help="folder of results (default: results/<preset>)")
    parser = argparse.ArgumentParser(
        prog="surrodiff",
        description="Diffusion generative models on small images: train, sample with surrogates, score, tabulate.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, (stage, text) in runs.STAGES.items():
        sub = commands.add_parser(command, parents=[common], help=text, description=text)
        sub.add_argument("run", help=f"a run of results/<preset>/{stage}: its name or its whole id")
        _add_machine(sub)
        sub.set_defaults(func=runs.make)
    text = "make runs of any stages, in order (what the workflow calls)"
    sub = commands.add_parser("make", parents=[common], help=text, description=text)
    stages = ", ".join(stage for stage, _ in runs.STAGES.values())
    sub.add_argument("runs", nargs="+", metavar="RUN", help=f"a run's whole id, or all runs of a stage: {stages}")
    sub.add_argument("--log", type=Path, help="where to write progress and warnings, below RESULTS/logs")
    _add_machine(sub)
    sub.set_defaults(func=runs.make)
    for command, text in (("table", "write a table as CSV and Markdown"), ("figure", "draw a figure as PNG and SVG")):
        sub = commands.add_parser(command, parents=[common], help=text, description=text)
        sub.add_argument("output", help=f"its name in {STUDIES}")
        sub.set_defaults(func=outputs.write_output)
    for command, text in (
        ("claims", "judge the paper's sentences that compare rows"),
        ("summary", "write what dvc metrics and dvc plots read: every row's scores and speed, and the training curves"),
    ):
        sub = commands.add_parser(command, parents=[common], help=text, description=text)
        sub.set_defaults(func=outputs.write_output)
    text = "write which runs and studies the preset asks for: what DVC's stages depend on"
    sub = commands.add_parser("resolve", parents=[common], help=text, description=text)
    sub.set_defaults(func=outputs.resolve)
    text = "score real images, whole and corrupted, and say whether the scores are what they should be"
    sub = commands.add_parser("calibrate", parents=[common], help=text, description=text)
    _add_machine(sub)
    sub.set_defaults(func=runs.calibrate)
    text = "record the preset's finished results in DVC; refuses while anything is missing or stale"
    commands.add_parser("record", help=text, description=text).set_defaults(func=records.record)
    text = "list runs that no preset of params.yaml asks for (runs of old values), with their sizes"
    sub = commands.add_parser("prune", help=text, description=text)
    sub.add_argument("--delete", action="store_true", help="delete those that DVC has recorded in a commit")
    sub.add_argument("--force", action="store_true", help="with --delete: the others too; they cannot be brought back")
    sub.set_defaults(func=records.prune)
    text = "write the page that `dvc plots` fills, with Vega in it, so that plots need no network"
    commands.add_parser("plots-page", help=text, description=text).set_defaults(func=records.write_plots_page)
    text = "list the preset's models: blocks, parameters, multiply-accumulates"
    sub = commands.add_parser("models", parents=[common], help=text, description=text)
    sub.set_defaults(func=listings.list_models)
    text = "list every run of the preset: whether it is done, and what it costs on this machine"
    detail = (
        "Seconds are those of records where there are any; the rest is measured in one or two steps each, and kept."
    )
    sub = commands.add_parser("plan", parents=[common], help=text, description=f"{text}. {detail}")
    sub.add_argument("--left", action="store_true", help="only how much is left, by what is known; measures nothing")
    _add_machine(sub)
    sub.set_defaults(func=listings.list_runs)
    return parser


def count(text: str) -> int:
    """The number that an option asks for; argparse says what was wrong with it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _add_machine(parser: argparse.ArgumentParser):
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where to run (default: the file's `device`)")
    parser.add_argument("--threads", type=count, help="CPU threads (default: the preset's execution.threads)")


def _failed(message: str) -> int:
    """Report an error and return the exit code."""
    if distributed.rank() > 0:
        # The first process meets most errors, too, and its end ends this one; what this one alone has met, it reports.
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
        note = "" if stop.kept else "; nothing finished is lost, and the same command resumes where it stopped"
        distributed.print_rank0(f"surrodiff: {stop}{note}")
        return 128 + stop.number


def _run(args: argparse.Namespace) -> int:
    try:
        # Only making runs is the work of all processes of a job.
        if distributed.rank() == 0 or args.func in (runs.make, runs.calibrate):
            args.func(args)
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
        out_of_memory = ("MemoryError", "OutOfMemoryError")
        if type(error).__name__ not in out_of_memory and "can't allocate memory" not in str(error):
            raise
        return _failed(
            "the memory is full; lower execution.micro_batch (training a DDPM) or execution.sampling_batch "
            "(sampling, scoring): neither changes the results"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
