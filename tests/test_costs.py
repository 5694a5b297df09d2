"""What a preset costs: work counted by hand, seconds from records, measurements only for what no record tells."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plans import changed_plan

from surrodiff.planning import units as units_module
from surrodiff.planning.plan import WEIGHTS_SHA256
from surrodiff.planning.runs import Run
from surrodiff.planning.units import Evaluation, Features, ImageScore, TrainStep
from surrodiff.scoring import corruptions
from surrodiff.scoring.severities import images_scored
from surrodiff.stages import time as timing
from surrodiff.stages.costs import KEPT, Costs, Rate, TimeLeft, duration, report, time_left
from surrodiff.store.runs import open_run


def units(costs: Costs, run: Run) -> dict[str, int]:
    """A run's work by kind of unit; those of different networks together."""
    counts: dict[str, int] = {}
    for unit, count in costs.work(run).items():
        counts[unit.unit] = counts.get(unit.unit, 0) + count
    return counts


def finish(results, run: Run, record: dict, device: str = "Slide rule"):
    with open_run(results, run) as folder:
        folder.finish(record | {"provenance": {"device": device, "finished": "2022-12-31"}}, [])


def test_work_is_counted_as_the_samplers_evaluate(plan, run_named, tmp_path):
    """T = 8, 64 samples; a low-resolution surrogate evaluates once more, for its estimate of x_0."""
    costs = Costs(plan, tmp_path)
    expected = {
        ("models", "Default"): {"train_step": 6},
        ("models", "classifier"): {"train_step": 20},
        ("samples", "Default_6"): {"evaluation": 8 * 64},
        ("samples", "ShortDiffusion_6"): {"evaluation": 4 * 64},
        ("samples", "DDPMHalf_t0"): {"evaluation": 8 * 64},
        ("samples", "DDPMHalf_t2"): {"evaluation": (8 - 2 + 1 + 2) * 64},
        ("samples", "SNGAN_t4"): {"evaluation": (1 + 4) * 64},
        ("scores", "Default_6"): {"score": 64},
        ("likelihoods", "Default"): {"evaluation": 8 * 8},
        ("timings", "Default"): {"train_step": 3, "evaluation": 3 * 16},
        ("timings", "IWDiff"): {"train_step": 2 * 3, "evaluation": 2 * 3 * 16},
    }
    assert {name: units(costs, run_named(*name)) for name in expected} == expected


def test_a_unit_comes_back_from_its_text_and_is_one_with_its_like(plan, run_named, tmp_path):
    units = {unit for run in plan.runs.values() for unit in Costs(plan, tmp_path).work(run)}
    assert {type(unit) for unit in units} == {TrainStep, Evaluation, ImageScore}
    assert {units_module.parse(unit.text) for unit in units} == units
    assert len({unit.text for unit in units}) == len(units)
    with pytest.raises(ValueError, match="unit"):
        units_module.parse('{"unit": "nap"}')


@pytest.mark.parametrize("labels", [[0, 1] * 10, list(range(10)) * 2])
def test_a_reference_scores_as_many_images_as_are_made(labels):
    images = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    copies = sum(len(copy) for _, _, copy in corruptions.copies(images, torch.tensor(labels)))
    # Both splits, and a part of the training split of the held-out one's size. Two classes have no tenth.
    expected = 100 + 2 * 20 + copies
    assert images_scored(100, 20) == pytest.approx(expected, abs=20 * 0.9)
    if max(labels) == 9:
        assert images_scored(100, 20) == pytest.approx(expected)


def test_models_that_differ_in_their_schedule_share_their_steps_and_objectives_do_not(plan, run_named, tmp_path):
    costs = Costs(plan, tmp_path)
    default, short, iwdiff = (costs.work(run_named("models", n)) for n in ("Default", "ShortDiffusion", "IWDiff"))
    assert default == short
    assert default.keys().isdisjoint(iwdiff)
    samples = [costs.work(run_named("samples", f"{name}_6")) for name in ("Default", "IWDiff")]
    assert samples[0] == samples[1]


def test_a_finished_run_tells_what_its_like_cost_on_the_same_machine(plan, run_named, tmp_path):
    finish(tmp_path, run_named("models", "Default"), {"step": 6, "train_seconds": 30.0})
    other = run_named("models", "Default_seed1")
    assert Costs(plan, tmp_path).cost(other).seconds == 30
    assert Costs(plan, tmp_path, "Slide rule").cost(other).seconds == 30
    assert Costs(plan, tmp_path, "Abacus").cost(other).seconds is None
    cost = Costs(plan, tmp_path, "Abacus").cost(run_named("models", "Default"))
    assert (cost.seconds, cost.left, cost.basis) == (30, 0, "took")


