"""Models with a likelihood of their own, from parameters to tables: planned, trained, bounded, compared; and models
that are trained on other images than the preset's, or are differences from another than Default."""

import copy
import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_runs import refusal as refusal_of
from records import change_record, fill, forget
from scipy import stats

from surrodiff.config import params as params_module
from surrodiff.config.training import VAETraining
from surrodiff.data import pixels, sources
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.vae import falling
from surrodiff.kinds.weights import load_weights
from surrodiff.planning import plan as plan_module
from surrodiff.planning import recipes
from surrodiff.planning.runs import Run
from surrodiff.report import claims
from surrodiff.report.columns import frame
from surrodiff.report.records import Records
from surrodiff.report.tables import write
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Draws, Stream
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import work_folder

STUDY = {
    "title": "Mine",
    "rows": [{"model": ["VAE1", "IWAE5", "VAE"]}],
    "columns": ["nll", "likelihood"],
    "claims": [
        {"claim": "better", "note": "mine", "comparisons": [["nll", "IWAE5", "<", "VAE1"]]},
        {"claim": "tighter", "note": "mine", "comparisons": [["bound_rise", "IWAE5", ">", 0]]},
    ],
}


def own(raw: dict, **changes) -> dict:
    """Parameters with the study alone."""
    raw = copy.deepcopy(raw)
    raw["presets"]["paper"]["groups"] = []
    return raw | {"studies": {"mine": {**STUDY, **changes}}}


@pytest.fixture(scope="module")
def made(_read_once, make, tmp_path_factory) -> tuple[Path, plan_module.Plan]:
    """Results with all runs of the study, and its plan."""
    plan = plan_module.build(params_module.parse(own(_read_once)))
    results = tmp_path_factory.mktemp("own") / "test"
    for stage in ("data", "models", "likelihoods"):
        for run_id in plan.of_stage(stage):
            make(plan.runs[run_id], results)
    return results, plan


def run_of(plan: plan_module.Plan, stage: str, name: str) -> Run:
    return next(run for run in plan.runs.values() if (run.stage, run.name) == (stage, name))


def record_of(made, name: str) -> dict:
    results, plan = made
    return params_module.documents.read(results / "likelihoods" / run_of(plan, "likelihoods", name).id / "record.json")


def expected(made, name: str, cpu) -> np.ndarray:
    """-L_k in nats of each image, by the network alone, all images at once."""
    results, plan = made
    config = run_of(plan, "likelihoods", name).config
    network, trained = load_weights(results, config.model.run, config.model.step, cpu)
    held_out = sources.load(results, config.data)[0]["held_out_images"]
    order = noise.permutation(config.seed, Stream.BOUND, 0, len(held_out))[: config.num_images]
    x_0 = pixels.to_float(held_out[order])
    draws = Draws(config.seed, Stream.GENERATOR_LIKELIHOOD, 0, order)
    return -network.bounds(x_0, draws, trained.model.bound_sizes(config.samples)).numpy()


