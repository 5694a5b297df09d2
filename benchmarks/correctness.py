"""Whether bfloat16 and compiled code compute what float32 eager code does, in training and in sampling.

    python benchmarks/correctness.py [--device cuda] [--compile] [--width 128] [--batch 16] --out correctness.csv

Compared are the gradient of a training step, the predicted noise, and a reverse step. The relative error of a vector is
the norm of the difference over the norm of float32 eager's; exits with 1 if one is above its tolerance. Weights are
those of the initialisation and noise, because initial networks predict nearly 0; dropout is off.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from ours import COMPILED, EAGER, Setting, add_networks, eights, models, network_of, reverse, trainer, with_network

from surrodiff.cli import count
from surrodiff.config.models import DDPM
from surrodiff.errors import shown
from surrodiff.runtime import devices
from surrodiff.store.runs import write_text

# bfloat16 has 8 bits of mantissa: each operation rounds by up to 0.4 %, which tens of layers add up.
TOLERANCE = {
    "float32": {"gradient": 1e-4, "eps": 1e-4, "reverse step": 1e-5},
    "bfloat16": {"gradient": 0.05, "eps": 0.05, "reverse step": 1e-3},
}
SCALE = 0.02


@torch.no_grad()
def perturb(network: torch.nn.Module):
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.add_((SCALE * torch.randn(weight.shape, generator=generator)).to(weight.device))


def gradient(model: DDPM, batch: int, setting: Setting, device: torch.device) -> torch.Tensor:
    torch.manual_seed(0)  # of the random images
    our_trainer = trainer(model, batch, setting, device)
    perturb(our_trainer.network)
    our_trainer.step(1)
    return torch.cat([weight.grad.flatten() for weight in our_trainer.network.parameters()])


@torch.inference_mode()
def sampled(model: DDPM, batch: int, setting: Setting, device: torch.device, what: str) -> torch.Tensor:
    torch.manual_seed(0)
    network = network_of(model)
    perturb(network)
    process = reverse(model, network, setting, device)
    index, t = torch.arange(batch, device=device), process.schedule.T // 2
    x_t = process.prior(index)
    return process.predict(x_t, t).eps if what == "eps" else process.step(x_t, t, index)


COMPUTED = {
    "gradient": gradient,
    "eps": partial(sampled, what="eps"),
    "reverse step": partial(sampled, what="reverse step"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--compile", action="store_true", help="compiled code too")
    parser.add_argument("--width", type=eights, default=128)
    parser.add_argument("--batch", type=count, default=16)
    add_networks(parser, ["Default", "MBConv64"], "models of the preset `paper` (default: Default MBConv64)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    device, known, rows = devices.resolve(args.device), models(args.width), []
    for name in args.networks:
        model = with_network(known[name], dropout=0.0)
        for what, compute in COMPUTED.items():
            exact = compute(model, args.batch, EAGER[0], device)
            for setting in [EAGER[1], *COMPILED * args.compile]:
                error = float((compute(model, args.batch, setting, device) - exact).norm() / exact.norm())
                limit = TOLERANCE[setting.precision][what]
                passed = error <= limit  # which NaN is not
                rows.append({"model": name, "what": what, "setting": str(setting), "relative_error": error})
                rows[-1] |= {"tolerance": limit, "passed": passed}
    frame = pd.DataFrame(rows).assign(device=devices.description(device), torch=torch.__version__, width=args.width)
    write_text(args.out, frame.to_csv(index=False, float_format="%.3g", lineterminator="\n"))
    print(frame.to_string(index=False))
    return 0 if frame["passed"].all() else 1


if __name__ == "__main__":
    with shown():
        sys.exit(main())
