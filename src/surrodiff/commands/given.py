"""What a command line gives: the parameters that it names, and where results lie."""

from pathlib import Path

from surrodiff.config import params
from surrodiff.config.whole import Params
from surrodiff.data import identity
from surrodiff.runtime import distributed


def parameters(args) -> Params:
    """The parameters, read once a command, and what is odd about them."""
    if "loaded" not in args:
        loaded = params.load(args.params, groups=args.group, preset=args.preset, device=getattr(args, "device", None))
        args.loaded = identity.identified(loaded)
        if args.command != "make":  # which the workflow calls, and the workflow has printed them
            for warning in params.warnings(args.loaded, str(args.params)):
                distributed.print_rank0(warning)
    return args.loaded


def results_folder(args) -> Path:
    """Where the command reads and writes results."""
    return args.results or Path("results") / parameters(args).preset
