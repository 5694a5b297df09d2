"""Stages, kinds of models and samplers: each is in its one registry, and what that gives does what it says."""

from importlib import import_module
from typing import get_args

import pytest
import torch
from configs import changed

from surrodiff import networks
from surrodiff.config import samplers
from surrodiff.config.models import Model
from surrodiff.diffusion.schedule import Schedule
from surrodiff.kinds.registry import KINDS, kind_of
from surrodiff.planning.measures import CONFIGS
from surrodiff.runtime.noise import Stream
from surrodiff.sampling import registry as sampling_registry
from surrodiff.sampling.registry import PROCESSES
from surrodiff.stages import registry


def test_every_stage_that_a_plan_knows_has_a_module_that_makes_its_runs(plan):
    assert registry.MODULES.keys() == CONFIGS.keys() >= {run.stage for run in plan.runs.values()}
    for module in registry.MODULES.values():
        assert callable(import_module(f"surrodiff.stages.{module}").make)


def test_every_class_of_models_and_samplers_is_in_its_registry():
    assert set(KINDS) == set(get_args(Model))
    assert set(PROCESSES) == set(get_args(samplers.Sampler) or [samplers.Sampler])


@pytest.mark.parametrize("name", ["Default", "SNGAN", "classifier"])
def test_a_kind_s_trainer_trains_what_it_builds_and_says_what_else_belongs_to_the_record(name, plan, execution, cpu):
    config = next(run.config for run in plan.runs.values() if (run.stage, run.name) == ("models", name))
    kind = kind_of(config.model)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 10
    trainer = kind.trainer(config, images, labels, cpu, execution)
    built = kind.build(config.model, config.channels, 10)
    assert trainer.result.state_dict().keys() == built.state_dict().keys()
    expected = {
        "Default": {"parameters_by_paper"},
        "SNGAN": set(),
        "classifier": {"classes", "held_out_accuracy"},
    }
    record = trainer.record({"held_out_images": images, "held_out_labels": labels})
    assert record.keys() == expected[name]
    if name == "Default":
        parameters = networks.trainable_parameters(built)
        assert record["parameters_by_paper"] == networks.parameters_by_paper(parameters, config.model)


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
@pytest.mark.parametrize("clip_x0", [True, False])
def test_the_settings_of_ancestral_sampling_reach_its_steps(run_named, cpu, variance, clip_x0):
    diffusion = run_named("models", "Default").config.model.diffusion
    settings = changed_settings(run_named, variance=variance, clip_x0=clip_x0)
    made_from = {"denoiser": lambda x, t: -2 * x, "shape": (1, 4, 4), "seed": 3, "stream": Stream.LOW_RESOLUTION}
    process = sampling_registry.process(settings, diffusion, cpu, compiled=lambda function: function, **made_from)
    assert torch.equal(process.schedule.sigma, Schedule(diffusion, variance).sigma)
    assert (process.clip_x0, process.seed, process.stream) == (clip_x0, 3, Stream.LOW_RESOLUTION)


def changed_settings(run_named, **changes) -> samplers.Ancestral:
    return changed(run_named("samples", "Default_6").config, sampler=changes).sampler
