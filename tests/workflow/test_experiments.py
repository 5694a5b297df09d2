"""DVC's experiments and checkouts delete what is not recorded; no checkpoint and no finished run is lost by it."""

import copy
import re

import psutil
import pytest
import yaml
from project import LEARNING_RATE, Repository
from test_interruptions import start, training_process

pytestmark = pytest.mark.long
KEY = ".".join(LEARNING_RATE)


@pytest.fixture
def longer(clone) -> Repository:
    """A clone in which DeepRes1 is to be trained again, for long enough to be interrupted."""
    clone.change(*LEARNING_RATE[:-1], value={"learning_rate": 0.004, "steps": 60, "snapshot_every": 60})
    return clone


def new_models(project, before: dict) -> dict[str, int]:
    return {run: time for run, time in project.made("models").items() if run not in before}


def test_what_is_finished_and_not_recorded_survives_an_experiment_and_a_checkout(clone):
    recorded = clone.made("models")
    clone.change(*LEARNING_RATE, value=0.004)
    clone.snakemake("models")
    new = new_models(clone, recorded)
    assert [run.split("-")[0] for run in new] == ["DeepRes1"]
    clone.change(*LEARNING_RATE, value=0.002)

    for command in (
        ("dvc", "exp", "run", "--set-param", "presets.test.timing.rounds=1"),
        ("dvc", "checkout", "--force"),
    ):
        clone.succeed(*command)
        assert new_models(clone, recorded) == {}, "DVC takes away what it does not know"
        clone.change(*LEARNING_RATE, value=0.004)
        clone.snakemake("models")
        assert new_models(clone, recorded) == new, "the very files, not another training"
        clone.change(*LEARNING_RATE, value=0.002)


@pytest.mark.parametrize("options", [(), ("--temp",)], ids=["workspace", "temp"])
def test_an_interrupted_experiment_resumes(longer, options):
    command = ("dvc", "exp", "run", *options, "--set-param", "presets.test.timing.rounds=1")
    process = start(longer, *command)
    training_process(process, longer)
    for victim in [process, *psutil.Process(process.pid).children(recursive=True)]:  # at once: DVC cannot clean up
        victim.kill()
    process.communicate()
    (work,) = (path for path in longer.work.glob("models/DeepRes1-*") if not (path / "record.json").exists())
    assert (work / "checkpoint.safetensors").exists()
    longer.succeed(*command)
    log = (longer.work / f"logs/models/{work.name}.log").read_text()
    assert f"train {work.name}: resuming from step" in log
    assert log.count("60/60 steps") == 1
    assert (work / "record.json").exists()


def test_an_experiment_beside_a_running_training_leaves_it_alone_and_waits_for_it(longer):
    longer.change(*LEARNING_RATE[:-1], value={"learning_rate": 0.004, "steps": 600, "snapshot_every": 600})
    process = start(longer, "snakemake", "--cores", "1", "models")
    training_process(process, longer)
    printed = longer.succeed("dvc", "exp", "run", "--set-param", "presets.test.timing.rounds=1")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    (log,) = (path for path in longer.results.glob("logs/models/DeepRes1-*.log") if "600/600 steps" in path.read_text())
    assert log.read_text().count("600/600 steps") == 1, "one training"
    assert re.search(r"waiting for process \d+ on ", printed + log.read_text())
    longer.assert_clean()


def test_all_commits_are_pushed_for_clones_of_any_preset(clone, tmp_path):
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    clone.change("presets", "other", value=copy.deepcopy(params["presets"]["test"]))
    clone.change("preset", value="other")
    clone.succeed("dvc", "repro", "models@other")
    clone.commit("Train the other preset's models")
    clone.change("preset", value="test")
    clone.commit("Go back to the preset test")
    clone.succeed("dvc", "push", "--all-commits")

    later = Repository.clone(clone, tmp_path / "a later clone")
    later.assert_clean()
    later.change("preset", value="other")
    later.succeed("dvc", "pull", "models@other")
    dry_run = later.run("snakemake", "--cores", "2", "--dry-run", "models")
    assert "Nothing to be done" in dry_run.stdout, dry_run.stdout


def test_no_name_of_a_preset_reaches_a_shell(clone):
    name = "x $(touch PWNED)"
    clone.change("presets", name, value=yaml.safe_load((clone.path / "params.yaml").read_text())["presets"]["test"])
    clone.change("preset", value=name)
    process = clone.run("dvc", "repro")
    assert process.returncode != 0
    assert "a name has a letter, then letters" in process.stdout, process.stdout
    assert not list(clone.path.rglob("PWNED"))