def test_a_running_training_tells_its_share_and_its_speed(plan, run_named, tmp_path):
    run = run_named("models", "Default")
    with open_run(tmp_path, run) as folder:
        (folder.path / "losses.csv").write_text("step,loss,seconds\n1,0.5,5.0\n2,0.4,10.0\n3,0.")
    assert Costs(plan, tmp_path).cost(run).seconds is None  # cut in the middle of a line
    (tmp_path / "work" / "models" / run.id / "losses.csv").write_text("step,loss,seconds\n1,0.5,5.0\n2,0.4,10.0\n")
    cost = Costs(plan, tmp_path).cost(run)
    assert (cost.seconds, cost.done, cost.left) == (30, pytest.approx(1 / 3), pytest.approx(20))


def test_samples_are_done_in_part_as_they_are_appended_and_wholly_once_scored(plan, run_named, tmp_path):
    sample, score = run_named("samples", "Default_6"), run_named("scores", "Default_6")
    (tmp_path / "work" / "samples" / sample.id).mkdir(parents=True)
    (tmp_path / "work" / "samples" / sample.id / "samples-0.part").write_bytes(bytes(16 * (8 + 8 + 8 * 8)))
    assert Costs(plan, tmp_path).cost(sample).done == 1 / 4
    finish(tmp_path, score, {"score_seconds": 2.0, "sample_seconds": 9.0, "num_samples": 64})
    assert (Costs(plan, tmp_path).cost(sample).done, Costs(plan, tmp_path).cost(sample).seconds) == (1, 9)


def test_images_of_an_unknown_number_leave_the_reference_unknown(raw, tmp_path):
    plan = changed_plan(raw, "data", raw["presets"]["test"]["data"] | {"source": "image_folder", "path": "images"})
    assert Costs(plan, tmp_path).cost(plan.runs[plan.reference]).seconds is None
    finish(tmp_path, plan.runs[plan.data], {"train_images": 100, "held_out_images": 10})
    assert units(Costs(plan, tmp_path), plan.runs[plan.reference]) == {"score": 194}


def test_every_unit_of_the_preset_can_be_measured_and_is_kept(plan, tmp_path, cpu, execution):
    costs = Costs(plan, tmp_path, "Slide rule")
    timing.measure_unknown(costs, cpu, execution)
    assert costs.unknown() == []
    assert all(cost.seconds > 0 for cost in costs.all())
    assert Costs(plan, tmp_path, "Slide rule").rates == costs.rates
    assert Costs(plan, tmp_path, "Abacus").unknown() != []
    assert "runs of unknown time" not in time_left(plan, tmp_path)
    text = report(costs.all())
    assert all(run_id in text for run_id, run in plan.runs.items() if run.stage != "data")
    assert text.splitlines()[-1].split()[:3] == ["all", str(len(costs.all())), "0"]


def test_long_steps_are_extrapolated_from_a_few_images(plan, run_named, tmp_path, cpu, execution, monkeypatch):
    (unit,) = Costs(plan, tmp_path).work(run_named("models", "Default"))
    monkeypatch.setattr(timing, "LONG", 0.0)
    rate = timing.unit_seconds(unit, cpu, execution)
    assert rate.basis == "measured on 2 of 8 images"


@pytest.mark.parametrize("network", ["inception", "efficientnet_lite0"])
def test_scoring_is_measured_without_the_weights(network, cpu, execution, no_network):
    features = Features(network=network, precision="float32", sha256=WEIGHTS_SHA256[network], run=None)
    unit = ImageScore(features=features, channels=1, image_size=8, classifier=None)
    single_image = execution.model_copy(update={"sampling_batch": 1})
    assert timing.unit_seconds(unit, cpu, single_image).seconds > 0


