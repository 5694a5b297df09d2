"""Every run's id of every preset, as users' results folders and DVC's records have them.

A change of `golden_ids.json` makes every such result anew: it is a decision, to be told in the changelog.
"""

import json
from pathlib import Path

import pytest

from surrodiff.config import params as params_module
from surrodiff.planning import plan

GOLDEN = json.loads((Path(__file__).parent / "golden_ids.json").read_text())


def test_every_preset_has_its_ids_recorded(params):
    assert GOLDEN.keys() == params.presets.keys()


@pytest.mark.parametrize("preset", GOLDEN)
def test_ids_are_those_of_finished_runs(root, preset):
    made = plan.build(params_module.load(root / "params.yaml", preset=preset))
    assert sorted(made.runs) == GOLDEN[preset]
