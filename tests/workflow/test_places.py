"""Where the workflow runs: as a module of another one, in a folder that cannot be written, as a submitted job."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from project import Project


def run(project: Project, *arguments: str, path=None, before=(), **environment: str) -> subprocess.CompletedProcess:
    """Snakemake, in the project's folder unless told otherwise."""
    return subprocess.run(
        [*before, sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=path or project.path,
        env={**project.environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("prefix", "names", "results"), [(None, "*", "results/test"), ("a sub", "other_*", "a sub/results/test")]
)
def test_another_workflow_uses_it_as_a_module(project, tmp_path, prefix, names, results):
    lines = ["module surrodiff:", f"    snakefile: {str(project.path / 'Snakefile')!r}", "    config: config"]
    lines += [f"    prefix: {prefix!r}"] if prefix else []
    (tmp_path / "Snakefile").write_text("\n".join([*lines, f"use rule * from surrodiff as {names}"]))
    rule = names.replace("*", "{}").format
    given = ("--configfile", str(project.path / "params.yaml"), "--config", "preset=test", "device=cpu")
    planned = run(project, "--dry-run", *given, path=tmp_path, PYTHONPATH="")
    assert planned.returncode == 0, planned.stdout
    assert "train Default-" in planned.stdout
    assert " of 96 runs done" in planned.stdout
    made = run(project, *given, "--", rule("data"), path=tmp_path, PYTHONPATH="")
    assert made.returncode == 0, made.stdout
    assert [file.parent.name.split("-")[0] for file in tmp_path.glob(f"{results}/data/*/done.json")] == ["digits"]
    assert {path.name for path in tmp_path.iterdir()} == {"Snakefile", ".snakemake", results.split("/")[0]}


def test_a_prefix_that_moves_only_a_part_is_refused(project, tmp_path):
    lines = ["module surrodiff:", f"    snakefile: {str(project.path / 'Snakefile')!r}", "    config: config"]
    lines += ["    replace_prefix: {'results/test/tables/': 'tables/'}", "use rule * from surrodiff"]
    (tmp_path / "Snakefile").write_text("\n".join(lines))
    process = run(project, "--configfile", str(project.path / "params.yaml"), "--config", "preset=test", path=tmp_path)
    assert process.returncode == 1
    assert "surrodiff: replace_prefix: moves only a part of results/test" in process.stdout
    assert "Traceback" not in process.stdout


def test_a_folder_that_cannot_be_written_is_planned_and_listed_and_nothing_else(tmp_path):
    project = Project(tmp_path)
    given = ("--config", "preset=test", "device=cpu")
    run(project, *given, "--", "data")
    shutil.rmtree(tmp_path / ".snakemake")
    tmp_path.chmod(0o555)
    # The superuser may write anywhere, unless that is taken away.
    before = [shutil.which("setpriv"), "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    listed = run(project, "--list", before=before)
    dry = run(project, "--dry-run", *given, before=before)
    nothing = run(project, "--dry-run", *given, "--", "data", before=before)
    for_real = run(project, *given, before=before)
    tmp_path.chmod(0o755)
    assert listed.returncode == 0, listed.stdout
    assert "likelihood" in listed.stdout
    assert dry.returncode == 0, dry.stdout
    assert "train Default-" in dry.stdout
    assert "data digits-" not in dry.stdout, "it sees what is there"
    assert "Nothing to be done" in nothing.stdout
    assert for_real.returncode == 1
    assert "surrodiff: .snakemake: Permission denied; make this folder writable" in for_real.stdout
    assert "Traceback" not in for_real.stdout
    assert not (tmp_path / ".snakemake").exists()


def test_another_folder_is_enough_with_the_snakefile_and_the_parameters_by_name(project, tmp_path):
    given = ("--snakefile", str(project.path / "Snakefile"), "--configfile", str(project.path / "params.yaml"))
    process = run(project, *given, "--config", "preset=test", "device=cpu", "--", "data", path=tmp_path)
    assert process.returncode == 0, process.stdout
    assert len(list(tmp_path.glob("results/test/data/digits-*/done.json"))) == 1


def test_a_submitted_job_makes_what_was_planned_though_params_yaml_is_gone(tmp_path):
    """What executors run on a node is a Snakemake for one job, in the environment of the one that planned."""
    project = Project(tmp_path)
    given = ("--config", "preset=test", "device=cpu")
    planned = data_run(run(project, "--dry-run", *given))
    (frozen,) = tmp_path.glob(".snakemake/surrodiff/params-*.json")
    project.change("presets", "test", "data", "seed", value=7)
    changed = data_run(run(project, "--dry-run", *given, SURRODIFF_PARAMS=str(frozen)))
    assert changed != planned  # a user's own variable changes no plan
    (tmp_path / "params.yaml").unlink()
    job = ("--target-jobs", f"prepare_data:run={planned}", "--allowed-rules", "prepare_data", "--force", "--nolock")
    variable = {"SURRODIFF_PARAMS": str(frozen.relative_to(tmp_path))}
    process = run(project, "--mode", "remote", *job, *given, **variable)
    assert process.returncode == 0, process.stdout
    assert [path.name for path in project.results.glob("data/*")] == [planned]


def data_run(process: subprocess.CompletedProcess) -> str:
    """The id of the data's run in what Snakemake printed."""
    assert process.returncode == 0, process.stdout
    return re.search(r"data (digits-[0-9a-f]{8})", process.stdout)[1]
