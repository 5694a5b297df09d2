"""Damage what the program reads, and sort what happens.

    python tests/fuzz.py params --count 1000 --seed 1
    python tests/fuzz.py files --count 1000 --seed 1 --only 17

Exits with 1 if anything was found that should not be; `--only` repeats one case. docs/reliability.md explains them.
"""

import argparse
import sys

from reliability import files_fuzz, params_fuzz


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for what in ("params", "files"):
        sub = commands.add_parser(what)
        sub.add_argument("--count", type=int, default=200, help="cases (default: %(default)s)")
        sub.add_argument("--seed", type=int, default=0, help="of the cases (default: %(default)s)")
        sub.add_argument("--only", type=int, metavar="CASE", help="one case by its number")
        text = {
            "params": "accepted files that the real workflow runs, too",
            "files": "cases in a repository, with Snakemake and DVC",
        }
        sub.add_argument("--real", type=int, default=10, help=f"at most so many {text[what]} (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    cases = range(args.count) if args.only is None else [args.only]
    if args.what == "params":
        report = params_fuzz.fuzz(cases, args.seed, args.real)
    else:
        report = files_fuzz.fuzz(cases, args.seed, args.real)
    print(report.summary())
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
