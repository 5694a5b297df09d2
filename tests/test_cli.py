"""The command line as users meet it: one result on success, one line on failure, never a traceback."""

import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from records import forget

from surrodiff.commands.runs import STAGES
from surrodiff.config.params import STUDIES
from surrodiff.planning.frozen import freeze
from surrodiff.store.runs import read_record, work_folder

COMMANDS = [
    *(*STAGES, "make", "calibrate"),
    *("table", "figure", "claims", "summary", "resolve", "models", "plan"),
]
ALL_COMMANDS = [*COMMANDS, "record", "prune", "plots-page"]


@pytest.fixture
def surrodiff(tmp_path, root):
    """Run a command in a folder that holds params.yaml, preset `test` on the CPU unless told otherwise."""
    shutil.copy(root / "params.yaml", tmp_path)
    shutil.copytree(root / STUDIES, tmp_path / STUDIES)
    text = (tmp_path / "params.yaml").read_text()
    text = re.sub(r"(?m)^device: \w+", "device: cpu", re.sub(r"(?m)^preset: \w+", "preset: test", text))
    (tmp_path / "params.yaml").write_text(text)

    def run(*arguments: str, file_size: int | None = None, **options) -> subprocess.CompletedProcess:
        def limit():
            if file_size is not None:  # as good as a full disk: writing more fails
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        process = subprocess.run(
            [sys.executable, "-m", "surrodiff.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "100"},
            text=True,
            check=False,
            preexec_fn=limit,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        )
        assert "Traceback" not in (process.stdout or "") + (process.stderr or "")
        return process

    return run


def error_line(process: subprocess.CompletedProcess) -> str:
    """The one line of a failed command, among the lines of its progress."""
    assert process.returncode == 1
    assert process.stdout == ""
    other = r"(train|sample|time|classifier features) |\S+: warning: "
    lines = [line for line in process.stderr.splitlines() if not re.match(other, line)]
    assert len(lines) == 1
    assert lines[0].startswith("surrodiff: ")
    return lines[0]


def test_help_lists_every_command(surrodiff):
    process = surrodiff("--help")
    assert process.returncode == 0
    for command in ALL_COMMANDS:
        assert re.search(rf"(?m)^ +{command}\s", process.stdout)
    assert "surrodiff train Default" in process.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(surrodiff, command):
    process = surrodiff(command, "--help")
    assert process.returncode == 0
    assert process.stdout.startswith(f"usage: surrodiff {command} ")
    for option in ("--params", "--preset", "--results"):
        assert option in process.stdout


def test_a_wrong_command_or_option_is_told(surrodiff):
    for arguments in (("paint",), (), ("train",), ("train", "Default", "--device", "tpu")):
        process = surrodiff(*arguments)
        assert process.returncode == 2
        assert process.stderr.startswith("usage: surrodiff")


def test_models_lists_what_the_paper_counts(surrodiff):
    process = surrodiff("models", "--preset", "paper")
    assert process.returncode == 0
    rows = {line.split()[0]: line.replace(",", "").split() for line in process.stdout.splitlines() if line.strip()}
    assert "35746307" in rows["Default"]
    assert "34.21" in rows["Default"]
    for name, count in {"DeepRes1": "23.27", "ShallowRes1": "17.02", "MBConv64": "11.51", "MBConv96": "25.68"}.items():
        assert count in rows[name]
    assert "SNGAN" in rows


def test_an_unknown_run_is_answered_with_those_there_are(surrodiff):
    line = error_line(surrodiff("train", "Defualt"))
    assert "params.yaml: the preset has no 'Defualt' to train" in line
    for name in ("Default", "DeepRes1", "SNGAN", "classifier"):
        assert name in line


def test_an_unknown_preset_and_a_missing_file_are_told(surrodiff):
    assert "preset: unknown 'huge'" in error_line(surrodiff("train", "Default", "--preset", "huge"))
    assert "no.yaml: No such file" in error_line(surrodiff("train", "Default", "--params", "no.yaml"))


def test_an_unknown_table_is_answered_with_those_there_are(surrodiff):
    assert "table_4_1, table_4_2" in error_line(surrodiff("table", "table_4_9"))


def test_training_without_data_says_what_is_missing(surrodiff, tmp_path):
    line = error_line(surrodiff("train", "Default"))
    assert "data/digits-" in line
    assert "missing; run the step that makes it" in line
    assert not list(tmp_path.rglob("done.json"))


def test_a_gpu_that_is_not_there_is_told(surrodiff, tmp_path):
    """Reading pictures needs none."""
    assert surrodiff("data", "digits", "--device", "cuda").returncode == 0
    process = surrodiff("train", "Default", "--device", "cuda")
    if torch.cuda.is_available():
        assert process.returncode == 0
        assert list(tmp_path.glob("results/test/models/Default-*/done.json"))
    else:
        assert "no GPU" in error_line(process)
        assert "device: auto or cpu" in error_line(process)
        assert not (tmp_path / "results/test/models").exists()


def test_a_finished_run_is_found_by_name_or_id_and_printed(surrodiff, own_results, run_named, tmp_path):
    run = run_named("models", "Default")
    record = own_results / "models" / run.id / "record.json"
    before = record.stat().st_mtime_ns
    for name in (run.name, run.id):
        process = surrodiff("train", name)
        assert process.returncode == 0
        assert process.stdout == f"results/test/models/{run.id}\n"
    assert record.stat().st_mtime_ns == before


def test_truncated_samples_are_told_when_they_are_scored(surrodiff, own_results, run_named):
    run = run_named("scores", "Default_6")
    forget(own_results, "scores")
    file = own_results / "samples" / run.config.sample / "samples.npy"
    file.write_bytes(file.read_bytes()[:-100])
    line = error_line(surrodiff("score", "Default_6"))
    assert f"samples/{run.config.sample}/samples.npy: truncated or altered" in line
    assert not list(own_results.glob("scores/*/record.json"))


def test_truncated_weights_are_told_when_they_are_sampled(surrodiff, own_results, run_named):
    run = run_named("models", "Default")
    forget(own_results, "samples")
    file = own_results / "models" / run.id / "weights-6.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    line = error_line(surrodiff("sample", "Default_6"))
    assert f"models/{run.id}/weights-6.safetensors: truncated or altered" in line
    assert not list(own_results.glob("samples/*/samples.npy"))


def test_a_full_disk_is_told_and_the_same_command_goes_on_later(surrodiff, own_results, run_named):
    """First the data, then a model's weights, do not fit."""
    model = run_named("models", "Default")
    data, kept = own_results / "data" / model.config.data, own_results / "kept"
    data.rename(kept)
    forget(own_results, "data")
    line = error_line(surrodiff("data", "digits", file_size=50_000))
    assert f"data/{data.name}/images.safetensors: " in line
    assert "too large" in line
    work = work_folder(own_results, "data", data.name)
    assert {file.name for file in work.iterdir()} == {"config.json", ".lock"}
    assert not data.exists()
    kept.rename(data)

    folder, work = own_results / "models" / model.id, work_folder(own_results, "models", model.id)
    forget(own_results, "models", model.id)
    line = error_line(surrodiff("train", "Default", file_size=200_000))
    assert "too large" in line
    assert {file.name for file in work.iterdir()} <= {"config.json", "losses.csv", ".lock"}
    assert not folder.exists()
    process = surrodiff("train", "Default")
    assert process.returncode == 0
    assert read_record(folder)["step"] == 6


def test_a_table_says_which_run_it_misses(surrodiff):
    line = error_line(surrodiff("table", "table_4_1"))
    assert "references/classifier-" in line
    assert "missing; run the step that makes it" in line


def test_runs_are_made_from_a_frozen_file_without_params_yaml(surrodiff, own_results, run_named, params, tmp_path):
    (tmp_path / "params.yaml").unlink()
    frozen = freeze(params, tmp_path / "some where")
    names = [("data", "digits"), ("references", "classifier"), ("scores", "Default_6")]
    runs = [run_named(*name) for name in names]
    (own_results / "scores" / runs[2].id / "done.json").unlink()
    given = ("--params", str(frozen), "--results", "results/test")
    process = surrodiff("make", *(run.id for run in runs), *given)
    assert process.stdout.splitlines() == [f"results/test/{run.stage}/{run.id}" for run in runs]
    assert (own_results / "scores" / runs[2].id / "done.json").exists()
    assert surrodiff("make", "data", *given).stdout.splitlines() == [f"results/test/data/{runs[0].id}"]
    line = error_line(surrodiff("make", "Default-00000000", *given))
    assert "asks for no run 'Default-00000000'" in line
    assert str(frozen.name) in line


def test_a_missing_or_wrong_study_is_told_with_its_file(surrodiff, tmp_path):
    file = tmp_path / STUDIES / "table_4_1.yaml"
    file.write_text(file.read_text().replace("model: Default", "model: Defualt"))
    line = error_line(surrodiff("train", "Default"))
    assert "workflow/studies/table_4_1.yaml: rows.0.model: presets.paper.models has no 'Defualt'; there are " in line
    shutil.rmtree(tmp_path / STUDIES)
    (tmp_path / STUDIES).mkdir()
    assert "workflow/studies: no studies (*.yaml) here; run this in the folder" in error_line(surrodiff("plan"))


def test_a_study_of_one_s_own_is_a_table_of_its_own(surrodiff, tmp_path):
    """Without a group it is made by every preset."""
    (tmp_path / STUDIES / "mine.yaml").write_text("title: Mine\nrows:\n- model: Default\ncolumns: [scores]\n")
    assert "references/classifier-" in error_line(surrodiff("table", "mine"))
    line = error_line(surrodiff("table", "yours"))
    assert "the preset makes no table 'yours'; it makes all_samplers, calibration, likelihood, mine, " in line


def test_what_is_most_likely_a_slip_is_told_once_and_work_goes_on(surrodiff, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(file.read_text().replace("warmup_steps: 2\n", "warmup_steps: 4\n"))
    process = surrodiff("data", "digits")
    assert process.returncode == 0
    warning = (
        "params.yaml: warning: presets.test.models.Default.training.warmup_steps: 4 is more than half of the 6 steps"
    )
    assert sum(line.startswith(warning) for line in process.stderr.splitlines()) == 1
