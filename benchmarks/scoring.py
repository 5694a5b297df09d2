"""Compare the speed of surrodiff's feature networks with torch-fidelity's and clean-fid's, and how far they differ.

    python benchmarks/scoring.py [--images 64] [--batch 64] [--rounds 5] [--device auto] [--threads 2] [--out FILE.csv]

Everything takes turns on the same images, in every round; a speed is the median over the rounds, a ratio the median of
the rounds' ratios. Without Inception's weights in the cache (docs/scores.md), weights are drawn: speeds are the same,
Frechet distances are then those of an untrained network. Needs the extra `test`.
"""

import argparse
import csv
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid.features import build_feature_extractor
from cleanfid.resize import build_resizer
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from surrodiff import devices, features, provenance, resizing, runs
from surrodiff.errors import shown
from surrodiff.metrics import Moments, frechet_distance

TORCHSCRIPT = Path("/tmp/inception-2015-12-05.pt")  # where clean-fid looks for NVIDIA's file


class Drawn(FeatureExtractorInceptionV3):
    """torch-fidelity's extractor with drawn weights, scaled so that every layer passes something on."""

    def load_state_dict(self, _):
        torch.manual_seed(0)
        for module in self.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)


def inception_weights(folder: Path) -> tuple[Path, str]:
    """The real file if the cache has it, else one of drawn weights in `folder`; and which of the two it is."""
    file = runs.cache_folder() / features.INCEPTION_FILE
    if file.exists():
        return features.inception_file(), "2015"
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    network = Drawn("drawn", ["2048"], feature_extractor_weights_path=empty)
    torch.save(network.state_dict(), folder / features.INCEPTION_FILE)
    return folder / features.INCEPTION_FILE, "drawn"


def smooth_images(count: int, seed: int, grid: int) -> torch.Tensor:
    """uint8 images (count, 3, 32, 32) without detail finer than a grid of so many cells a side."""
    noise = torch.randn(count, 3, grid, grid, generator=torch.Generator().manual_seed(seed))
    images = F.interpolate(noise, (32, 32), mode="bicubic", align_corners=False)
    return (images * 64 + 128).clamp(0, 255).to(torch.uint8)


def clean_fid(fidelity: FeatureExtractorInceptionV3, device: torch.device) -> tuple[Callable, str]:
    """clean-fid's features of uint8 images (B, 3, H, W) in its mode `clean`, and which network it runs."""
    if TORCHSCRIPT.exists():
        network, kind = build_feature_extractor("clean", device, use_dataparallel=False), "NVIDIA's TorchScript"
    else:
        trunk = torch.nn.Sequential(*list(fidelity.children())[:-1])
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # TorchScript is old
            traced = torch.jit.trace(trunk, torch.zeros(2, 3, 299, 299, device=device))
        network, kind = lambda images: traced((images - 128) / 128), "traced copy of torch-fidelity's"
    resizer = build_resizer("clean")

    def extract(images: torch.Tensor) -> torch.Tensor:
        resized = np.stack([resizer(image) for image in images.permute(0, 2, 3, 1).numpy()])
        return network(torch.from_numpy(resized).permute(0, 3, 1, 2).to(device))

    return extract, kind


def in_turns(contenders: dict[str, Callable], images: torch.Tensor, rounds: int, device) -> dict[str, list[float]]:
    """Images per second of every contender in every round, after one that does not count."""
    speeds = {name: [] for name in contenders}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, run in contenders.items():
                part = images if number else images[:8]
                began = time.perf_counter()
                run(part)
                devices.synchronise(device)
                if number:
                    speeds[name].append(len(part) / (time.perf_counter() - began))
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return speeds


