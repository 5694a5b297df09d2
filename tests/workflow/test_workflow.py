"""The real workflow at the test preset: everything is made once, and only what changes is made again."""

import json
import re
import shutil

import pandas as pd
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def finished(project):
    """The project with all runs made in one process, which imports everything once, and then by the workflow."""
    stages = ("data", "models", "references", "samples", "scores", "likelihoods", "timings")
    process = project.surrodiff("make", *stages)
    assert process.returncode == 0, process.stdout
    assert not re.findall(r"Job \d+: (?:train|sample|refinement|likelihood|time|data|reference)", project.snakemake())
    return project


def test_the_graph_of_rules_is_whole_though_everything_is_made(finished):
    printed = finished.snakemake("--quiet", "all", "--rulegraph")
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', printed))
    edges = {(rules[a], rules[b]) for a, b in re.findall(r"(\d+) -> (\d+)", printed)}
    assert {("prepare_data", "train"), ("train", "score"), ("reference", "score"), ("train", "likelihood")} <= edges
    assert {("score", "table"), ("likelihood", "table"), ("time", "table"), ("score", "claims")} <= edges
    assert {("score", "figure"), ("train", "figure"), ("time", "summary"), ("table", "all")} <= edges


def test_every_table_and_figure_is_made(finished):
    tables = {n: pd.read_csv(finished.results / f"tables/table_4_{n}.csv") for n in range(1, 6)}
    assert [len(table) for table in tables.values()] == [4, 3, 6, 6, 9]
    for table in tables.values():
        ours = table[table["num_samples"].notna()]
        assert ours["fd_classifier"].gt(0).all()
        assert ours["is_classifier_mean"].ge(1).all()
        assert "fid" not in table.columns
    assert tables[1]["note"].iloc[-1].endswith("not run")
    assert tables[3].loc[0, "sampling_speed_ratio"] == 1
    assert list(tables[5]["surrogate"]) == ["DDPM-16"] * 4 + ["SNGAN-ResNet-32"] * 4 + ["DDPM"]
    calibration = pd.read_csv(finished.results / "tables/calibration.csv")
    assert calibration["images"].value_counts().to_dict() == {
        "held_out": 9,
        "Default": 3,
        "train": 1,
        "part of train": 1,
    }
    likelihood = pd.read_csv(finished.results / "tables/likelihood.csv")
    assert len(likelihood) == 14
    assert likelihood["bits_per_dim"].iloc[:-1].between(2, 12).all()
    assert likelihood["paper_bits_per_dim"].iloc[-1] == 3.75
    claims = pd.read_csv(finished.results / "claims.csv")
    assert set(claims["table"]) == {*(f"table_4_{n}" for n in range(1, 6)), "all_samplers"}
    for n in (2, 3, 4):
        assert min(Image.open(finished.results / f"figures/figure_4_{n}.png").size) > 300
        assert (finished.results / f"figures/figure_4_{n}.svg").read_text().startswith("<?xml")


def test_a_second_run_finds_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake()


def test_scrambled_times_change_nothing(finished):
    import os
    import random

    order = random.Random(0)
    for file in finished.results.rglob("*"):
        # The recipes decide about tables and figures; the expensive runs' markers are valid because they exist.
        if file.is_file():
            time = order.randrange(1_500_000_000, 1_600_000_000)
            os.utime(file, (time, time))
    assert "Nothing to be done" in finished.snakemake()


def test_forcing_everything_trains_nothing_again(finished):
    before = {stage: finished.made(stage) for stage in ("models", "samples", "scores", "timings")}
    finished.snakemake("--forceall", "results/test/tables/table_4_1.csv")
    assert {stage: finished.made(stage) for stage in before} == before


def test_a_changed_number_remakes_what_depends_on_it_and_changing_back_restores(finished):
    before, outputs = {s: finished.made(s) for s in ("models", "samples", "timings")}, finished.outputs()
    keys = ("presets", "test", "models", "DeepRes1")
    old = finished.change(*keys, value={"network": {"num_res_blocks": 1}, "training": {"learning_rate": 0.003}})
    finished.snakemake()
    after = {s: finished.made(s) for s in before}
    assert {k: v for k, v in after["models"].items() if k in before["models"]} == before["models"]
    assert [k.split("-")[0] for k in after["models"].keys() - before["models"]] == ["DeepRes1"]
    assert [k.split("-")[0] for k in after["samples"].keys() - before["samples"]] == ["DeepRes1_6"]
    assert after["timings"] == before["timings"]
    changed = {name for name, content in finished.outputs().items() if content != outputs[name]}
    assert {"table_4_3.csv", "table_4_3.md", "figure_4_2.png", "figure_4_2.svg"} <= changed
    assert not any("4_1" in name or "4_2.c" in name or "4_4" in name or "4_5" in name for name in changed)

    finished.change(*keys, value=old)
    finished.snakemake()
    assert finished.made("models") == after["models"]
    assert finished.outputs() == outputs


