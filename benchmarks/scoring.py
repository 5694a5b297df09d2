"""Compare the speed of surrodiff's feature networks with torch-fidelity's and clean-fid's, and how far they differ.

    python benchmarks/scoring.py [--images 64] [--batch 64] [--rounds 5] [--device auto] [--threads 2] [--out FILE.csv]

Everything takes turns on the same images, in every round, ours in one process and the others in another; a speed is the
median over the rounds, a ratio the median of the rounds' ratios. Without Inception's weights in the cache
(docs/scores.md), weights are drawn: speeds are the same, Frechet distances are then those of an untrained network.
bfloat16 takes part where the device has instructions for it. Needs the extra `test`.
"""

import argparse
import csv
import io
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid.features import build_feature_extractor
from cleanfid.resize import build_resizer
from ours import precisions
from sides import Sides
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from surrodiff.cli import count
from surrodiff.errors import shown
from surrodiff.runtime import devices
from surrodiff.scoring import features, resizing
from surrodiff.scoring.metrics import Moments, frechet_distance
from surrodiff.stages.time import seconds_of
from surrodiff.store import provenance, runs

TORCHSCRIPT = Path("/tmp/inception-2015-12-05.pt")  # where clean-fid looks for NVIDIA's file
CLEAN_FID_NETWORKS = {True: "NVIDIA's TorchScript", False: "traced copy of torch-fidelity's"}


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


def fidelity_network(file: Path, device: torch.device) -> FeatureExtractorInceptionV3:
    return FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=file).to(device)


def fidelity(file: Path, batch: int, device: torch.device) -> Callable:
    network = fidelity_network(file, device)
    return lambda images: torch.cat([network(part.to(device))[0] for part in images.split(batch)])


def clean_fid(file: Path, batch: int, device: torch.device) -> Callable:
    """clean-fid's features in its mode `clean`, with NVIDIA's network if it is there."""
    if TORCHSCRIPT.exists():
        network = build_feature_extractor("clean", device, use_dataparallel=False)
    else:
        trunk = torch.nn.Sequential(*list(fidelity_network(file, device).children())[:-1])
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # TorchScript is old
            traced = torch.jit.trace(trunk, torch.zeros(2, 3, 299, 299, device=device))

        def network(images: torch.Tensor) -> torch.Tensor:
            return traced((images - 128) / 128)

    resize = pil_resizing()

    def extract(images: torch.Tensor) -> torch.Tensor:
        resized = torch.from_numpy(np.stack(resize(images)))
        return network(resized.permute(0, 3, 1, 2).to(device))

    return lambda images: torch.cat([extract(part) for part in images.split(batch)])


def pil_resizing() -> Callable:
    resizer = build_resizer("clean")
    return lambda images: [resizer(image) for image in images.permute(0, 2, 3, 1).numpy()]


def our_features(build: Callable[..., features.FeatureNetwork], batch: int, device: torch.device) -> Callable:
    network = build()

    def extract(images: torch.Tensor) -> torch.Tensor:
        outputs = features.extract_all(network, images, device, batch, "the benchmark")
        return torch.cat([features for features, _ in outputs])

    return extract


def our_resizing(rule: str, batch: int, device: torch.device) -> Callable:
    at_once = features.CPU_BATCH if device.type == "cpu" else batch
    return lambda images: [resizing.resize(part.to(device), 299, rule) for part in images.split(at_once)]


_contenders: dict[str, Callable] = {}  # in a side's process


def _prepare(name: str, make: Callable[[], Callable]):
    _contenders[name] = make()


@torch.inference_mode()
def _speed(name: str, images: np.ndarray, device: torch.device) -> float:
    """Images per second."""
    seconds = seconds_of(partial(_contenders[name], torch.from_numpy(images)), 1, device)
    return len(images) / seconds


