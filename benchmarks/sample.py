"""Reverse steps of every architecture of the paper, and of peers' networks like Default, in one interleaved run; or
whole images by the fast samplers.

    python benchmarks/sample.py --out sample.csv --batch 500                          # on a GPU
    python benchmarks/sample.py --out sample.csv --device cpu --width 32 --batch 16    # on a laptop
    python benchmarks/sample.py --out fast.csv --batch 500 --evaluations 10 20 50      # by the fast samplers

A step is the network and its sampler's arithmetic and noise; images a second are for T = 1000 steps. With --evaluations
a step is whole images by Default's network, ours and diffusers', of about so many evaluations each. Options and rows
are those of train.py.
"""

from collections.abc import Iterator
from functools import partial

import torch
from contest import Contestant, parser, run, start, write
from ours import AUTO, Setting, evaluations_of, fast_sampler, models, sample, sample_images
from ours import macs as own_macs
from peers import diffusers_network, lucidrains_network, sample_diffusers, sample_images_diffusers, sample_lucidrains
from train import macs

from surrodiff.cli import count
from surrodiff.errors import shown

FAST = ("ddim", "dpm_solver", "heun")


def steps(args, settings: list[Setting], device: torch.device) -> Iterator[Contestant]:
    """A reverse step each."""
    known, batch, width = models(args.width), args.batch, args.width

    def ours(name: str, setting) -> Contestant:
        make = partial(sample, known[name], batch, setting, device)
        return Contestant("surrodiff", name, "", setting, own_macs(known[name]), make)

    def peer(name: str, sample, setting, operations: float) -> Contestant:
        return Contestant(name, "Default", "", setting, operations, partial(sample, width, batch, setting, device))

    # Objectives and schedules change no reverse step.
    shapes = {str(model.network): name for name, model in reversed(known.items())}
    names = args.networks or [name for name in known if name in shapes.values()]
    yield from (ours(name, AUTO) for name in names)
    theirs = {
        "diffusers": (sample_diffusers, macs(lambda: diffusers_network(width))),
        "denoising-diffusion-pytorch": (sample_lucidrains, macs(lambda: lucidrains_network(width))),
    }
    for setting in settings:
        yield ours("Default", setting)
        yield from (peer(name, sample, setting, operations) for name, (sample, operations) in theirs.items())


def images(args, settings: list[Setting], device: torch.device) -> Iterator[Contestant]:
    """Whole images by each fast sampler."""
    default, batch, width = models(args.width)["Default"], args.batch, args.width
    ours, theirs = own_macs(default), macs(lambda: diffusers_network(width))
    for setting in settings:
        for asked in args.evaluations:
            for name in FAST:
                sampler = fast_sampler(name, asked, default)
                evaluations = evaluations_of(sampler, default)
                how = ("Default", "", setting)
                make = partial(sample_images, default, batch, sampler, setting, device)
                called = f"{name} {evaluations}"
                yield Contestant("surrodiff", *how, ours * evaluations, make, called)
                make = partial(sample_images_diffusers, width, batch, name, asked, setting, device)
                yield Contestant("diffusers", *how, theirs * evaluations, make, called)


def main():
    options = parser(__doc__)
    text = "whole images by the fast samplers, of about so many evaluations each"
    options.add_argument("--evaluations", type=count, nargs="+", metavar="COUNT", help=text)
    args = options.parse_args()
    device, settings = start(args)
    contestants = [*(images if args.evaluations else steps)(args, settings, device)]
    run(contestants, args, device)
    write(contestants, args, device, evaluations=1 if args.evaluations else 1000)


if __name__ == "__main__":
    with shown():
        main()
