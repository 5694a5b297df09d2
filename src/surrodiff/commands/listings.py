"""Commands that list what a preset asks for: its models, its runs and what they cost."""

import os
import sys

from surrodiff.commands.given import parameters, results_folder
from surrodiff.commands.runs import start_torch
from surrodiff.planning.plan import build as build_plan


def list_models(args):
    """Print the preset's models: blocks, parameters, multiply-accumulates."""
    import pandas as pd
    import torch

    from surrodiff import networks
    from surrodiff.kinds.registry import kind_of

    plan = build_plan(parameters(args))
    rows = []
    for run_id in plan.of_stage("models"):
        config = plan.runs[run_id].config
        model, kind = config.model, kind_of(config.model)
        if kind.macs_per_image is None:  # which samples nothing
            continue
        with torch.device("meta"):
            trainable = networks.trainable_parameters(kind.build(model, config.channels))
        rows.append(
            {
                "model": plan.runs[run_id].name,
                "run": run_id,
                "image": f"{config.channels}x{model.image_size}x{model.image_size}",
                **kind.described(model, trainable),
                "MACs per image, M": f"{kind.macs_per_image(model, config.channels) / 1e6:.1f}",
                "steps": model.training.steps,
            }
        )
    print(pd.DataFrame(rows).to_string(index=False))
    print("\nThe paper's count is in units of 2^20 and includes the frozen T x base-channels timestep table.")


def list_runs(args):
    """Print every run of the preset, whether it is done and what it costs, or with `--left` how much is left."""
    from surrodiff.stages import costs

    loaded = parameters(args)
    plan, results, execution = build_plan(loaded), results_folder(args), loaded.selected.execution
    if args.left:
        print(costs.time_left(plan, results))
        return
    start_torch(args.threads or min(execution.threads, os.cpu_count() or 1))
    from surrodiff.runtime import devices
    from surrodiff.stages import time

    device = devices.resolve(loaded.device)
    plan_costs = costs.Costs(plan, results, devices.description(device))
    time.measure_unknown(plan_costs, device, execution)
    for path in dict.fromkeys(plan_costs.damaged):
        print(f"surrodiff: {path}: damaged; this report goes without it", file=sys.stderr)
    print(costs.report(plan_costs.all()))
    print(
        f"\nOne job after another on {plan_costs.machine}; scoring by its feature network alone until one is finished."
    )
