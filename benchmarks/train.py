"""Training steps of every model of the paper, and of peers' networks like Default, in one interleaved run.

    python benchmarks/train.py --out train.csv                                      # on a GPU
    python benchmarks/train.py --out train.csv --device cpu --width 32 --batch 16    # on a laptop

Peers train as their own examples do; compiled, they also get channels-last layout and fused Adam. `plain` is our
Default in the plainest float32 loop. Needs the extra `benchmark`; a peer that is not there is a row that says so.
"""

import sys
from functools import partial

import torch
from contest import Contestant, parser, run, start, write
from ours import AUTO, EAGER, models, train
from ours import macs as own_macs
from peers import diffusers_network, lucidrains_network, train_diffusers, train_lucidrains, train_plain
from torch.utils.flop_counter import FlopCounterMode

from surrodiff.config.models import DDPM
from surrodiff.errors import shown


def macs(build) -> float:
    """Multiply-accumulates of one evaluation of a peer's network on one image; NaN where it cannot be built."""
    try:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            build().eval()(torch.empty(1, 3, 32, 32), torch.ones(1, dtype=torch.long))
        return counter.get_total_flops() / 2
    except Exception as error:
        print(f"operations are not counted: {error}", file=sys.stderr)
        return float("nan")


def per_step(model: DDPM) -> float:
    """Multiply-accumulates of a training step for one image: each noise's pass and, twice as much, its gradient; and
    passes without gradient."""
    passes = model.objective.noises * (3 + model.objective.extra_timestep_batches)
    return passes * own_macs(model)


def objective_name(model: DDPM) -> str:
    objective = model.objective
    extra, noises = objective.extra_timestep_batches, objective.noises
    weights = f", k = {noises}, {objective.weights} weights" if noises > 1 else ""
    return f"{objective.timesteps} t" + f", +{extra}" * (extra > 0) + weights


def main():
    args = parser(__doc__).parse_args()
    device, settings = start(args)
    known = models(args.width)
    default, batch, width = known["Default"], args.batch, args.width

    def ours(name: str, setting) -> Contestant:
        model = known[name]
        make = partial(train, model, batch, setting, device)
        return Contestant("surrodiff", name, objective_name(model), setting, per_step(model), make)

    def peer(name: str, train, first, setting, operations: float) -> Contestant:
        make = partial(train, first, batch, setting, device)
        return Contestant(name, "Default", "uniform t", setting, operations, make)

    # A schedule alone changes nothing here.
    names = [name for name in args.networks or known if name != "ShortDiffusion"]
    contestants = [ours(name, AUTO) for name in names]
    contestants.append(peer("plain", train_plain, default, EAGER[0], per_step(default)))
    theirs = {
        "diffusers": (train_diffusers, 3 * macs(lambda: diffusers_network(width))),
        "denoising-diffusion-pytorch": (train_lucidrains, 3 * macs(lambda: lucidrains_network(width))),
    }
    for setting in settings:
        contestants.append(ours("Default", setting))
        contestants += [peer(name, train, width, setting, count) for name, (train, count) in theirs.items()]
    run(contestants, args, device)
    write(contestants, args, device, evaluations=1)


if __name__ == "__main__":
    with shown():
        main()
