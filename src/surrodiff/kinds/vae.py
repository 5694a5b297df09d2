"""Variational and importance weighted autoencoders: the network, and the rates of its training."""

from functools import partial

from surrodiff.config.models import VAE
from surrodiff.kinds import generators
from surrodiff.networks import vae

STAGES = 8  # of falling rates
LAYERS = {"connected": vae.connected, "convolutional": vae.convolutional}


def build(model: VAE, channels: int, classes: None = None) -> vae.VAE:
    """The autoencoder of images with so many channels."""
    encoder, decoder = LAYERS[model.layers](model.image_size, channels, model.z_dim, model.width)
    codes = (model.importance_samples, model.repetitions)
    return vae.VAE(encoder, decoder, model.z_dim, model.decoder, *codes)


def falling(share: float) -> float:
    """What a learning rate is multiplied by after a share of the training, by Burda et al. (2016): 10^(-i/7) in stage
    i = 0, ..., 7, which has 3^i of 3,280 parts of the steps."""
    parts = share * (3**STAGES - 1) / 2
    stage = sum(parts >= (3**i - 1) / 2 for i in range(1, STAGES))
    return 10 ** (-stage / (STAGES - 1))


class VAETrainer(generators.GeneratorTrainer):
    """Maximises the bound L_k, at rates that may fall in stages."""

    def rate(self, step: int) -> float:
        share = (step - 1) / self.training.steps
        return super().rate(step) * (falling(share) if self.training.rates == "falling" else 1.0)


KIND = generators.kind("autoencoder", build, partial(VAETrainer, build), vae.VAE.bounds)
