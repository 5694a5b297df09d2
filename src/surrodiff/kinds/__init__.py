"""Kinds of models: one training step of each, its batches, its trained weights."""

from surrodiff.kinds.batches import Batches
from surrodiff.kinds.classifier import ClassifierTrainer
from surrodiff.kinds.ddpm import DiffusionTrainer
from surrodiff.kinds.sngan import AdversarialTrainer

KINDS = {"ddpm": DiffusionTrainer, "sngan": AdversarialTrainer, "classifier": ClassifierTrainer}

__all__ = ["KINDS", "AdversarialTrainer", "Batches", "ClassifierTrainer", "DiffusionTrainer"]
