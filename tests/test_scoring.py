"""Reference statistics, calibration and scores: one pass, every image, in a random order, against both splits."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from configs import changed
from data_runs import DIGITS, folder_data
from PIL import Image
from records import forget
from torch_fidelity.metric_isc import isc_features_to_metric

from surrodiff.data import sources
from surrodiff.data.sources import SPLITS
from surrodiff.errors import UserError
from surrodiff.kinds.weights import snapshot_name
from surrodiff.planning.runs import ReferenceConfig, Run
from surrodiff.scoring import features, measuring
from surrodiff.scoring.calibration import checks
from surrodiff.scoring.metrics import Moments, frechet_distance, kernel_distance, precision_recall
from surrodiff.stages.reference import STATISTICS
from surrodiff.store import tensors
from surrodiff.store.runs import load_run, open_run


def protocol_of(made) -> ReferenceConfig:
    return made.runs[made.reference].config


def gathered(network, images, cpu) -> tuple[torch.Tensor, torch.Tensor]:
    vectors, logits = zip(*features.extract_all(network, images, cpu, 500, "test"), strict=True)
    return torch.cat(vectors), torch.cat(logits)


def moments_of(vectors: torch.Tensor):
    moments = Moments(len(vectors), groups=1)
    moments.add(vectors)
    return moments.statistics()


@pytest.fixture(scope="module")
def calibrated(trained, cpu):
    """The arrays, the features of both splits, and the reference's record."""
    folder, plan, network = trained
    arrays, _ = sources.load(folder, plan.data)
    outputs = {split: gathered(network, arrays[f"{split}_images"], cpu) for split in SPLITS}
    return arrays, outputs, load_run(folder, "references", plan.reference)[2]


def row(record: dict, images: str, corruption=None, amount=None) -> dict:
    (match,) = (
        r for r in record["calibration"] if (r["images"], r["corruption"], r["amount"]) == (images, corruption, amount)
    )
    return match


def test_the_calibration_passes_for_real_digits(calibrated):
    outcomes = checks(calibrated[2])
    assert [check.passed for check in outcomes] == [None, True, True, True]


def test_the_splits_distance_is_that_of_their_features(calibrated):
    _, outputs, record = calibrated
    distance = frechet_distance(moments_of(outputs["held_out"][0]), moments_of(outputs["train"][0]))
    for images, split in (("held_out", "train"), ("train", "held_out")):
        assert row(record, images)[split]["frechet_distance"] == pytest.approx(distance, rel=1e-5)


def test_real_images_score_between_1_and_the_number_of_classes(calibrated):
    _, _, record = calibrated
    for images in ("train", "held_out"):
        assert 5 < row(record, images)["is_mean"] <= 10
    assert row(record, "part of train")["num_images"] == row(record, "held_out")["num_images"] == 360


def test_a_split_is_scored_in_a_random_order(trained, cpu, tmp_path, make):
    """Images of a folder are sorted by class; consecutive splits of them would score 1."""
    folder, plan, _ = trained
    arrays, _ = sources.load(folder, plan.data)
    for number in range(200):
        label = int(arrays["train_labels"][number])
        for split in ("train", "test"):
            path = tmp_path / "images" / split / f"{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(arrays["train_images"][number, 0].numpy()).save(path)
    images = Run("images", changed(DIGITS, **folder_data(tmp_path / "images", channels=1)))
    protocol = changed(protocol_of(plan), is_splits=10, data=images.id)
    reference = Run("classifier", protocol)
    results = tmp_path / "test"
    results.mkdir()
    (results / "models").symlink_to(folder / "models")
    for run in (images, reference):
        make(run, results)
    network = features.load(protocol.features, results, cpu)
    as_sorted = sources.load(results, images.id)[0]["train_images"]
    in_order = measuring.measure(network, as_sorted, protocol, cpu, 64, "sorted").inception_score[0]
    record = load_run(results, "references", reference.id)[2]
    assert row(record, "train")["is_mean"] > 2 * in_order


def test_kept_features_are_the_first_and_all_images_count(trained, cpu):
    folder, plan, network = trained
    arrays, _ = sources.load(folder, plan.data)
    images = arrays["held_out_images"][:100]
    protocol = changed(protocol_of(plan), kept_features=30)
    measured = measuring.measure(network, images, protocol, cpu, 16, "test")
    vectors, logits = gathered(network, images, cpu)
    assert measured.moments.count == 100
    torch.testing.assert_close(measured.kept, vectors[:30], rtol=1e-4, atol=1e-5)
    expected = isc_features_to_metric(logits, protocol.is_splits, shuffle=False)
    assert measured.inception_score[0] == pytest.approx(expected["inception_score_mean"], rel=1e-5)
    assert measured.inception_score[1] == pytest.approx(expected["inception_score_std"], rel=1e-3, abs=1e-5)


