"""Ten training and six sampling seeds: thousands of runs, and recipes longer than a word of a command line may be."""

import os

import pytest
from project import Project
from records import fill

from surrodiff.config import params
from surrodiff.planning.plan import Plan, build
from surrodiff.planning.recipes import summary
from surrodiff.planning.runs import canonical
from surrodiff.stages.costs import Costs

MOST_BYTES = 128 * 1024  # of a word, in Linux


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[Project, Plan]:
    """A project in which all runs are there, as records without what they stand for."""
    project = Project(tmp_path_factory.mktemp("many seeds"))
    seeds = {"training": list(range(10)), "sampling": list(range(6)), "calibration": [0]}
    project.change("presets", "test", "seeds", value=seeds)
    plan = build(params.load(project.path / "params.yaml", preset="test"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda descriptor: None
        )  # of thousands of files that need not outlive a power failure
        fill(plan, project.results, "classifier", 64)
    for run in plan.runs.values():
        (project.results / run.stage / run.id / "done.json").write_text("{}")
    return project, plan


def test_a_recipe_of_any_length_reaches_its_job(many):
    project, plan = many
    assert len(canonical(summary(plan).content())) > MOST_BYTES
    printed = project.snakemake("results/test/summary/metrics.json")
    assert "summary: metrics and curves" in printed
    assert (project.results / "summary/metrics.json").exists()


def test_a_progress_report_of_thousands_of_runs_is_complete(many):
    project, plan = many
    costs = Costs(plan, project.results).all()
    assert len(costs) == len(plan.runs) - 1 > 3000
    assert all(cost.done == 1 for cost in costs)
