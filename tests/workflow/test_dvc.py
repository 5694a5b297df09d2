"""DVC over Snakemake: a changed number makes what depends on it and no more, under either tool, on any path."""

import json
import os
import random
import re

import numpy as np
import pytest
import yaml
from PIL import Image
from project import LEARNING_RATE, Repository, trained
from small_studies import one_model

KEY = ".".join(LEARNING_RATE)


def scramble_times(project):
    order = random.Random(0)
    for file in project.path.rglob("*"):
        if file.is_file() and ".git" not in file.parts and ".dvc" not in file.parts:
            time = order.randrange(1_500_000_000, 1_600_000_000)
            os.utime(file, (time, time))


def test_dvc_repro_makes_everything_and_both_tools_are_content(recorded):
    recorded.assert_clean()
    assert len(list(recorded.results.glob("tables/*.csv"))) == 7
    assert len(list(recorded.results.glob("figures/*.png"))) == 3
    assert (recorded.results / "claims.csv").exists()
    repeated = recorded.succeed("dvc", "repro")
    assert trained(repeated) == []
    assert "Data and pipelines are up to date" in repeated


def test_what_snakemake_made_is_recorded_and_nothing_stale_is(clone):
    lock = clone.path / "dvc.lock"
    document = yaml.safe_load(lock.read_text())
    lock.unlink()
    assert "recorded" in clone.succeed("surrodiff.cli", "record")
    clone.assert_clean()
    assert yaml.safe_load(lock.read_text()) == document

    before = lock.read_bytes()
    clone.change(*LEARNING_RATE, value=0.004)
    refused = clone.run("surrodiff.cli", "record")
    assert refused.returncode == 1
    assert "not up to date with params.yaml, so nothing was recorded" in refused.stdout
    clone.change(*LEARNING_RATE, value=0.002)
    (weights,) = clone.results.glob("models/DeepRes1-*/weights-6.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    refused = clone.run("surrodiff.cli", "record")
    assert refused.returncode == 1
    assert "weights-6.safetensors: truncated or altered" in refused.stdout
    assert lock.read_bytes() == before


def test_a_pulled_clone_needs_nothing_whatever_its_times_and_trains_what_is_changed(clone):
    clone.assert_clean()
    assert not list(clone.results.glob("samples/*"))
    scramble_times(clone)
    clone.assert_clean()
    clone.change(*LEARNING_RATE, value=0.004)
    assert trained(clone.snakemake()) == ["DeepRes1"]


def test_a_folder_of_which_the_preset_asks_for_nothing_is_made_though_the_plan_is_up_to_date(clone):
    """As after an update, by which there is a stage more: dvc.lock and the results are from before it."""
    lock = clone.path / "dvc.lock"
    document = yaml.safe_load(lock.read_text())
    scores = document["stages"]["scores@test"]
    for stage in ("diagnoses", "refinements"):
        assert not list((clone.results / stage).iterdir())
        (clone.results / stage).rmdir()
        scores["outs"] = [out for out in scores["outs"] if out["path"] != f"results/test/{stage}"]
    lock.write_text(yaml.safe_dump(document))
    printed = clone.succeed("dvc", "repro")
    assert "'plan@test' didn't change, skipping" in printed
    assert trained(printed) == []
    clone.assert_clean()


def test_a_clone_that_git_would_give_other_line_ends_needs_nothing(recorded, tmp_path):
    clone = Repository.clone(recorded, tmp_path / "a clone", "--config", "core.autocrlf=true")
    clone.assert_clean()
    assert clone.outputs() == recorded.outputs()


def test_figures_get_their_samples_back(clone):
    before = clone.outputs()
    (clone.results / "figures/figure_4_4.json").unlink()
    assert trained(clone.snakemake()) == []
    assert clone.outputs() == before


@pytest.mark.parametrize(
    "command",
    [
        ("dvc", "exp", "run", "--set-param", f"{KEY}=0.004"),
        ("dvc", "exp", "run", "--temp", "--name", "elsewhere", "--set-param", f"{KEY}=0.004"),
    ],
    ids=["workspace", "temp"],
)
def test_an_experiment_trains_the_one_model_that_it_changes(clone, command):
    before = clone.outputs()
    printed = clone.succeed(*command)
    assert trained(printed) == ["DeepRes1"]
    if "--temp" in command:
        assert clone.outputs() == before  # it ran beside the workspace
        clone.succeed("dvc", "exp", "apply", "elsewhere")
    assert clone.outputs() != before
    clone.assert_clean()
    shown = json.loads(clone.succeed("dvc", "exp", "show", "--json"))
    assert shown[0]["rev"] == "workspace"
    assert trained(clone.succeed("dvc", "exp", "run", "--set-param", f"{KEY}=0.002")) == []
    assert clone.outputs() == before


def test_repro_trains_what_changed_and_commits_are_visited_back_and_forth(clone):
    before, runs = clone.outputs(), {stage: clone.made(stage) for stage in ("models", "timings")}
    clone.change(*LEARNING_RATE, value=0.004)
    assert trained(clone.succeed("dvc", "repro")) == ["DeepRes1"]
    clone.assert_clean()
    assert clone.made("models").items() >= runs["models"].items()
    assert clone.made("timings") == runs["timings"]
    after = clone.outputs()
    changed = {name for name in after if after[name] != before[name]}
    assert {"table_4_3.csv", "figure_4_2.svg"} <= changed
    assert not {"table_4_1.csv", "table_4_2.csv", "table_4_4.csv", "table_4_5.csv", "figure_4_4.png"} & changed
    clone.commit("Raise the learning rate")

    # Reports between the two commits.
    assert KEY in clone.succeed("dvc", "params", "diff", "HEAD~1")
    assert "fd_classifier.DeepRes1_6" in clone.succeed("dvc", "metrics", "diff", "HEAD~1")
    metrics = json.loads((clone.results / "summary/metrics.json").read_text())
    assert metrics.keys() == {"fd_classifier", "is", "samples_per_second"}
    assert metrics["fd_classifier"].keys() == metrics["is"].keys()
    assert {"Default_6", "SNGAN_t0", "SNGAN_t2"} <= metrics["samples_per_second"].keys()
    clone.succeed("dvc", "plots", "show")
    page = (clone.path / "dvc_plots/index.html").read_text()
    assert "Run <code>surrodiff plots-page</code>, then this command again" in page
    for _ in range(2):  # again is no harm
        clone.succeed("surrodiff.cli", "plots-page")
    for command in (("show",), ("diff", "HEAD~1")):
        clone.succeed("dvc", "plots", *command)
        page = (clone.path / "dvc_plots/index.html").read_text()
        assert page.count("vegaEmbed('#") == 3
        assert "DeepRes1_6" in page
        assert not re.search(r"<(script|link)[^>]*(src|href)=", page), "the page would need a network"

    for commit, outputs in (("HEAD~1", before), ("main", after)):
        clone.git("checkout", "--quiet", commit)
        clone.succeed("dvc", "checkout")
        clone.assert_clean()
        assert clone.outputs() == outputs

    # Back to the old value: the old model is found.
    clone.change(*LEARNING_RATE, value=0.002)
    assert trained(clone.succeed("dvc", "repro")) == []
    assert clone.outputs() == before
    clone.assert_clean()


def test_nothing_but_the_numbers_of_a_model_retrains_it(clone):
    def asked_for() -> str:
        return clone.succeed("snakemake", "--cores", "2", "--dry-run")

    (clone.path / "src/surrodiff/stages/train.py").open("a").write("\n# A remark.\n")
    rules = clone.path / "workflow/rules/common.smk"
    rules.write_text(rules.read_text().replace("surrodiff.cli make", "surrodiff.cli  make"))
    clone.change("presets", "test", "execution", "log_every", value=3)
    clone.change("presets", "demo", "sampling", "num_samples", value=500)
    assert "Nothing to be done" in asked_for()
    assert trained(clone.succeed("dvc", "repro")) == []

    clone.change("presets", "test", "sampling", "num_samples", value=60)
    assert "sample and score Default_6" in asked_for()
    assert trained(asked_for()) == []
    clone.change("presets", "test", "sampling", "num_samples", value=64)
    clone.change("presets", "test", "models", "DeepRes1", "training", "revision", value=7)
    assert trained(asked_for()) == ["DeepRes1"]


def test_images_that_dvc_tracks_are_a_dependency(tmp_path):
    (tmp_path / "a project").mkdir()
    repository = Repository.start(tmp_path / "a project", tmp_path / "a remote")
    repository.write_studies(one_model())
    rng = np.random.default_rng(0)
    images = [repository.path / "images" / str(number % 10) / f"{number}.bmp" for number in range(80)]
    for file in images:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12), np.uint8)).save(file)
    repository.succeed("dvc", "add", "images")
    repository.change("presets", "test", "data", "source", value="image_folder")
    repository.change("presets", "test", "data", "path", value="./images")
    refused = repository.run("dvc", "repro", "models@test")
    assert refused.returncode != 0
    assert "write `image_folder: images` under `vars` in dvc.yaml" in refused.stdout
    stages = repository.path / "dvc.yaml"
    stages.write_text(stages.read_text().replace("image_folder: .dvcignore", "image_folder: images"))
    both = ["Default", "classifier"]
    assert sorted(trained(repository.succeed("dvc", "repro", "models@test"))) == both
    scramble_times(repository)  # as another clone's checkout would
    assert "Nothing to be done" in repository.succeed("snakemake", "--cores", "2", "--dry-run", "models")
    assert "up to date" in repository.succeed("dvc", "status", "data@test", "models@test")
    assert trained(repository.succeed("dvc", "repro", "models@test")) == []

    before = images[0].read_bytes()
    images[0].write_bytes(before[:-1] + bytes([before[-1] ^ 255]))
    assert "images" in repository.succeed("dvc", "status", "data@test")
    assert sorted(trained(repository.succeed("dvc", "repro", "models@test"))) == both
    assert len(repository.made("data")) == 2
    images[0].write_bytes(before)
    assert trained(repository.succeed("dvc", "repro", "models@test")) == []
    assert len(repository.made("data")) == 2