def test_a_deleted_table_is_made_again_the_same(finished):
    outputs = finished.outputs()
    (finished.results / "tables/table_4_4.csv").unlink()
    finished.snakemake()
    assert finished.outputs() == outputs


def test_a_model_that_is_deleted_is_trained_again_and_its_tables_follow(finished):
    import shutil

    (folder,) = (finished.results / "models").glob("MBConv64-*")
    weights = (folder / "weights-6.safetensors").read_bytes()
    before = finished.made("models")
    table = (finished.results / "tables/table_4_3.json").read_text()
    shutil.rmtree(folder)
    finished.snakemake("models")
    assert finished.made("models") == before, "it comes back from where it was made"
    shutil.rmtree(folder)
    shutil.rmtree(finished.work / "models" / folder.name)
    finished.snakemake()
    after = finished.made("models")
    assert [k.split("-")[0] for k in before if after[k] != before[k]] == ["MBConv64"]
    assert (folder / "weights-6.safetensors").read_bytes() == weights
    assert (finished.results / "tables/table_4_3.json").read_text() != table


def test_a_changed_sampling_number_retrains_nothing(finished):
    models = finished.made("models")
    old = finished.change("presets", "test", "sampling", "num_samples", value=60)
    finished.snakemake("results/test/tables/table_4_1.csv")
    assert finished.made("models") == models
    finished.change("presets", "test", "sampling", "num_samples", value=old)


def test_wrong_params_and_studies_end_in_one_line(finished):
    old = finished.change("presets", "test", "sampling", "num_samples", value=-1)
    wrong = {"title": "Mine", "rows": [{"model": "Defualt"}], "columns": ["scores"]}
    process = finished.run("snakemake", "--cores", "2", "--config", "preset=test")
    finished.change("presets", "test", "sampling", "num_samples", value=old)
    assert process.returncode != 0
    assert "params.yaml: presets.test.sampling.num_samples: " in process.stdout
    assert "Traceback" not in process.stdout
    finished.write_study("mine", wrong)
    process = finished.run("snakemake", "--cores", "2", "--config", "preset=test")
    (finished.path / "workflow/studies/mine.yaml").unlink()
    assert process.returncode != 0
    assert "workflow/studies/mine.yaml: rows.0.model: presets.paper.models has no 'Defualt'" in process.stdout
    assert "Traceback" not in process.stdout
    unknown = finished.run("snakemake", "--cores", "2", "--config", "preset=papr")
    assert unknown.returncode != 0
    assert "unknown 'papr'; there are paper, quick, paper_long, demo, test" in unknown.stdout
    assert "Traceback" not in unknown.stdout


def test_own_images_in_class_folders_and_a_broken_one(project, tmp_path):
    """Images of odd sizes are read and resized; new ones are a new data set; a broken one stops the workflow."""
    images = tmp_path / "my images"
    for number in range(60):
        file = images / f"class {number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9 + number % 5, 12), color=4 * number).save(file)
    old = project.change("presets", "test", "data", "source", value="image_folder")
    project.change("presets", "test", "data", "path", value=str(images))
    project.snakemake("data")
    (first,) = project.results.glob("data/image_folder-*/record.json")
    assert "Nothing to be done" in project.snakemake("data")
    shutil.copy(images / "class 1" / "1.png", images / "class 1" / "more.png")
    project.snakemake("data")
    (second,) = {*project.results.glob("data/image_folder-*/record.json")} - {first}
    assert [json.loads(file.read_text())["train_images"] for file in (first, second)] == [48, 48]
    log = next(project.results.glob(f"logs/data/{second.parent.name}.log")).read_text()
    assert "2 classes: class 0 (30), class 1 (31)" in log
    (images / "class 1" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    process = project.run("snakemake", "--cores", "2", "data", "--config", "preset=test")
    project.change("presets", "test", "data", "source", value=old)
    project.change("presets", "test", "data", "path", value=None)
    assert process.returncode != 0
    assert "broken.png: cannot be read as an image" in process.stdout
    assert "Traceback" not in process.stdout
