"""A short soak (docs/reliability.md): data, a classifier and a diffusion model, killed at random."""

import pytest
from reliability.projects import parameters, project
from reliability.soaking import Workflow, soak
from small_studies import one_model

pytestmark = pytest.mark.long
DOCUMENT = parameters(one_model(), steps=120, samples=16, images=4, batch=16)
WORKFLOW = Workflow(("--cores", "2", "models"))


def test_whatever_is_killed_the_same_command_makes_the_same_models(tmp_path):
    uninterrupted = project(tmp_path / "uninterrupted", DOCUMENT)
    uninterrupted.snakemake("models")
    outcome = soak(project(tmp_path / "interrupted", DOCUMENT), WORKFLOW, uninterrupted.results, seed=1, signals=3)
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.signals.total() > 0