def test_time_left_adds_what_is_known_and_counts_what_is_not(plan, tmp_path):
    text = time_left(plan, tmp_path)
    assert text.startswith("0 of ")
    assert "see `surrodiff plan`" in text
    assert "about" not in text  # nothing is known
    costs = Costs(plan, tmp_path, "Slide rule")
    for unit in costs.unknown():
        costs.keep(unit, Rate(1.0, "measured"))
    seconds = sum(count for run in plan.runs.values() for count in costs.work(run).values())
    assert f"about {duration(seconds)} of work left" in time_left(plan, tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (450 * 3600, "18.8 days")]
)
def test_durations_are_said_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def rubbish(*own_keys: str):
    """Files as they are after a crash, a bad merge, or an editor: JSON of any shape, and bytes of any kind."""
    numbers = st.floats() | st.integers() | st.sampled_from([10**4000, -1, 0, 1e308, 1e-320, "10", None, True])
    keys = st.sampled_from(own_keys)
    values = st.recursive(
        numbers | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=8),
        max_leaves=12,
    )
    texts = st.sampled_from(["", "{", "{}", "[]", "null", "NaN", "[" * 100_000, '{"machine": ' * 50_000, "9" * 5000])
    values = values | st.dictionaries(keys, numbers, min_size=1)
    return (values.map(lambda value: json.dumps(value)[:100_000]) | texts).map(str.encode) | st.binary(max_size=40)


RECORD_KEYS = (
    *("train_seconds", "step", "seconds", "train_images", "held_out_images", "sampled_now", "evaluations_per_sample"),
    *("sample_seconds", "score_seconds", "num_samples", "evaluated_now", "T", "model", "train_step_seconds"),
    *("evaluation_seconds_per_image", "provenance", "device", "finished"),
)
STAGES = ("data", "models", "references", "samples", "scores", "likelihoods", "timings")


@given(
    records=st.fixed_dictionaries({stage: rubbish(*RECORD_KEYS) for stage in STAGES}),
    kept=rubbish("machine", "units"),
    losses=st.binary(max_size=60)
    | st.text("0123456789.,\n-einfa\0", max_size=60).map(lambda text: f"step,seconds\n{text}".encode())
    | st.just(b"step,seconds\n" + b"9" * 4200 + b",1"),
)
def test_what_is_left_is_told_whatever_the_files_hold(plan, tmp_path_factory, records, kept, losses):
    results = tmp_path_factory.mktemp("results")
    for stage in STAGES:
        finished, begun = (results / stage / run_id for run_id in [*plan.of_stage(stage), "other"][:2])
        finished.mkdir(parents=True)
        (finished / "record.json").write_bytes(records[stage])
        begun.mkdir()
        (begun / "losses.csv").write_bytes(losses)
    (results / KEPT).parent.mkdir()
    (results / KEPT).write_bytes(kept)
    text = time_left(plan, results)
    assert f" of {len(plan.runs) - 1} runs done" in text
    assert not re.search("nan|inf", text)
    costs = Costs(plan, results, "Slide rule")
    assert all(0 <= cost.done <= 1 and (cost.seconds is None or 0 <= cost.seconds < 1e30) for cost in costs.all())
    assert report(costs.all())


def test_files_that_cannot_be_read_are_named_and_their_runs_count_as_not_made(plan, run_named, tmp_path):
    damaged = [tmp_path / "models" / run_named("models", name).id / "record.json" for name in ("Default", "SNGAN")]
    for file in (*damaged, tmp_path / KEPT):
        file.parent.mkdir(parents=True)
    damaged[0].write_bytes(b"\xff")
    damaged[1].mkdir()
    (tmp_path / KEPT).write_text("[]")
    costs = Costs(plan, tmp_path)
    assert sorted(costs.damaged) == sorted([*damaged, tmp_path / KEPT])
    assert costs.cost(run_named("models", "Default")).done == 0
    (unit,) = costs.work(run_named("models", "Default"))
    costs.keep(unit, Rate(1.0, "measured"))
    assert tmp_path / KEPT not in Costs(plan, tmp_path).damaged


def test_the_text_is_renewed_only_when_that_costs_little_of_the_time(plan, run_named, tmp_path):
    """An estimate that takes 1 s by the clock stands for 20 s."""
    now = iter([0.0, 1.0, 1.1, 20.9, 21.0, 22.0, 23.0])
    message = TimeLeft(plan, tmp_path, clock=lambda: next(now))
    before = str(message)
    finish(tmp_path, run_named("models", "Default"), {"step": 6, "train_seconds": 30.0})
    assert [str(message), str(message)] == [before, before]
    assert str(message).startswith("1 of ")
    assert f"train Default ({message})".endswith("`surrodiff plan`)")
