"""Training images on the device, in an order that depends on the seed and the step alone; names in a checkpoint."""

import torch

from surrodiff.data.pixels import require_uint8, resize_uint8, to_float
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream


class Batches:
    """Batches of training images: every epoch in a new random order, flipped at random if asked for.

    images: uint8 (N, C, H, W), kept on the device; labels: int64 (N,). Larger ones are resized once. Raises UserError
    for images that are not uint8.
    """

    def __init__(self, images, labels, *, image_size: int, flip: bool, seed: int, device):
        require_uint8(images, "training")
        self.images, self.labels = resize_uint8(images, image_size).to(device), labels.to(device)
        self.flip, self.seed, self.device = flip, seed, device
        self._orders: dict[int, torch.Tensor] = {}

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            if len(self._orders) > 1:
                self._orders.pop(min(self._orders))
            self._orders[epoch] = noise.permutation(self.seed, Stream.ORDER, epoch, len(self.images), self.device)
        return self._orders[epoch]

    def indices(self, number: int, size: int) -> torch.Tensor:
        """Indices int64 (size,) of batch `number` = 0, 1, ...: a slice of the infinite sequence of shuffled epochs."""
        first, n = number * size, len(self.images)
        parts = []
        for epoch in range(first // n, (first + size - 1) // n + 1):
            begins = epoch * n
            parts.append(self._order(epoch)[max(0, first - begins) : first + size - begins])
        return torch.cat(parts)

    def get(self, number: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 (size, C, H, W) in [-1, 1] and labels (size,) of batch `number`."""
        chosen = self.indices(number, size)
        x_0 = to_float(self.images[chosen])
        if self.flip:
            u = noise.uniform(self.seed, Stream.FLIP, number, torch.arange(size, device=self.device))
            x_0 = torch.where(u[:, :, None, None] < 0.5, x_0.flip(-1), x_0)
        return x_0, self.labels[chosen]


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names with `prefix.` before them."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix.`, without it."""
    return {name.removeprefix(prefix + "."): t for name, t in tensors.items() if name.startswith(prefix + ".")}