def test_a_score_says_every_distance_to_both_splits(results, plan, run_named, cpu):
    record = load_run(results, "scores", run_named("scores", "Default_6").id)[2]
    protocol = protocol_of(plan)
    network = features.load(protocol.features, results, cpu)
    sample = load_run(results, "samples", run_named("samples", "Default_6").id)[0]
    vectors, _ = gathered(network, torch.from_numpy(np.load(sample / "samples.npy")), cpu)
    path = load_run(results, "references", plan.reference)[0]
    saved, _ = tensors.load(path / STATISTICS)
    arrays, _ = sources.load(results, plan.data)
    for split in SPLITS:
        real, _ = gathered(network, arrays[f"{split}_images"], cpu)
        scores, kept = record[split], saved[f"{split}_kept"]
        assert scores["frechet_distance"] == pytest.approx(
            frechet_distance(moments_of(vectors), moments_of(real)), rel=1e-4
        )
        kernel = kernel_distance(vectors, kept, protocol.kid_subsets, protocol.kid_subset_size, 0)
        assert (scores["kernel_distance"], scores["kernel_distance_std"]) == pytest.approx(kernel, rel=1e-3)
        assert (scores["precision"], scores["recall"]) == pytest.approx(
            precision_recall(vectors, kept, protocol.neighbours), abs=0.02
        )
    assert record["train"]["frechet_error"] > 0
    assert record["train"]["frechet_infinity"] < record["train"]["frechet_distance"]
    assert (record["num_samples"], record["features"]) == (64, "classifier")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("is_splits", 361, "scoring.is_splits: 361 is too many for 360 held-out images"),
        ("kid_subset_size", 361, "scoring.kid_subset_size: 361 is too many"),
        ("neighbours", 360, "scoring.neighbours: 360 is too many"),
    ],
)
def test_more_than_there_are_held_out_pictures_is_refused(results, plan, tmp_path, key, value, says, make):
    folder = tmp_path / "test"
    folder.mkdir()
    for stage in ("data", "models"):
        (folder / stage).symlink_to(results / stage)
    run = Run("classifier", changed(protocol_of(plan), **{key: value}))
    with pytest.raises(UserError, match=says):
        make(run, folder)
    assert not (folder / "references" / run.id / "record.json").exists()


def test_a_diverged_feature_network_ends_scoring_in_one_line(own_results, plan, run_named, make):
    """Its features of anything are NaN: neither a reference nor a score is made of them."""
    reference = plan.runs[plan.reference]
    classifier = plan.runs[reference.config.features.run]
    path, config, record = load_run(own_results, "models", classifier.id)
    weights = snapshot_name(config.model.training.steps)
    state, metadata = tensors.load(path / weights)
    state["head.weight"][0, 0] = torch.nan
    forget(own_results, "models", classifier.id)
    with open_run(own_results, classifier) as folder:
        tensors.save(folder.path / weights, state, **metadata)
        folder.finish({key: record[key] for key in ("classes", "provenance")}, [weights])
    score = run_named("scores", "Default_6")
    forget(own_results, "scores", score.id)
    with pytest.raises(UserError, match=rf"^classifier features of {score.config.sample} \(64 images\): NaN or inf"):
        make(score, own_results)
    forget(own_results, "references", reference.id)
    with pytest.raises(UserError, match=r"^classifier features of train of digits-\w+, shuffled \(1437 images\): NaN"):
        make(reference, own_results)


def test_altered_statistics_are_refused(own_results, plan, run_named, make):
    path = own_results / "references" / plan.reference / STATISTICS
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    score = run_named("scores", "Default_6")
    forget(own_results, "scores", score.id)
    with pytest.raises(UserError, match="truncated or altered"):
        make(score, own_results)


def test_the_calibration_is_a_command(results, root, tmp_path):
    """`surrodiff calibrate` scores real images from nothing and says what it found."""
    command = [sys.executable, "-m", "surrodiff.cli", "calibrate", "--preset", "test", "--device", "cpu"]
    process = subprocess.run([*command, "--results", str(results)], cwd=root, capture_output=True, text=True)
    reference = next(results.glob("references/*/record.json"))
    failed = [check for check in checks(json.loads(reference.read_text())) if check.passed is False]
    assert "no known values for classifier features of digits" in process.stdout
    assert "the distance grows with noise: 0: " in process.stdout
    assert process.returncode == bool(failed)
    assert process.stdout.count("FAIL") == len(failed)
    assert ("the calibration failed" in process.stderr) == bool(failed)
