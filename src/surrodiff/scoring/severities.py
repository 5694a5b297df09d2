"""How real images are corrupted for a calibration, and how much work that is. No torch, for costs are estimated
without it."""

NOISE = (4, 16, 64)  # standard deviation, of 255
BLUR = (0.5, 1.0, 2.0)  # standard deviation in pixels
CLASSES = (1 / 10, 1 / 2)  # share of the classes that is left out


def images_scored(train: int, held_out: int) -> float:
    """How many images a reference scores: both splits, as many training images as there are held-out ones, and the
    corrupted copies of the held-out split. Estimated where classes are not equally large."""
    copies = len(NOISE) + len(BLUR) + sum(1 - share for share in CLASSES)
    return train + held_out * (2 + copies)
