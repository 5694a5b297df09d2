"""Reverse steps of every architecture of the paper, and of peers' networks like Default, in one interleaved run.

    python benchmarks/sample.py --out sample.csv --batch 500                          # on a GPU
    python benchmarks/sample.py --out sample.csv --device cpu --width 32 --batch 16    # on a laptop

A step is the network and its sampler's arithmetic and noise; images a second are for T = 1000 steps. Options and rows
are those of train.py.
"""

from functools import partial

from contest import Contestant, parser, run, start, write
from ours import AUTO, models, sample
from ours import macs as own_macs
from peers import diffusers_network, lucidrains_network, sample_diffusers, sample_lucidrains
from train import macs

from surrodiff.errors import shown


def main():
    args = parser(__doc__).parse_args()
    device, settings = start(args)
    known, batch, width = models(args.width), args.batch, args.width

    def ours(name: str, setting) -> Contestant:
        make = partial(sample, known[name], batch, setting, device)
        return Contestant("surrodiff", name, "", setting, own_macs(known[name]), make)

    def peer(name: str, sample, setting, operations: float) -> Contestant:
        return Contestant(name, "Default", "", setting, operations, partial(sample, width, batch, setting, device))

    # Objectives and schedules change no reverse step.
    shapes = {str(model.network): name for name, model in reversed(known.items())}
    names = args.networks or [name for name in known if name in shapes.values()]
    contestants = [ours(name, AUTO) for name in names]
    theirs = {
        "diffusers": (sample_diffusers, macs(lambda: diffusers_network(width))),
        "denoising-diffusion-pytorch": (sample_lucidrains, macs(lambda: lucidrains_network(width))),
    }
    for setting in settings:
        contestants.append(ours("Default", setting))
        contestants += [peer(name, sample, setting, count) for name, (sample, count) in theirs.items()]
    run(contestants, args, device)
    write(contestants, args, device, evaluations=1000)


if __name__ == "__main__":
    with shown():
        main()
