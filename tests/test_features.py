"""The networks whose features score images: where their weights come from, and what they give."""

import pytest
import torch

from surrodiff import features, params, stages
from surrodiff import plan as plan_module
from surrodiff.errors import UserError
from surrodiff.metrics import Moments, frechet_distance
from surrodiff.plan import INCEPTION_SHA256
from surrodiff.runs import complete, sha256


class StandIn(torch.nn.Module):
    """Takes and gives what the real Inception file does, from the images' means over a 4x4 grid."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = torch.nn.Linear(48, 2048)
        self.output = torch.nn.Linear(2048, 1008)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 50

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        grid = torch.nn.functional.adaptive_avg_pool2d(img.float() / 128 - 1, 4)
        found = self.layers(grid.flatten(1))
        if return_features:
            return found
        if no_output_bias:
            return torch.nn.functional.linear(found, self.output.weight).softmax(1)
        return self.output(found).softmax(1)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The stand-in's file, saved as the real one is."""
    file = tmp_path_factory.mktemp("inception") / features.INCEPTION_FILE
    torch.jit.script(StandIn()).save(str(file))
    return file


def random_images(count: int, channels: int, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def gathered(network, images, cpu, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(features.extract_all(network, images, cpu, batch, "test"))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


# --- the file of Inception's weights


def test_weights_that_cannot_be_downloaded_are_told_with_path_and_checksum(tmp_path, no_network):
    with pytest.raises(UserError) as caught:
        features.inception_file(tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'cache' / features.INCEPTION_FILE}: ")
    assert INCEPTION_SHA256 in message
    assert features.INCEPTION_URL in message
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_can_be_moved(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert features.cache_folder() == tmp_path / "surrodiff"
    with pytest.raises(UserError, match=str(tmp_path / "surrodiff" / features.INCEPTION_FILE)):
        features.inception_file()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert features.cache_folder() == tmp_path / "home" / ".cache" / "surrodiff"


def test_another_file_under_the_name_is_told(tmp_path, no_network):
    file = tmp_path / features.INCEPTION_FILE
    file.write_bytes(b"something else")
    with pytest.raises(UserError) as caught:
        features.inception_file(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert INCEPTION_SHA256 in message
    assert file.read_bytes() == b"something else"


def test_the_file_that_is_there_is_taken(stand_in, no_network):
    assert features.inception_file(stand_in.parent, sha256(stand_in)) == stand_in


def test_the_file_is_downloaded_and_verified(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(features, "INCEPTION_URL", stand_in.as_uri())
    file = features.inception_file(tmp_path / "cache", sha256(stand_in))
    assert file.read_bytes() == stand_in.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == [features.INCEPTION_FILE]
    with pytest.raises(UserError, match=INCEPTION_SHA256):
        features.inception_file(tmp_path / "other")


# --- Inception


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_gives_features_and_probabilities(stand_in, cpu, channels):
    network = features.inception(stand_in, cpu)
    vectors, probabilities = network.extract(random_images(5, channels))
    assert tuple(vectors.shape) == (5, 2048)
    assert tuple(probabilities.shape) == (5, 1008)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    assert (network.name, network.checksum) == ("inception", sha256(stand_in))


def test_grey_images_are_seen_as_grey_in_three_channels(stand_in, cpu):
    network = features.inception(stand_in, cpu)
    grey = random_images(3, 1)
    for one, three in zip(network.extract(grey), network.extract(grey.repeat(1, 3, 1, 1)), strict=True):
        torch.testing.assert_close(one, three)


def test_probabilities_are_without_the_last_bias(stand_in, cpu):
    images, module = random_images(4, 3), StandIn()
    vectors, probabilities = features.inception(stand_in, cpu).extract(images)
    torch.testing.assert_close(vectors, module(images, return_features=True))
    torch.testing.assert_close(probabilities, module(images, no_output_bias=True))


def test_inception_is_loaded_by_its_checksum(stand_in, cpu, monkeypatch, tmp_path, no_network):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "surrodiff").mkdir()
    (tmp_path / "surrodiff" / features.INCEPTION_FILE).write_bytes(stand_in.read_bytes())
    network = features.load({"network": "inception", "sha256": sha256(stand_in)}, tmp_path, cpu)
    assert network.name == "inception"
    with pytest.raises(UserError, match=INCEPTION_SHA256):
        features.load({"network": "inception", "sha256": INCEPTION_SHA256}, tmp_path, cpu)


# --- the classifier


@pytest.fixture(scope="module")
def trained(results, _read_once, cpu, tmp_path_factory):
    """Results with a classifier that has learned something, its plan, and the network."""
    import copy

    raw = copy.deepcopy(_read_once)
    classifier = {"channels": 16, "steps": 150, "batch_size": 64, "learning_rate": 0.005}
    raw["presets"]["test"]["scoring"]["classifier"].update(classifier)
    parsed = params.parse(raw)
    made = plan_module.build(parsed)
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").symlink_to(results / "data")
    classifier_run = next(run for run in made.runs.values() if run.name == "classifier" and run.stage == "models")
    for run in (classifier_run, made.runs[made.reference]):
        stages.make(run, folder, cpu, parsed.selected.execution.model_dump())
    return folder, made, features.classifier(folder, classifier_run.id, cpu)


def test_the_classifier_learns_the_digits(trained):
    folder, made, _ = trained
    run_id = made.runs[made.reference].config["features"]["run"]
    record = complete(folder, "models", run_id)[2]
    assert record["classes"] == 10
    assert record["held_out_accuracy"] > 0.85


def test_the_classifier_gives_features_and_probabilities(trained, cpu):
    vectors, probabilities = gathered(trained[2], random_images(7, 1), cpu, 7)
    assert tuple(vectors.shape) == (7, 32)
    assert tuple(probabilities.shape) == (7, 10)
    assert vectors.dtype == probabilities.dtype == torch.float64
    torch.testing.assert_close(probabilities.sum(1), torch.ones(7).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_features_do_not_depend_on_the_batch(trained, cpu, batch):
    images = random_images(20, 1)
    whole, parts = gathered(trained[2], images, cpu, 20), gathered(trained[2], images, cpu, batch)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_the_other_images(trained, cpu):
    images = random_images(20, 1)
    alone, _ = gathered(trained[2], images[3:4], cpu, 1)
    among, _ = gathered(trained[2], images.flip(0), cpu, 20)
    torch.testing.assert_close(alone[0], among[16], rtol=1e-4, atol=1e-5)


def test_the_checksum_is_that_of_the_weights(trained):
    folder, made, network = trained
    run_id = made.runs[made.reference].config["features"]["run"]
    assert network.checksum == sha256(folder / "models" / run_id / "weights-150.safetensors")


def test_the_scale_is_calibrated(trained, cpu):
    """Held-out digits are near the training split, noisy ones far, noise farther: the distance means something."""
    from surrodiff import data

    folder, made, network = trained
    arrays, _ = data.load(folder, made.data)
    record = complete(folder, "references", made.reference)[2]

    def distance(images):
        moments = []
        for part in (arrays["train_images"], images):
            moments.append(Moments(len(part), groups=1))
            for vectors, _ in features.extract_all(network, part, cpu, 500, "test"):
                moments[-1].add(vectors)
        return frechet_distance(*(m.statistics() for m in moments))

    held_out = arrays["held_out_images"]
    near = distance(held_out)
    assert near == pytest.approx(record["calibration"]["frechet_distance_held_out"], rel=1e-6)
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    noisy = [data.to_uint8(data.to_float(held_out) + sigma * noise) for sigma in (0.25, 0.5, 1.0)]
    some, more, most = map(distance, noisy)
    assert near < some / 2
    assert some < more < most
    assert most > 10 * near


def test_real_images_have_a_high_inception_score(trained):
    folder, made, _ = trained
    found = complete(folder, "references", made.reference)[2]["calibration"]
    assert found["is_held_out_mean"] > 5
    assert found["is_train_mean"] > 5
    assert max(found["is_held_out_mean"], found["is_train_mean"]) <= 10


def test_pictures_with_one_label_cannot_train_a_classifier(tmp_path, cpu):
    from surrodiff.trainers.classifier import ClassifierTrainer

    config = {"channels": 4, "steps": 1, "batch_size": 2, "learning_rate": 0.1, "seed": 0, "revision": 1}
    with pytest.raises(UserError, match="class folders"):
        ClassifierTrainer(config, random_images(4, 1), torch.zeros(4, dtype=torch.long), cpu, None)
