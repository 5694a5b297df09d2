"""One step of training the classifier whose features score samples where Inception's do not fit."""

import torch

from surrodiff.config.models import Classifier
from surrodiff.config.presets import Execution
from surrodiff.data.pixels import to_float
from surrodiff.errors import UserError
from surrodiff.kinds.adam import Adam
from surrodiff.kinds.batches import Batches, prefixed, without_prefix
from surrodiff.kinds.kind import Kind
from surrodiff.networks import classifier
from surrodiff.planning.runs import ModelConfig


def build(model: Classifier, channels: int, classes: int) -> classifier.Classifier:
    """The network that tells so many classes of images with so many channels."""
    return classifier.Classifier(model.image_size, channels, model.width, classes)


class ClassifierTrainer:
    """Adam on the cross-entropy of the labelled training split.

    Raises UserError if the images have a single label: a classifier then has nothing to learn.
    """

    def __init__(self, config: ModelConfig, images, labels, device: torch.device, execution: Execution):
        model, seed = config.model, config.seed
        self.training = model.training
        self.classes = int(labels.max()) + 1
        if len(labels.unique()) < 2:
            raise UserError(
                "presets.*.scoring.features: `classifier` needs images in class folders; these have one label. "
                "Sort them into folders, or write `features: inception`"
            )
        self.batches = Batches(images, labels, image_size=model.image_size, flip=False, seed=seed, device=device)
        torch.manual_seed(seed)
        self.network = build(model, config.channels, self.classes).to(device).train()
        self.optimiser = Adam(self.network.parameters(), self.training.learning_rate)
        self.precision = "float32"

    def step(self, step: int) -> dict[str, torch.Tensor]:
        """Training step number `step` = 1, 2, ...; returns the loss on the device."""
        x_0, labels = self.batches.get(step - 1, self.training.batch_size)
        self.optimiser.zero_grad()
        _, logits = self.network(x_0)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}

    def log(self, step: int) -> dict[str, torch.Tensor]:
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        return {**prefixed("model", self.network.state_dict()), **prefixed("adam", self.optimiser.state())}

    def load_state(self, tensors: dict[str, torch.Tensor]):
        self.network.load_state_dict(without_prefix("model", tensors))
        self.optimiser.load_state(without_prefix("adam", tensors))

    @property
    def result(self) -> torch.nn.Module:
        return self.network

    def record(self, arrays: dict[str, torch.Tensor]) -> dict:
        """What else a record says of it, given the arrays of its data."""
        accuracy = self.accuracy(arrays["held_out_images"], arrays["held_out_labels"])
        return {"classes": self.classes, "held_out_accuracy": accuracy}

    def accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Share of uint8 images (N, C, H, W) whose label is found."""
        self.network.eval()
        with torch.no_grad():
            found = [
                self.network(to_float(part.to(self.batches.device)))[1].argmax(1).cpu() for part in images.split(1000)
            ]
        self.network.train()
        return float((torch.cat(found) == labels).float().mean())


KIND = Kind(build=build, trainer=ClassifierTrainer)