@torch.inference_mode()
def _distance(name: str, sets: list[np.ndarray]) -> float:
    """Frechet distance of two sets of images by a contender's features."""
    set_statistics = []
    for images in sets:
        moments = Moments(len(images), groups=1)
        moments.add(_contenders[name](torch.from_numpy(images)).cpu())
        set_statistics.append(moments.statistics())
    return frechet_distance(*set_statistics)


def in_turns(call: Callable, names: list[str], images: np.ndarray, rounds: int, device) -> dict[str, list[float]]:
    """Images per second of every contender in every round, after one that does not count."""
    speeds = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            speed = call(name, _speed, images if number else images[:8], device)
            if number:
                speeds[name].append(speed)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=count, default=64, help="images a round, and of each set for the distances")
    parser.add_argument("--batch", type=count, default=64, help="at most so many at a time; torch-fidelity's default")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("scoring.csv"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = devices.resolve(args.device)
    images = smooth_images(args.images, 0, 8).numpy()

    with tempfile.TemporaryDirectory() as folder, Sides(args.threads, device) as sides:
        file, weights = inception_weights(Path(folder))
        networks = {"torch-fidelity": partial(fidelity, file, args.batch, device)}
        networks["clean-fid"] = partial(clean_fid, file, args.batch, device)
        lite0 = features.efficientnet_lite0_file()
        for name, build in {
            "inception": partial(features.inception, file, device),
            "inception_clean": partial(features.inception, file, device, name="inception_clean", rule="clean"),
            "efficientnet_lite0": partial(features.efficientnet_lite0, lite0, device),
        }.items():
            for precision in precisions(device):
                make = partial(our_features, partial(build, precision=precision), args.batch, device)
                networks[f"surrodiff {name} {precision}"] = make
        resizings = {f"resizing, {rule}": partial(our_resizing, rule, args.batch, device) for rule in resizing.RULES}
        contenders = {**networks, "resizing, PIL": pil_resizing, **resizings}
        others = ["torch-fidelity", "clean-fid", "resizing, PIL"]

        def call(name: str, function: Callable, *arguments):
            return sides.call(name not in others, function, name, *arguments)

        for name, make in contenders.items():
            call(name, _prepare, make)
        speeds = in_turns(call, list(networks), images, args.rounds, device)
        many = np.tile(images, (4, 1, 1, 1))
        speeds |= in_turns(call, ["resizing, PIL", *resizings], many, args.rounds, device)
        sets = [images, smooth_images(args.images, 1, 6).numpy()]
        distances = {name: call(name, _distance, sets) for name in networks if name != "clean-fid"}

    fastest = max(others[:2], key=lambda name: statistics.median(speeds[name]))
    made_by = provenance.describe(device, "float32")
    machine = {
        "device": made_by["device"],
        "versions": " ".join(f"{k} {v}" for k, v in {**made_by["versions"], "clean-fid": version("clean-fid")}.items()),
        "revision": made_by["revision"],
        "finished": made_by["finished"],
        "weights": weights,
        "clean_fid_network": CLEAN_FID_NETWORKS[TORCHSCRIPT.exists()],
    }
    rows = []
    for name, rates in speeds.items():
        baseline = "resizing, PIL" if name.startswith("resizing") else fastest
        exact = "torch-fidelity" if name == "surrodiff inception float32" else name.replace("bfloat16", "float32")
        shift = distances[name] / distances[exact] - 1 if exact != name else None
        rows.append(
            {
                "what": name,
                "images_per_second": statistics.median(rates),
                "min": min(rates),
                "max": max(rates),
                "times_as_fast": statistics.median(a / b for a, b in zip(rates, speeds[baseline], strict=True)),
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
        settings = {"images": args.images, "batch": args.batch, "rounds": args.rounds, **machine}
        writer.writerows({**row, **settings} for row in rows)

    print(f"{machine['device']}; {machine['versions']}")
    runs_on = machine["clean_fid_network"]
    print(f"Inception's weights: {weights}; clean-fid runs {runs_on}; {args.images} images, batches of {args.batch}")
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
