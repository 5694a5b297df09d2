"""Frozen parameters: what jobs read is what was planned, under a name that tells its content."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.config import params
from surrodiff.planning import plan
from surrodiff.planning.frozen import freeze


@pytest.mark.parametrize("preset", ["test", "demo", "quick", "paper"])
def test_the_frozen_file_plans_the_same_runs(raw, preset, tmp_path):
    asked = params.parse(raw | {"preset": preset})
    read = params.load(freeze(asked, tmp_path))
    assert read.selected == asked.selected
    assert (read.preset, read.device) == (preset, "cpu")
    assert vars(plan.build(read)) == vars(plan.build(asked))


@pytest.mark.parametrize("preset", ["test", "paper"])
def test_the_frozen_file_needs_no_studies_and_plans_what_they_ask_for(root, preset, tmp_path):
    asked = params.load(root / "params.yaml", preset=preset)
    read = params.load(freeze(asked, tmp_path), folder=tmp_path / "none")
    assert read.studies == asked.studies
    assert vars(plan.build(read)) == vars(plan.build(asked))


@given(
    rate=st.floats(1e-9, 1.0), last=st.floats(1e-5, 0.5), seeds=st.sets(st.integers(0, 2**31), min_size=1, max_size=5)
)
def test_numbers_come_back_exactly(raw, tmp_path, rate, last, seeds):
    raw = copy.deepcopy(raw)
    raw["presets"]["test"]["models"]["Default"]["training"]["ema_decay"] = last
    raw["presets"]["test"]["models"]["SNGAN"]["training"]["learning_rate"] = rate
    raw["presets"]["test"]["seeds"] = {"sampling": sorted(seeds)}
    asked = params.parse(raw)
    assert params.parse(json.loads(freeze(asked, tmp_path).read_text())).selected == asked.selected


def test_the_name_tells_the_content_and_a_damaged_file_is_written_again(raw, tmp_path):
    path = freeze(params.parse(raw), tmp_path)
    assert freeze(params.parse(raw), tmp_path) == path
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    assert freeze(params.parse(raw), tmp_path) == path
    assert path.read_bytes() == before
    raw["presets"]["demo"]["timing"]["rounds"] += 1  # not the selected preset: the jobs are the same
    assert freeze(params.parse(raw), tmp_path) == path
    raw["presets"]["test"]["timing"]["rounds"] += 1
    assert freeze(params.parse(raw), tmp_path) != path
    raw["presets"]["test"]["timing"]["rounds"] -= 1
    assert freeze(params.parse(raw), tmp_path) == path
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
