"""A real run as long as the given minutes: writes the parameters of preset `evidence` and the commands that make it.

    python benchmarks/evidence.py PICTURES --minutes 60 --out FOLDER [--device cuda] [--samples 10000]

The preset is `paper` with Default and SNGAN alone, EfficientNet-Lite0's features, and as many training steps as the
minutes leave beside sampling, by step times measured here. FOLDER/commands has a command of surrodiff in each line.
"""

import argparse
import sys
from pathlib import Path

import torch
import yaml
from ours import eights

from surrodiff.cli import count
from surrodiff.config import documents, params
from surrodiff.errors import shown
from surrodiff.planning import plan
from surrodiff.runtime import devices
from surrodiff.stages.costs import Costs
from surrodiff.stages.time import unit_seconds

ROOT = Path(__file__).parent.parent
SHARE = 0.8  # of the training that is Default's; the rest is SNGAN's
LEAST_SHARE = 0.3  # of the minutes that is training, however long sampling takes
PIECE = 10  # steps are a multiple


def preset(paper: dict, pictures: str, width: int, samples: int, train_batch: int, execution: dict) -> dict:
    """`paper`, cut to Default and SNGAN on your own images."""
    models = {name: paper["models"][name] for name in ("Default", "SNGAN")}
    network = models["Default"]["network"]
    for block, keys in ((network, ("base_channels", "groups")), (models["SNGAN"], ("generator_channels",))):
        for key in keys:
            block[key] = block[key] * width // 128
    models["SNGAN"]["discriminator_channels"] = models["SNGAN"]["discriminator_channels"] * width // 128
    models["Default"]["training"]["batch_size"] = train_batch
    models["SNGAN"]["training"]["batch_size"] = train_batch // 2
    paper["data"].update(source="image_folder", path=str(Path(pictures).resolve()))
    paper["sampling"]["num_samples"] = samples
    paper["seeds"]["calibration"] = []
    paper["scoring"].update(features="efficientnet_lite0", kid_subset_size=min(1000, samples // 2))
    paper["timing"].update(rounds=3, train_steps=1, sampling_steps=1, batch_size=execution["sampling_batch"])
    paper["execution"].update(execution)
    return {**paper, "groups": [], "models": models}


def with_steps(preset: dict, default: int, sngan: int) -> dict:
    """Other numbers of training steps, and the warm-up and the average that fit them."""
    training = preset["models"]["Default"]["training"]
    training.update(steps=default, snapshot_every=default, warmup_steps=min(5000, default // 10))
    training["ema_decay"] = min(0.9999, 1 - 10 / default)
    preset["models"]["SNGAN"]["training"].update(steps=sngan, snapshot_every=sngan)
    return {
        "preset": "evidence",
        "device": "auto",
        "studies": {"table_4_5": table_4_5()},
        "presets": {"evidence": preset},
    }


def table_4_5() -> dict:
    """The paper's study, cut to the rows of these models; nothing is claimed of them."""
    study = documents.read(ROOT / "workflow/studies/table_4_5.yaml")
    rows = [row for row in study["rows"] if row.get("surrogate", row.get("model")) in ("SNGAN", "Default")]
    return {**study, "group": None, "rows": rows, "claims": []}


def steps(raw: dict, minutes: float, device) -> tuple[int, int]:
    """Training steps of Default and SNGAN that fill what sampling and scoring leave of the minutes."""
    parsed = params.parse(raw)
    built, execution = plan.build(parsed), parsed.selected.execution
    costs = Costs(built, Path("/nonexistent"))
    for unit in costs.unknown():
        costs.rates[unit] = unit_seconds(unit, device, execution)
    seconds = {run.name: costs.cost(run).seconds for run in built.runs.values() if run.stage == "models"}
    sampling = sum(cost.seconds or 0 for cost in costs.all() if cost.run.stage in ("samples", "scores"))
    training = 60 * minutes * max(LEAST_SHARE, 1 - sampling / (60 * minutes))
    print(f"{sampling:.0f} s of sampling and scoring, {training:.0f} s of training")
    shares = {"Default": SHARE, "SNGAN": 1 - SHARE}
    counts = [training * share / (seconds[name] / PIECE) for name, share in shares.items()]
    return tuple(max(PIECE, int(count) // PIECE * PIECE) for count in counts)


def commands(raw: dict) -> list[str]:
    """What makes the samples, scores and Table 4.5, in order; likelihoods are left out."""
    built = plan.build(params.parse(raw))
    by_stage = {"data": "data", "models": "train", "references": "reference", "samples": "sample"}
    by_stage |= {"scores": "score", "timings": "time"}
    order = list(by_stage)
    runs = sorted((r for r in built.runs.values() if r.stage in order), key=lambda run: order.index(run.stage))
    return [f"{by_stage[run.stage]} {run.name}" for run in runs] + ["table table_4_5", "figure figure_4_4"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", help="a folder of pictures, as data.path")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--width", type=eights, default=128)
    parser.add_argument("--samples", type=count, default=10_000)
    parser.add_argument("--train-batch", type=count, default=128, help="of Default; SNGAN has half (default: 128)")
    parser.add_argument("--batch", type=count, default=500, help="images at once in sampling")
    args = parser.parse_args()
    document = documents.read(ROOT / "params.yaml")
    paper = {**document["presets"]["paper"], "samplers": document["samplers"], "models": document["models"]}
    execution = {"sampling_batch": args.batch, "threads": torch.get_num_threads(), "checkpoint_every": 200}
    cut = preset(paper, args.pictures, args.width, args.samples, args.train_batch, execution)
    raw = with_steps(cut, PIECE, PIECE)
    raw = with_steps(cut, *steps(raw, args.minutes, devices.resolve(args.device)))
    raw["device"] = args.device
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (args.out / "commands").write_text("\n".join(commands(raw)) + "\n")
    print((args.out / "commands").read_text())


if __name__ == "__main__":
    with shown():
        sys.exit(main())
