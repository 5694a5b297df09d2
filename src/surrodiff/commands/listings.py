"""Commands that list what a preset asks for: its models, its runs and what they cost."""

import os
import sys

from surrodiff.commands.given import parameters, results_folder
from surrodiff.commands.runs import start_torch
from surrodiff.planning import plan


def list_models(args):
    """Print the preset's models: blocks, parameters, multiply-accumulates."""
    import pandas as pd
    import torch

    from surrodiff import networks

    made = plan.build(parameters(args))
    rows = []
    for run_id in made.of_stage("models"):
        config = made.runs[run_id].config
        if config["kind"] == "classifier":
            continue
        with torch.device("meta"):
            trainable = networks.trainable_parameters(networks.build(config))
        ddpm = config["kind"] == "ddpm"
        network = config.get("network", {})
        rows.append(
            {
                "model": made.runs[run_id].name,
                "run": run_id,
                "image": f"{config['channels']}x{config['image_size']}x{config['image_size']}",
                "block": network.get("block", "SNGAN generator"),
                "multipliers": str(network.get("channel_multipliers", "")),
                "res blocks": network.get("num_res_blocks", ""),
                "base channels": network.get("base_channels", config.get("generator_channels")),
                "parameters": trainable,
                "paper's count, M": f"{networks.parameters_by_paper(trainable, config):.2f}" if ddpm else "",
                "MACs per image, M": f"{networks.macs_per_image(config) / 1e6:.1f}",
                "steps": config["training"]["steps"],
            }
        )
    print(pd.DataFrame(rows).to_string(index=False))
    print("\nThe paper's count is in units of 2^20 and includes the frozen T x base-channels timestep table.")


def list_runs(args):
    """Print every run of the preset, whether it is done and what it costs, or with `--left` how much is left."""
    from surrodiff.stages import costs

    loaded = parameters(args)
    made, results, execution = plan.build(loaded), results_folder(args), loaded.selected.execution.model_dump()
    if args.left:
        print(costs.time_left(made, results))
        return
    start_torch(args.threads or min(execution["threads"], os.cpu_count() or 1))
    from surrodiff.runtime import devices
    from surrodiff.stages import timing

    device = devices.resolve(loaded.device)
    found = costs.Costs(made, results, devices.description(device))
    timing.measure_unknown(found, device, execution)
    for path in dict.fromkeys(found.damaged):
        print(f"surrodiff: {path}: damaged; this report goes without it", file=sys.stderr)
    print(costs.report(found.all()))
    print(f"\nOne job after another on {found.machine}; scoring by its feature network alone until one is finished.")
