"""Every run's id of every preset, as users' results folders and DVC's records have them."""

import json
from pathlib import Path

import pytest

from surrodiff.config import params as params_module
from surrodiff.planning import plan

GOLDEN = json.loads((Path(__file__).parent / "golden_ids.json").read_text())
MEANS = (
    "The ids of runs have changed. An id is the name under which everybody's finished models, samples and scores are "
    "found, so a change makes all of these anew. If it was not meant, undo it. If it is a decision, write "
    "golden_ids.json again and name it in CHANGELOG.md. Gone: {gone}; new: {new}"
)


def test_every_preset_and_group_has_its_ids_recorded(params):
    assert GOLDEN.keys() == params.presets.keys()
    groups = {study.group for study in params.studies.values()}
    assert all(ids.keys() == groups for ids in GOLDEN.values())


@pytest.mark.parametrize("group", ["paper", "beyond"])
@pytest.mark.parametrize("preset", GOLDEN)
def test_ids_are_those_of_finished_runs(root, preset, group):
    runs = plan.build(params_module.load(root / "params.yaml", preset=preset, groups=[group])).runs
    recorded = GOLDEN[preset][group]
    gone, new = sorted({*recorded} - runs.keys()), sorted(runs.keys() - {*recorded})
    assert sorted(runs) == recorded, MEANS.format(gone=gone, new=new)