@pytest.mark.parametrize(("name", "sizes"), [("VAE1", [1, 100]), ("IWAE5", [1, 5, 100]), ("VAE", [1, 100])])
def test_the_stage_reports_every_bound_of_a_trained_model(made, cpu, name, sizes):
    record, values = record_of(made, name), expected(made, name, cpu)
    assert [line["samples"] for line in record["bounds"]] == sizes
    count = len(values)
    for number, line in enumerate(record["bounds"]):
        assert line["nats"] == pytest.approx(values[:, number].mean(), rel=1e-5)
        assert line["nats_error"] == pytest.approx(stats.sem(values[:, number]), rel=1e-4)
        if number:
            rises = values[:, number - 1] - values[:, number]
            assert line["rise"] == pytest.approx(rises.mean(), abs=1e-4)
            assert line["rise_error"] == pytest.approx(stats.sem(rises), rel=1e-3)
    assert record["nats"] == record["bounds"][-1]["nats"]
    assert record["bits_per_dim"] == pytest.approx(record["nats"] / 64 / math.log(2), rel=1e-12)
    assert record["bits_per_dim_error"] == pytest.approx(record["nats_error"] / 64 / math.log(2), rel=1e-12)
    assert (record["num_images"], record["image_size"], record["data"]) == (count, 8, "digits")
    results, plan = made
    run_id = run_of(plan, "likelihoods", name).id
    with open(results / "likelihoods" / run_id / "images.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert np.allclose([float(line[f"nats_{sizes[-1]}"]) for line in lines], values[:, -1], rtol=1e-5)


def test_an_interrupted_likelihood_goes_on_and_says_the_same(made, make, tmp_path, monkeypatch):
    results, plan = made
    own_results = Path(shutil.copytree(results, tmp_path / "test"))
    run = run_of(plan, "likelihoods", "IWAE5")
    whole = record_of(made, "IWAE5")
    forget(own_results, "likelihoods", run.id)
    add, counts = PartFiles.add, []

    def interrupted(self, numbers, rows):
        if len(counts) == 2:
            raise KeyboardInterrupt
        counts.append(len(numbers))
        add(self, numbers, rows)

    monkeypatch.setattr(PartFiles, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(run, own_results, sampling_batch=300)
    monkeypatch.setattr(PartFiles, "add", add)
    part = work_folder(own_results, "likelihoods", run.id) / "bounds-0.part"
    assert part.stat().st_size == sum(counts) * (2 + 3) * 8  # a row lies beside its checksum and its number
    record = make(run, own_results, sampling_batch=100)
    assert record["evaluated_now"] == whole["num_images"] - sum(counts) < whole["num_images"]
    assert record["nats"] == pytest.approx(whole["nats"], rel=1e-6)


def test_a_table_shows_bounds_and_a_claim_compares_images_pair_by_pair(made, tmp_path):
    results, plan = made
    recipe = recipes.table(plan, "mine")
    table = frame(recipe, Records(results)).set_index("model")
    record = record_of(made, "IWAE5")
    row = table.loc["IWAE5"]
    assert row["nll"] == record["nats"]
    assert row["nll_by_elbo"] == record["bounds"][0]["nats"]
    assert row["nll_by_trained_bound"] == record["bounds"][1]["nats"]
    assert (row["samples_of_trained_bound"], row["samples_of_nll"]) == (5, 100)
    assert row["nll_interval"] == pytest.approx(stats.t.ppf(0.975, 7) * record["nats_error"])
    assert row["bits_per_dim"] == record["bits_per_dim"]
    rises = [(line["rise"], line["rise_error"]) for line in record["bounds"][1:]]
    assert row["least_rise"] == min(rises, key=lambda rise: rise[0] / rise[1])[0]

    values = {}
    for name in ("IWAE5", "VAE1"):
        with open(results / "likelihoods" / run_of(plan, "likelihoods", name).id / "images.csv", newline="") as file:
            values[name] = [float(line["nats_100"]) for line in csv.DictReader(file)]
    paired = stats.ttest_rel(values["IWAE5"], values["VAE1"]).confidence_interval(0.95)
    judged = claims.judge(recipe, Records(results)).set_index("claim")
    verdict = "holds" if paired.high < 0 else "fails" if paired.low > 0 else "undecided"
    assert judged.loc["better", "verdict"] == verdict
    assert judged.loc["tighter", "verdict"] in ("holds", "undecided", "fails")
    write(recipe, results)
    text = (results / "tables" / "mine.md").read_text()
    assert "by the bound of 100 samples of an image" in text
    assert "Claims about `nll` compare two rows of one training each image by image" in text
    assert "Variance of a reverse step" not in text


def test_a_table_of_bits_explains_its_own_columns_alone_and_names_the_samples_of_every_row(raw, tmp_path):
    raw["presets"]["paper"]["groups"] = ["likelihoods"]
    raw["studies"] = {"likelihoods": raw["studies"]["likelihoods"]}
    plan, results = plan_module.build(params_module.parse(raw)), tmp_path / "test"
    fill(plan, results, "classifier", 64)
    flow = results / "likelihoods" / run_of(plan, "likelihoods", "Flow").id
    change_record(flow, lambda record: record["bounds"][-1].update(samples=64))
    write(recipes.table(plan, "likelihoods"), results)
    text = (results / "tables" / "likelihoods.md").read_text()
    assert "`bits_per_dim` of a model with a likelihood of its own is -log p per dimension" in text
    assert "by the bound of 64, 100 samples of an image" in text
    assert "Bits per dimension of the variational bound" in text
    for absent in ("nll", "least_rise", "nats", "image by image"):
        assert absent not in text


@pytest.mark.parametrize(("samples", "trained"), [(5, "nll"), (4, None), (1, None)])
def test_the_trained_bound_is_blank_where_it_was_not_taken(raw, make, tmp_path, samples, trained):
    """Of an autoencoder with k = 5, by as many samples and by fewer."""
    raw["presets"]["test"]["likelihood"]["samples"] = samples
    raw = own(raw, rows=[{"model": "IWAE5"}], claims=[])
    plan, results = plan_module.build(params_module.parse(raw)), tmp_path / "test"
    for stage in ("data", "models", "likelihoods"):
        for run_id in plan.of_stage(stage):
            make(plan.runs[run_id], results)
    recipe = recipes.table(plan, "mine")
    (row,) = frame(recipe, Records(results)).to_dict("records")
    assert row["samples_of_nll"] == samples
    if trained:
        assert row["nll_by_trained_bound"] == row[trained] < row["nll_by_elbo"]
        assert row["samples_of_trained_bound"] == 5
    else:
        assert pd.isna([row.get("nll_by_trained_bound"), row.get("samples_of_trained_bound")]).all()
    write(recipe, results)
    assert ("by as many as in training" in (results / "tables" / "mine.md").read_text()) == bool(trained)


# --- training


def test_rates_fall_in_stages_each_three_times_as_long_as_the_one_before():
    shares = np.arange(3280) / 3280
    stages = np.repeat(np.arange(8), 3 ** np.arange(8))  # of 3,280 passes, by Burda et al.
    assert np.allclose([falling(share) for share in shares], 10 ** (-stages / 7), rtol=1e-12)


def test_a_trainer_s_rate_is_warmed_up_and_falls(made, execution, cpu):
    _, plan = made
    config = run_of(plan, "models", "VAE1").config
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    settings = config.model.training.model_dump() | {"steps": 3280, "snapshot_every": 3280, "warmup_steps": 2}
    for rates, last in (("falling", 0.1), ("constant", 1.0)):
        model = config.model.model_copy(update={"training": VAETraining(**settings | {"rates": rates})})
        labels = torch.zeros(20, dtype=torch.long)
        trainer = kind_of(model).trainer(config.model_copy(update={"model": model}), images, labels, cpu, execution)
        whole = model.training.learning_rate
        assert trainer.rate(1) == pytest.approx(whole / 2)
        assert trainer.rate(3280) == pytest.approx(last * whole)


# --- data sets of their own


def test_a_model_is_trained_and_bounded_on_its_own_images(raw):
    raw = own(raw, rows=[{"model": ["VAE1", "VAE"]}], claims=[])
    large = params_module.parse(raw).presets["test"].data.model_dump() | {"image_size": 10}
    raw["presets"]["test"]["datasets"] = {"large": large}
    raw["presets"]["test"]["models"]["VAE1"] |= {"data": "large", "image_size": 10}
    plan = plan_module.build(params_module.parse(raw))
    data, elsewhere = run_of(plan, "data", "large"), run_of(plan, "data", "digits")
    assert data.config.image_size == 10
    for name, there in (("VAE1", data), ("VAE", elsewhere)):
        likelihood, model = run_of(plan, "likelihoods", name), run_of(plan, "models", name)
        assert likelihood.config.data == model.config.data == there.id
        assert "data" not in model.config.json_value()["model"]
    # The name is in no id: the run of the images is.
    raw["presets"]["test"]["datasets"] = {"other": large}
    raw["presets"]["test"]["models"]["VAE1"]["data"] = "other"
    renamed = plan_module.build(params_module.parse(raw))
    assert run_of(renamed, "data", "other").id.split("-")[1] == data.id.split("-")[1]


TEST = "presets.test"


def put(raw: dict, key: str, value):
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
    raw[last] = value


def refusal(raw: dict) -> str:
    return refusal_of(params_module.parse, raw, "my.yaml").removeprefix("my.yaml: ")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (f"{TEST}.models.VAE.image_size", 7, f"{TEST}.models.VAE.image_size: convolutional layers need an even one"),
        (f"{TEST}.models.VAE.image_size", 2, f"{TEST}.models.VAE.image_size: convolutional layers need an even one"),
        (
            f"{TEST}.models.VAE1.image_size",
            10,
            f"{TEST}.models.VAE1.image_size: a generator's must be data.image_size (8)",
        ),
        (
            f"{TEST}.models.VAE1.data",
            "mnist",
            f"{TEST}.models.VAE1.image_size: a generator's must be datasets.mnist.image_size (28)",
        ),
        (
            f"{TEST}.models.VAE1.data",
            "faces",
            f"{TEST}.models.VAE1.data: no data set 'faces' in datasets; there are mnist",
        ),
        ("models.VAE50.repetitions", 0, "models.VAE50.repetitions: "),
        ("models.VAE1.rates", "falling", "models.VAE1.rates: unknown key"),
        (
            "models.VAE1.training.rates",
            "rising",
            "models.VAE1.training.rates: must be 'constant' or 'falling', got 'rising'",
        ),
        ("models.VAE5.like", "VAE2", "models.VAE5.like: must name a model that is not like another itself, got 'VAE2'"),
        ("models.VAE5.like", "IWAE5", "models.VAE5.like: must name a model that is not like another itself"),
        ("models.VAE5.like", ["VAE1"], "models.VAE5.like: must name a model that is not like another itself"),
        (f"{TEST}.likelihood.samples", 0, f"{TEST}.likelihood.samples: "),
        ("presets.paper.datasets.mnist.channels", 3, "presets.paper.datasets.mnist.channels: MNIST is greyscale"),
        ("presets.paper.datasets.mnist.path", None, "presets.paper.datasets.mnist.path: source mnist needs a folder"),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_its_key(raw, key, value, says):
    put(raw, key, value)
    message = refusal(raw)
    assert message.startswith(says), message


def test_more_samples_of_a_bound_than_any_memory_holds_are_refused(raw):
    put(raw, "presets.paper.models.VAE", {"importance_samples": 1000, "repetitions": 1000})
    message = refusal(raw)
    assert message.startswith("presets.paper.models.VAE.training: a step takes more than ")
    assert "importance_samples" in message


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ({"columns": ["scores"]}, "mine.rows.0.model: VAE1 is trained on mnist, which is not presets.paper.data"),
        ({"columns": ["speed"]}, "mine.rows.0.model: VAE1 is trained on mnist, which is not presets.paper.data"),
        (
            {"rows": [{"surrogate": "VAE1", "t_mid": 0.5}], "columns": ["scores"]},
            "mine.rows.0.surrogate: VAE1 is trained on mnist",
        ),
        ({"rows": [{"model": "SNGAN"}]}, "mine.rows.0.model: only a diffusion model by itself has a bound, and"),
        ({"rows": [{"surrogate": "VAE", "t_mid": 0}]}, "mine.rows.0.surrogate: only a diffusion model by itself has"),
    ],
)
def test_a_model_of_other_images_is_refused_where_the_preset_s_are_meant(raw, study, says):
    raw = own(raw, **{"rows": [{"model": "VAE1"}], "claims": [], **study})
    assert refusal(raw).startswith(f"studies.{says}")


def test_a_model_like_another_has_what_that_has_in_each_preset(params):
    for preset in params.presets.values():
        first, fifty = preset.models["VAE1"], preset.models["IWAE50"]
        assert fifty == first.model_copy(update={"importance_samples": 50})
    assert params.presets["paper"].models["IWAE50"].data == "mnist"
    assert params.presets["demo"].models["IWAE50"].data is None


def test_a_diffusion_can_be_like_another_one(raw):
    raw["models"]["IWDiffThree"] = {"like": "IWDiff", "objective": {"reduction": "sum"}}
    models = params_module.parse(raw).presets["test"].models
    objective = models["IWDiff"].objective.model_copy(update={"reduction": "sum"})
    assert models["IWDiffThree"] == models["IWDiff"].model_copy(update={"objective": objective})


def test_a_likelihood_of_the_wrong_kind_is_told(made, make):
    results, plan = made
    config = run_of(plan, "likelihoods", "VAE").config
    wrong = config.model_copy(update={"samples": None, "variance": "fixed_large", "clip_x0": True})
    message = refusal_of(make, Run("wrong", wrong), results)
    assert message.endswith("is a vae, which has no such likelihood")
