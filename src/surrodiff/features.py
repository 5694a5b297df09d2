"""Networks whose features and class probabilities score images, by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from surrodiff import devices
from surrodiff.data import to_float
from surrodiff.errors import UserError
from surrodiff.plan import INCEPTION_SHA256
from surrodiff.runs import complete, replacing, sha256
from surrodiff.training import load_weights, snapshot_name

INCEPTION_FILE = "inception-2015-12-05.pt"
INCEPTION_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION_FILE}"


@dataclass(frozen=True)
class FeatureNetwork:
    """`extract` takes uint8 images (B, C, H, W) on the device to features (B, D) and class probabilities (B, K)."""

    name: str
    checksum: str  # SHA-256 of the weights' file
    extract: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def classifier(results: Path, model_id: str, device: torch.device) -> FeatureNetwork:
    """The workflow's own classifier: its penultimate layer and its softmax."""
    _, config, record = complete(results, "models", model_id)
    network, _ = load_weights(results, model_id, config["steps"], device)

    @torch.inference_mode()
    def extract(images: torch.Tensor):
        features, logits = network(to_float(images))
        return features, logits.softmax(1)

    return FeatureNetwork("classifier", record["files"][snapshot_name(config["steps"])]["sha256"], extract)


def cache_folder() -> Path:
    """Where downloaded weights are kept: $XDG_CACHE_HOME/surrodiff or ~/.cache/surrodiff."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surrodiff"


def inception_file(folder: Path | None = None, expected_sha256: str = INCEPTION_SHA256) -> Path:
    """The verified file of the 2015 Inception weights, downloaded into `folder` (default: cache_folder) if need be.

    Raises UserError if it is neither there nor to be had, or if it is not the expected file.
    """
    file = (folder or cache_folder()) / INCEPTION_FILE
    if not file.exists():
        try:
            with replacing(file) as temporary:
                torch.hub.download_url_to_file(INCEPTION_URL, str(temporary), progress=False)
        except OSError as error:
            raise UserError(
                f"{file}: the Inception weights are not there and cannot be downloaded ({error}). Put the file of "
                f"{INCEPTION_URL} there (SHA-256 {expected_sha256}), or write `scoring.features: classifier`"
            ) from None
    if sha256(file) != expected_sha256:
        raise UserError(f"{file}: is not the file of {INCEPTION_URL} (SHA-256 {expected_sha256}); replace it")
    return file


def inception(file: Path, device: torch.device) -> FeatureNetwork:
    """TensorFlow's 2015 Inception through clean-fid's network in its legacy_tensorflow mode.

    The network resizes to 299x299 itself, as TensorFlow 1 did. Probabilities are without the last layer's bias, like
    the original Inception Score's.
    """
    from cleanfid.inception_torchscript import InceptionV3W

    # clean-fid opens a file of this fixed name in the folder that it is given.
    network = InceptionV3W(str(file.parent), download=False, resize_inside=True).to(device).eval()

    @torch.inference_mode()
    def extract(images: torch.Tensor):
        images = images.expand(-1, 3, -1, -1)
        return network(images), network.base(images, no_output_bias=True)

    return FeatureNetwork("inception", sha256(file), extract)


def load(features: dict, results: Path, device: torch.device) -> FeatureNetwork:
    """The feature network of a reference's configuration."""
    if features["network"] == "classifier":
        return classifier(results, features["run"], device)
    return inception(inception_file(expected_sha256=features["sha256"]), device)


def extract_all(network: FeatureNetwork, images: torch.Tensor, device: torch.device, batch: int, what: str):
    """Yield (features, probabilities) as float64 on the CPU for uint8 images (N, C, H, W), batch by batch."""
    progress = devices.Progress(f"{network.name} features of {what}", len(images), "images")
    for part in images.split(batch):
        features, probabilities = network.extract(part.to(device))
        yield features.double().cpu(), probabilities.double().cpu()
        progress.advance(len(part))
    progress.close()
