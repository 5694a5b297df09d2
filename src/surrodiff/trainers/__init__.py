"""What one training step is, for each kind of model."""

from surrodiff.trainers.adversarial import AdversarialTrainer
from surrodiff.trainers.batches import Batches
from surrodiff.trainers.classifier import ClassifierTrainer
from surrodiff.trainers.diffusion import DiffusionTrainer

KINDS = {"ddpm": DiffusionTrainer, "sngan": AdversarialTrainer, "classifier": ClassifierTrainer}

__all__ = ["KINDS", "AdversarialTrainer", "Batches", "ClassifierTrainer", "DiffusionTrainer"]