def test_pruning_lists_old_runs_and_deletes_only_what_a_commit_has_recorded(clone):
    def pruned(*options: str) -> str:
        return clone.succeed("surrodiff.cli", "prune", *options)

    assert "in 0 runs that nothing asks for" in pruned()
    (old,) = clone.results.glob("models/DeepRes1-*")
    clone.change(*LEARNING_RATE, value=0.004)
    clone.snakemake("models")
    (new,) = set(clone.results.glob("models/DeepRes1-*")) - {old}
    listed = pruned()
    assert old.exists()
    assert re.search(rf"[\d.]+ MB  {old.relative_to(clone.path)}  \(recorded in a commit\)", listed)
    assert str(new.relative_to(clone.path)) not in listed
    pruned("--delete")
    assert not old.exists()
    assert new.exists()

    # Back at the old value the new model is a leftover that no commit has recorded.
    clone.change(*LEARNING_RATE, value=0.002)
    kept = pruned("--delete")
    assert "not recorded in a commit" in kept
    assert new.exists()
    pruned("--delete", "--force")
    assert not new.exists()
    # And what was deleted comes back from DVC, not from training.
    clone.succeed("dvc", "checkout")
    assert old.exists()
    clone.assert_clean()


def test_a_truncated_cache_object_and_a_missing_remote_are_told(clone, recorded):
    (weights,) = clone.results.glob("models/DeepRes1-*/weights-6.safetensors")
    content = weights.read_bytes()
    listing = yaml.safe_load((clone.path / "dvc.lock").read_text())["stages"]["models@test"]["outs"][0]["md5"]
    cache = clone.path / ".dvc/cache/files/md5"
    entries = json.loads((cache / listing[:2] / listing[2:]).read_text())
    (md5,) = [e["md5"] for e in entries if e["relpath"] == str(weights.relative_to(clone.results / "models"))]
    cached = cache / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_bytes(content[:-10])
    weights.unlink()
    # DVC hands it out as it is; the checksums of ours notice.
    clone.run("dvc", "checkout")
    assert weights.read_bytes() == content[:-10]
    for command in (("sample", "DeepRes1_6"), ("record",)):
        refused = clone.run("surrodiff.cli", *command)
        assert refused.returncode == 1
        assert f"{weights.relative_to(clone.path)}: truncated or altered" in refused.stdout
        assert "Traceback" not in refused.stdout
    cached.unlink()
    weights.unlink()

    clone.succeed("dvc", "remote", "modify", "storage", "url", str(clone.path.parent / "gone"))
    process = clone.run("dvc", "pull")
    assert process.returncode != 0
    assert "Traceback" not in process.stdout
    assert "results/test/models" in process.stdout
    assert "do not exist neither locally nor on remote" in process.stdout
    clone.succeed("dvc", "remote", "modify", "storage", "url", _remote_of(recorded))
    clone.succeed("dvc", "pull")
    assert weights.read_bytes() == content
    clone.assert_clean()


def _remote_of(repository) -> str:
    return re.search(r"url = (.*)", (repository.path / ".dvc/config").read_text())[1]
