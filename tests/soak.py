"""Interrupt small workflows at random, run the same command again until it ends well, and compare what came out.

    python tests/soak.py --runs 20 --seed 1

Exits with 1 on any difference, and keeps the folder of what failed. docs/reliability.md says what is compared.
"""

import argparse
import random
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from reliability.projects import parameters, project
from reliability.soaking import Workflow, soak
from small_studies import several


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="workflows, each from nothing (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first run's; the next has the next (default: 0)")
    parser.add_argument("--signals", type=int, default=8, help="at most so many for each run (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="of each job, under torchrun (default: 1)")
    parser.add_argument("--workflow-options", default="--cores 2", help="for Snakemake (default: '%(default)s')")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it ends what it has started
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=args.folder))
    document = parameters(several(), steps=240, samples=400, images=200, batch=16, processes=args.processes)
    workflow = Workflow(tuple(shlex.split(args.workflow_options)), args.processes)
    uninterrupted = project(folder / "uninterrupted", document)
    process = uninterrupted.run(*workflow.command)
    if process.returncode:
        print(process.stdout, f"\nthe uninterrupted workflow failed; it lies in {uninterrupted.path}", sep="")
        return 1
    failed = 0
    for seed in range(args.seed, args.seed + args.runs):
        copy = project(folder / f"seed {seed}", document)
        signals = random.Random(seed).randint(min(2, args.signals), args.signals)
        outcome = soak(copy, workflow, uninterrupted.results, seed, signals)
        print(outcome, flush=True)
        for problem in outcome.problems:
            print(f"    {problem}", flush=True)
        if outcome.problems:
            failed += 1
            print(f"    it lies in {copy.path}", flush=True)
        else:
            shutil.rmtree(copy.path)
    print(f"{args.runs} runs, {failed} with problems" + (f"; see {folder}" if failed else ""))
    if not failed:
        shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
