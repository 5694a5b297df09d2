"""A linear variational autoencoder: its network."""

from surrodiff.config.models import Autoencoder
from surrodiff.kinds import generators
from surrodiff.networks.autoencoder import LinearAutoencoder


def build(model: Autoencoder, channels: int, classes: None = None) -> LinearAutoencoder:
    """The network of images with so many channels."""
    return LinearAutoencoder(model.image_size, channels, model.z_dim, model.prior_weight)


KIND = generators.kind("linear autoencoder", build)
