"""All kinds of models, by the class of a model's configuration."""

from surrodiff.config.models import DDPM, SNGAN, VAE, Classifier, Flow, Model, Own
from surrodiff.kinds import classifier, ddpm, flow, own, sngan, vae
from surrodiff.kinds.kind import Kind

KINDS = {DDPM: ddpm.KIND, SNGAN: sngan.KIND, VAE: vae.KIND, Flow: flow.KIND, Own: own.KIND, Classifier: classifier.KIND}


def kind_of(model: Model) -> Kind:
    """The kind of a model."""
    if type(model) not in KINDS:
        raise ValueError(f"no kind of model {type(model).__name__!r}")
    return KINDS[type(model)]