def distance(extract: Callable, sets: list[torch.Tensor]) -> float:
    """Frechet distance of two sets of images by the features that `extract` gives for all images of one."""
    found = []
    for images in sets:
        moments = Moments(len(images), groups=1)
        moments.add(extract(images).cpu())
        found.append(moments.statistics())
    return frechet_distance(*found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="images a round, and of each set for the distances")
    parser.add_argument("--batch", type=int, default=64, help="at most so many at a time; torch-fidelity's default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("scoring.csv"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = devices.resolve(args.device)
    images = smooth_images(args.images, 0, 8)

    with tempfile.TemporaryDirectory() as folder:
        file, weights = inception_weights(Path(folder))
        fidelity = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
        fidelity = fidelity.to(device)
        networks = {
            f"surrodiff {name} {precision}": build(precision)
            for name, build in {
                "inception": lambda precision: features.inception(file, device, precision),
                "inception_clean": lambda precision: features.inception(
                    file, device, precision, "inception_clean", "clean"
                ),
                "efficientnet_lite0": lambda precision: features.efficientnet_lite0(
                    features.efficientnet_lite0_file(), device, precision
                ),
            }.items()
            for precision in ("float32", "bfloat16")
        }

    def ours(network: features.FeatureNetwork) -> Callable:
        return lambda images: torch.cat(
            [found for found, _ in features.extract_all(network, images, device, args.batch, "the benchmark")]
        )

    clean, kind = clean_fid(fidelity, device)
    others = {
        "torch-fidelity": lambda images: torch.cat([fidelity(part.to(device))[0] for part in images.split(args.batch)]),
        "clean-fid": lambda images: torch.cat([clean(part) for part in images.split(args.batch)]),
    }
    resizer = build_resizer("clean")
    at_once = features.CPU_BATCH if device.type == "cpu" else args.batch
    resizings = {
        "resizing, PIL": lambda images: [resizer(image) for image in images.permute(0, 2, 3, 1).numpy()],
        **{
            f"resizing, {rule}": lambda images, rule=rule: [
                resizing.resize(part.to(device), 299, rule) for part in images.split(at_once)
            ]
            for rule in resizing.RULES
        },
    }
    speeds = in_turns({**others, **{n: ours(w) for n, w in networks.items()}}, images, args.rounds, device)
    speeds |= in_turns(resizings, images.repeat(4, 1, 1, 1), args.rounds, device)

    sets = [images, smooth_images(args.images, 1, 6)]
    with torch.inference_mode():
        distances = {
            name: distance(extract, sets)
            for name, extract in {
                "torch-fidelity": others["torch-fidelity"],
                **{name: ours(network) for name, network in networks.items()},
            }.items()
        }

    fastest = max(others, key=lambda name: statistics.median(speeds[name]))
    made_by = provenance.describe(device, "float32")
    machine = {
        "device": made_by["device"],
        "versions": " ".join(f"{k} {v}" for k, v in {**made_by["versions"], "clean-fid": version("clean-fid")}.items()),
        "revision": made_by["revision"],
        "finished": made_by["finished"],
        "weights": weights,
        "clean_fid_network": kind,
    }
    rows = []
    for name, found in speeds.items():
        baseline = "resizing, PIL" if name.startswith("resizing") else fastest
        exact = "torch-fidelity" if name == "surrodiff inception float32" else name.replace("bfloat16", "float32")
        shift = distances[name] / distances[exact] - 1 if exact != name else None
        rows.append(
            {
                "what": name,
                "images_per_second": statistics.median(found),
                "min": min(found),
                "max": max(found),
                "times_as_fast": statistics.median(a / b for a, b in zip(found, speeds[baseline], strict=True)),
                "as": baseline,
                "frechet_distance": distances.get(name),
                "relative_shift": shift,
                "from": exact if shift is not None else None,
            }
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, "w", newline="") as output:
        writer = csv.DictWriter(output, [*rows[0], "images", "batch", "rounds", *machine])
        writer.writeheader()
        own = {"images": args.images, "batch": args.batch, "rounds": args.rounds, **machine}
        writer.writerows({**row, **own} for row in rows)

    print(f"{machine['device']}; {machine['versions']}")
    print(f"Inception's weights: {weights}; clean-fid runs {kind}; {args.images} images, batches of {args.batch}")
    print(f"{'':38} images/s  (min to max)      times as fast     relative shift of the Frechet distance")
    for row in rows:
        spread = f"({row['min']:.4g} to {row['max']:.4g})"
        ratio = f"{row['times_as_fast']:.2f} x {row['as']}"
        shift = "" if row["relative_shift"] is None else f"{row['relative_shift']:+.1e} from {row['from']}"
        print(f"{row['what']:38} {row['images_per_second']:8.4g}  {spread:17}  {ratio:24} {shift}")
    print(f"written: {args.out}")


if __name__ == "__main__":
    with shown():
        main()
