"""Surrogates that are no trained model: few-step samples, low-resolution training images, folders of images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from data_runs import refusal
from PIL import Image
from plans import plan_of

from surrodiff.config import params as params_module
from surrodiff.data import identity
from surrodiff.data.pixels import to_float, to_uint8
from surrodiff.dvc import recording
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import load_evaluation
from surrodiff.planning import plan as plan_module
from surrodiff.planning import recipes
from surrodiff.report.columns import frame
from surrodiff.report.records import Records
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream
from surrodiff.stages import sample as sample_stage
from surrodiff.store import tensors

STUDY = {"title": "Own", "columns": ["t_mid", "sampler", "speed", "cost", "scores"]}


@pytest.fixture
def planned(raw):
    """The plan of a study of some rows with surrogates, and its rows by name."""

    def planned(*rows: dict, **surrogates: dict):
        raw["studies"] = {"own": STUDY | {"rows": list(rows)}}
        raw["presets"]["paper"]["groups"] = []
        raw["surrogates"] |= surrogates
        made = plan_of(raw)
        return made, {row.line.name: row for row in made.tables["own"].rows}

    return planned


def sample_of(made, row):
    return made.runs[row.runs[0].sample]


def made_images(made, row, results, make) -> np.ndarray:
    """The samples of a row, after those that they begin with."""
    run = sample_of(made, row)
    for begun in run.config.begins_with(made.runs):
        make(made.runs[begun], results)
    make(run, results)
    return sample_stage.load(results, run.id)[0]


FEW = {"kind": "few_steps", "model": "Default", "sampler": "ddim", "evaluations": "1/4"}


def test_few_steps_alone_are_the_samples_of_that_sampler_and_begin_what_is_refined(planned, own_results, make, cpu):
    made, rows = planned(
        {"model": "Default", "sampler": "ddim", "evaluations": "1/4", "name": "plain"},
        {"surrogate": "Few", "t_mid": [0, 0.5]},
        Few=FEW,
    )
    alone, refined = rows["Few@0"], rows["Few@0.5"]
    assert alone.runs == rows["plain"].runs
    assert (alone.sampler, alone.evaluations, refined.sampler, refined.evaluations) == ("ddim", 2, "ancestral", 2 + 4)
    config = sample_of(made, refined).config
    assert config.begins_with(made.runs) == [alone.runs[0].sample]
    assert ("samples", alone.runs[0].sample) in config.needs()
    assert [run.name for run in made.runs.values() if run.stage == "models"].count("Default") == 1

    images = made_images(made, refined, own_results, make)
    start = torch.from_numpy(sample_stage.load(own_results, alone.runs[0].sample)[0])
    network, model = load_evaluation(own_results, config.model, config.precision, cpu)
    how = {"stream": Stream.REFINEMENT}  # other noise than that of the samples before
    reverse = kind_of(model.model).process(network, model, config.sampler, config.seed, cpu, **how)
    index, alpha_bar = torch.arange(len(start)), reverse.schedule.alpha_bar[4]
    eps = noise.normal(config.seed, Stream.FORWARD, 4, index, reverse.shape)
    x_t = alpha_bar.sqrt().float() * to_float(start) + (1 - alpha_bar).sqrt().float() * eps
    expected = to_uint8(reverse.run(x_t, index, 4))
    assert (torch.from_numpy(images).int() - expected.int()).abs().max() <= 1


def test_a_refined_row_is_timed_and_costed_with_all_that_it_evaluates_and_trains(planned):
    made, rows = planned(
        {"surrogate": ["Few", "SNGAN", "TrainingHalf"], "t_mid": [0, 0.5]}, {"model": "Default"}, Few=FEW
    )

    def names(pairs):
        return [(made.runs[timing].name, count) for timing, count in pairs]

    assert names(rows["Few@0.5"].timings) == [("Default", 2), ("Default", 4)]
    assert names(rows["Few@0.5"].trainings) == [("Default", 6)]
    _, halves = planned({"surrogate": ["Few", "SNGAN"], "t_mid": [0, 0.5], "steps": "1/3"}, Few=FEW)
    trainings = {name: [count for _, count in row.trainings] for name, row in halves.items()}
    assert trainings == {"Few@0": [6], "Few@0.5": [6], "SNGAN@0": [6], "SNGAN@0.5": [6, 2]}, (
        "a start is of the last step"
    )
    assert names(rows["SNGAN@0.5"].trainings) == [("SNGAN", 6), ("Default", 6)]
    assert names(rows["SNGAN@0"].trainings) == [("SNGAN", 6)]
    oracle = rows["TrainingHalf@0.5"]
    assert (oracle.timings, oracle.trainings, oracle.step, oracle.runs[0].model) == ((), (), None, None)
    assert oracle.oracle
    assert "oracle" in oracle.label
    assert not any(row.oracle for name, row in rows.items() if not name.startswith("TrainingHalf"))


def test_what_a_refined_row_begins_with_is_made_for_its_scores_and_seeds_alone(raw, planned):
    raw["presets"]["paper"]["seeds"]["sampling"] = [1]
    made, _ = planned({"surrogate": "Few", "t_mid": 0.5}, Few=FEW)
    few = [run for run in made.runs.values() if run.stage == "samples" and "ddim" in run.name]
    assert [run.config.seed for run in few] == [1]
    raw["studies"]["own"]["columns"] = ["speed", "cost"]
    assert [run for run in plan_of(raw).of_stage("samples") if "ddim" in run or "Few" in run] == []


def test_stochastic_few_steps_are_refined_with_other_noise(planned, own_results, make, cpu):
    """Else the noise that is added from t_mid down would depend on the samples that it is added to."""
    few = FEW | {"sampler": "ancestral", "evaluations": 1}
    made, rows = planned({"surrogate": "Few", "t_mid": [0, 1]}, Few=few)
    made_images(made, rows["Few@1"], own_results, make)
    index, shape = torch.arange(64), (1, 8, 8)
    drawn = [noise.normal(0, stream, 4, index, shape).flatten() for stream in (Stream.REVERSE, Stream.REFINEMENT)]
    assert abs(torch.corrcoef(torch.stack(drawn))[0, 1]) < 0.05


def test_a_score_s_record_names_the_model_of_its_start(planned, own_results, make):
    made, rows = planned({"surrogate": "Few", "t_mid": 0.5}, Few=FEW)
    (run,) = rows["Few"].runs if "Few" in rows else rows["Few@0.5"].runs
    make(made.runs[made.runs[run.sample].config.begun.samples], own_results)
    make(made.runs[run.sample], own_results)
    record = make(made.runs[run.score], own_results)
    assert [entry["run"] for entry in record["models"]] == [run.model] * 2


def test_low_resolution_training_images_are_each_resized_there_and_back(planned, own_results, make):
    made, rows = planned({"surrogate": "TrainingHalf", "t_mid": 0})
    (row,) = rows.values()
    images = made_images(made, row, own_results, make)
    arrays, _ = tensors.load(own_results / "data" / made.data / "images.safetensors")
    small = F.interpolate(arrays["train_images"].float(), 4, mode="bilinear", antialias=True).round()
    copies = F.interpolate(small, 8, mode="bilinear").round().flatten(1)
    nearest = torch.cdist(torch.from_numpy(images).float().flatten(1), copies).min(1)
    assert float(nearest.values.max()) <= 8  # a grey level or so a pixel: rounding in [-1, 1] instead of [0, 255]
    assert len(set(nearest.indices.tolist())) > 0.9 * len(images), "as many images as samples"


@pytest.fixture
def folder(tmp_path):
    """70 grey images of several sizes, some in a folder below."""
    generator = np.random.default_rng(0)
    root = tmp_path / "made elsewhere"
    (root / "more").mkdir(parents=True)
    for number in range(70):
        size = 8 if number % 2 else 12
        pixels = generator.integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(root / ("more" if number > 50 else "") / f"{number}.png")
    return root


def identified(raw, folder):
    raw["studies"] = {"own": STUDY | {"rows": [{"surrogate": "Elsewhere", "t_mid": [0, 0.5]}]}}
    raw["presets"]["paper"]["groups"] = []
    raw["surrogates"]["Elsewhere"] = {"kind": "folder", "path": str(folder)}
    return plan_module.build(identity.identified(params_module.parse(raw)))


def test_images_made_elsewhere_are_refined(raw, folder, own_results, make):
    made = identified(raw, folder)
    alone, refined = made.tables["own"].rows
    images = made_images(made, alone, own_results, make)
    there = [np.asarray(Image.open(file)) for file in folder.rglob("*.png")]
    of_size = {image.tobytes() for image in there if image.shape == (8, 8)}
    assert images.shape == (64, 1, 8, 8)
    assert len({image.tobytes() for image in images}) == 64, "each at most once"
    assert sum(image.tobytes() in of_size for image in images) >= 64 - 35, "those of the right size as they are"
    later = made_images(made, refined, own_results, make).astype(float)
    assert 0 < np.abs(later - images).mean() < 128
    assert refined.evaluations == 4

    record = make(sample_of(made, alone), own_results)
    assert record["evaluations_per_sample"] == 0


def test_given_images_are_made_whatever_the_batch(raw, folder, own_results, make):
    made = identified(raw, folder)
    run = sample_of(made, made.tables["own"].rows[0])
    assert make(run, own_results, sampling_batch="auto")["num_samples"] == 64


def test_what_no_row_uses_need_not_be_there(raw, tmp_path):
    raw["surrogates"]["Elsewhere"] = {"kind": "folder", "path": str(tmp_path / "nowhere")}
    identity.identified(params_module.parse(raw))


def test_pruning_asks_nothing_of_presets_without_results(raw, folder, tmp_path, monkeypatch):
    """The folder has enough images for the samples of `test`, and far too few for those of `paper`."""
    raw["studies"] = {"own": STUDY | {"rows": [{"surrogate": "Elsewhere", "t_mid": 0}]}}
    raw["presets"]["paper"]["groups"] = []
    raw["surrogates"]["Elsewhere"] = {"kind": "folder", "path": str(folder)}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "test" / "scores" / "Old-12345678").mkdir(parents=True)
    (leftover,) = recording.leftovers(params_module.parse(raw))
    assert [path.name for path in leftover.paths] == ["Old-12345678"]


def test_the_loss_of_images_that_no_model_made_is_blank(raw, own_results, make):
    raw["studies"] = {
        "own": {"title": "Own", "rows": [{"surrogate": "TrainingHalf", "t_mid": 0.5}, {"model": "Default"}]}
    }
    raw["studies"]["own"] |= {
        "columns": ["loss_variance", "parameters", "network", "schedule", "objective", "image_size"]
    }
    raw["presets"]["paper"] |= {"groups": [], "seeds": raw["presets"]["paper"]["seeds"] | {"calibration": []}}
    made = plan_of(raw)
    rows = frame(recipes.table(made, "own"), Records(own_results))
    assert rows.iloc[0].drop(["model", "image_size", "seeds", "note"]).isna().all()
    assert rows.iloc[1]["parameters"] > 0


def test_a_folder_s_runs_follow_its_images_and_its_mistakes_are_told(raw, folder, own_results, make, tmp_path):
    before = identified(raw, folder)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "99.png")
    after = identified(raw, folder)
    assert not {run for row in before.tables["own"].rows for run in [row.runs[0].sample]} & after.runs.keys()
    old = sample_of(before, before.tables["own"].rows[0])
    assert "its images have changed since these samples were planned" in refusal(make, old, own_results)

    for file in sorted(folder.rglob("*.png"))[:10]:
        file.unlink()
    message = refusal(identified, raw, folder)
    assert message.startswith("surrogates.Elsewhere.path: ")
    assert "61 images, and sampling.num_samples is 64" in message
    assert "surrogates.Elsewhere.path must name a folder" in refusal(identified, raw, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"SNGAN": FEW}, "surrogates.SNGAN: a model has this name, too"),
        ({"Few": FEW | {"model": "DDPMHalf"}}, "surrogates.Few.model: must be a ddpm of `models` with the data's size"),
        ({"Few": FEW | {"model": "Nobody"}}, "surrogates.Few.model: must be a ddpm"),
        ({"Few": FEW | {"sampler": "leaps"}}, "surrogates.Few.sampler: there is no 'leaps'"),
        ({"Few": FEW | {"evaluations": 0}}, "surrogates.Few.evaluations: must be more than 0"),
        ({"Few": FEW | {"evaluations": 50}}, "surrogates.Few.evaluations: must be a share from 0 to 1"),
        ({"Few": FEW | {"steps": 5}}, "surrogates.Few.steps: unknown key"),
        (
            {"Big": {"kind": "upsampled", "image_size": 64}},
            "surrogates.Big.image_size: must be less than data.image_size",
        ),
        ({"Gan": {"kind": "gan", "path": "x"}}, "surrogates.Gan.kind: must be one of 'few_steps'"),
        ({"Gan": {"kind": "folder"}}, "surrogates.Gan.path: missing"),
    ],
)
def test_a_wrong_entry_is_told_in_one_line(raw, entry, message):
    raw["surrogates"] |= entry
    assert message in refusal(params_module.parse, raw).partition("; also")[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"model": "FewDDIM"}, "rows.0.model: FewDDIM is an entry of `surrogates`; write `surrogate: FewDDIM`"),
        ({"surrogate": "FewDDIMM", "t_mid": 0}, "rows.0.surrogate: presets."),
        ({"surrogate": "FewDDIM", "t_mid": 0.5, "model": "SNGAN"}, "rows.0.model: SNGAN is no diffusion model"),
        (
            {"surrogate": "FewLearned", "t_mid": 0.5},
            "surrogates.FewLearned: presets.paper.samplers.learned.variance: learned, and Default learns none",
        ),
        (
            {"surrogate": "FewListed", "t_mid": 0.5},
            "surrogates.FewListed: presets.paper.samplers.listed.timesteps says which ones are taken",
        ),
    ],
)
def test_a_row_that_names_one_wrongly_is_told_in_one_line(raw, row, message):
    raw["studies"] = {"own": STUDY | {"rows": [row]}}
    raw["presets"]["paper"]["groups"] = []
    raw["samplers"]["listed"] = {"kind": "ddim", "eta": 0.0, "clip_x0": False, "timesteps": [1, 4]}
    raw["surrogates"] |= {"FewLearned": FEW | {"sampler": "learned"}, "FewListed": FEW | {"sampler": "listed"}}
    assert message in refusal(params_module.parse, raw)
