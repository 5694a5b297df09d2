"""Damaged copies of images: how much noise and blur, which classes go."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torchvision.transforms.functional import gaussian_blur

from surrodiff.errors import UserError
from surrodiff.scoring import corruptions


def smooth(count=64, size=32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, size // 4, size // 4, generator=generator) * 128 + 64
    return torch.nn.functional.interpolate(small, size=size, mode="bilinear").to(torch.uint8)


@pytest.mark.parametrize("deviation", [4, 16])
def test_noise_has_its_standard_deviation_in_units_of_255(deviation):
    images = smooth()
    differences = corruptions.noised(images, deviation).double() - images.double()
    assert float(differences.std()) == pytest.approx(deviation, rel=0.02)
    assert abs(float(differences.mean())) < 0.1


def test_noise_stays_within_8_bits():
    images = torch.cat([torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.full((4, 1, 8, 8), 255, dtype=torch.uint8)])
    noised = corruptions.noised(images, 64)
    assert noised.dtype == torch.uint8
    assert noised[:4].double().mean() < 60
    assert noised[4:].double().mean() > 195


@pytest.mark.parametrize("deviation", corruptions.BLUR)
def test_blur_is_pillow_s_away_from_the_edges(deviation):
    images = smooth(2)
    copies = corruptions.blurred(images, deviation)
    for image, blurred in zip(images, copies, strict=True):
        other = Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(deviation))
        other = torch.frombuffer(bytearray(other.tobytes()), dtype=torch.uint8).reshape(32, 32, 3).permute(2, 0, 1)
        inside = (slice(None), slice(8, 24), slice(8, 24))
        # Pillow's is an approximation by boxes.
        assert (blurred[inside].double() - other[inside].double()).abs().mean() < 2


@given(st.integers(0, 2**31), st.sampled_from([1, 3]), st.integers(2, 33), st.integers(2, 33), st.floats(0.3, 5))
def test_blur_is_torchvision_s_bit_for_bit(seed, channels, height, width, deviation):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, channels, height, width), dtype=torch.uint8, generator=generator)
    reach = min(round(4 * deviation + 0.5), min(height, width) - 1)
    assert torch.equal(corruptions.blurred(images, deviation), gaussian_blur(images, 2 * reach + 1, deviation))


@pytest.mark.parametrize("size", [4, 8, 32])
def test_blur_fits_small_images(size):
    images = torch.randint(0, 256, (3, 1, size, size), dtype=torch.uint8)
    copies = [corruptions.blurred(images, deviation) for deviation in corruptions.BLUR]
    assert all(blurred.shape == images.shape for blurred in copies)
    spreads = [float(blurred.double().std()) for blurred in (images, *copies)]
    assert spreads == sorted(spreads, reverse=True)


def test_copies_grow_in_damage_and_leave_whole_classes_out():
    labels = torch.arange(40) % 10
    copies = list(corruptions.copies(smooth(40), labels))
    assert [(kind, amount) for kind, amount, _ in copies] == [
        *[("noise", deviation) for deviation in corruptions.NOISE],
        *[("blur", deviation) for deviation in corruptions.BLUR],
        ("classes left out", 1),
        ("classes left out", 5),
    ]
    assert [len(images) for *_, images in copies] == [40] * 6 + [36, 20]
    assert torch.equal(copies[-1][2], smooth(40)[labels >= 5])


def test_classes_that_do_not_occur_are_not_left_out():
    """Of a split with the labels 3, 5 and 9 alone, one class and two are left out, and nothing else."""
    labels = torch.tensor([9, 3, 5] * 8)
    *_, (_, first_count, without_3), (_, second_count, only_9) = corruptions.copies(smooth(24), labels)
    assert (first_count, second_count) == (1, 2)
    assert torch.equal(without_3, smooth(24)[labels != 3])
    assert torch.equal(only_9, smooth(24)[labels == 9])


@pytest.mark.parametrize("act", [lambda x: corruptions.noised(x, 4), lambda x: corruptions.blurred(x, 1.0)])
@pytest.mark.parametrize("images", [smooth(2) / 255, smooth(2)[0], smooth(2).int(), smooth(2)[:, :2]])
def test_what_is_no_batch_of_bytes_is_refused(act, images):
    with pytest.raises(UserError, match="images must be"):
        act(images)


@pytest.mark.parametrize(("classes", "counts"), [(1, []), (2, [1]), (3, [1, 2])])
def test_classes_are_left_out_only_where_some_remain(classes, counts):
    labels = torch.arange(12) % classes
    copies = list(corruptions.copies(smooth(12, 8), labels))
    assert [amount for kind, amount, _ in copies if kind == "classes left out"] == counts
    assert all(len(images) for *_, images in copies)
