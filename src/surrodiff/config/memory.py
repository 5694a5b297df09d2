"""Coarse lower bounds of the memory and the arithmetic that work takes, from parameters alone: enough to refuse what no
machine can hold, and to tell which networks are large.

They do not look at this machine, so that a laptop can plan a GPU's work.
"""

import math

from surrodiff.config.models import DDPM, Generator, Network, Sampled

MOST_BYTES = 10**12  # a process; several times what the largest accelerators hold
# Per channel of a block: weights of its convolutions by channels squared, and tensors that the backward pass needs.
_BLOCKS = {"standard": (18, 4), "mbconv": (8, 12)}


def _network(network: Network, image_size: int) -> tuple[int, int, int]:
    """Weights, values that the backward pass needs of one image's evaluation, and values that an evaluation alone holds
    at once: what skips to the way up, and a layer's input and output."""
    weights_of, tensors_of = _BLOCKS[network.block]
    blocks = 2 * network.num_res_blocks + 1
    weights = activations = skips = largest = 0
    for level, multiplier in enumerate(network.channel_multipliers):
        width, side = network.base_channels * multiplier, image_size >> level
        weights += blocks * weights_of * width**2
        activations += blocks * tensors_of * width * side**2
        skips += (network.num_res_blocks + 1) * width * side**2
        largest = max(largest, width * side**2)
    return weights, activations, skips + 2 * largest


def training_step(model: Sampled, channels: int, micro_batch: int | None, processes: int) -> int:
    """Bytes that a training step takes in each process: weights, their gradient and averages, activations, images."""
    if isinstance(model, Generator):
        return model.training_bytes(channels)
    image, batch = channels * model.image_size**2, model.training.batch_size
    weights, activations, _ = _network(model.network, model.image_size)
    evaluations = math.ceil(batch / processes) * model.objective.noises
    evaluations = min(evaluations, micro_batch or evaluations)
    return 20 * weights + evaluations * (2 * activations + 8 * image) + 4 * batch * image


def evaluation(model: DDPM, channels: int, images: int) -> int:
    """Bytes that an evaluation of so many images at once takes."""
    _, _, live_values = _network(model.network, model.image_size)
    return images * (2 * live_values + 4 * channels * model.image_size**2)


# Below so many multiply-accumulates per image a network's time is not in its arithmetic: compiling it takes longer than
# it saves, and the conversions to bfloat16 cost more on a CPU. CIFAR-10's networks have 388 million or more by this
# count, the demo's 4 million or less.
LARGE = 50_000_000


def multiply_accumulates(model: Sampled) -> int:
    """Those of one evaluation on one image, at least a fifth of them: the convolutions of the blocks alone."""
    if isinstance(model, Generator):
        return model.multiply_accumulates()
    network = model.network
    weights_of, _ = _BLOCKS[network.block]
    blocks = 2 * network.num_res_blocks + 1
    return sum(
        blocks * weights_of * (network.base_channels * multiplier) ** 2 * (model.image_size >> level) ** 2
        for level, multiplier in enumerate(network.channel_multipliers)
    )


def is_large(model: Sampled) -> bool:
    """Whether a model's network has at least LARGE of them. Counting them exactly would take a job seconds."""
    return multiply_accumulates(model) >= LARGE
