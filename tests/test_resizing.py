"""Resizing in batches against the libraries whose rules it follows, image by image."""

import numpy as np
import pytest
import torch
from cleanfid.resize import make_resizer
from hypothesis import given
from hypothesis import strategies as st
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from surrodiff.errors import UserError
from surrodiff.scoring.resizing import RULES, resize

TOLERANCE = 1e-3  # of 255
lengths = st.integers(8, 64)
sizes = st.sampled_from([224, 299])
seeds = st.integers(0, 2**32 - 1)


def random_images(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def clean_fid_s(images: torch.Tensor, size: int) -> torch.Tensor:
    resizer = make_resizer("PIL", False, "bicubic", (size, size))
    return torch.stack([torch.from_numpy(resizer(np.asarray(i.permute(1, 2, 0)))).permute(2, 0, 1) for i in images])


@given(seeds, lengths, lengths, sizes)
def test_tf1_bilinear_is_torch_fidelity_s(seed, height, width, size):
    images = random_images(seed, 2, 3, height, width)
    expected = interpolate_bilinear_2d_like_tensorflow1x(images.float(), (size, size), align_corners=False)
    torch.testing.assert_close(resize(images, size, "tf1_bilinear"), expected, rtol=0, atol=TOLERANCE)


@given(seeds, lengths, lengths, sizes)
def test_clean_is_clean_fid_s(seed, height, width, size):
    images = random_images(seed, 2, 3, height, width)
    torch.testing.assert_close(resize(images, size, "clean"), clean_fid_s(images, size), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("length", [300, 512])
def test_large_images_shrink_as_the_libraries_shrink_them(length):
    images = random_images(0, 1, 3, length, length)
    expected = interpolate_bilinear_2d_like_tensorflow1x(images.float(), (299, 299), align_corners=False)
    torch.testing.assert_close(resize(images, 299, "tf1_bilinear"), expected, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(resize(images, 299, "clean"), clean_fid_s(images, 299), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rule", RULES)
@given(seed=seeds, length=lengths)
def test_images_of_the_right_size_stay_as_they_are(rule, seed, length):
    images = random_images(seed, 2, 1, length, length)
    torch.testing.assert_close(resize(images, length, rule), images.float(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rule", RULES)
@given(seed=seeds, length=lengths)
def test_nothing_leaves_the_range_of_pixels(rule, seed, length):
    resized = resize(random_images(seed, 2, 1, length, length) // 128 * 255, 299, rule)
    assert resized.dtype == torch.float32
    assert resized.min() >= 0
    assert resized.max() <= 255


@pytest.mark.parametrize("rule", RULES)
def test_floats_are_refused_for_nothing_says_what_their_white_is(rule):
    with pytest.raises(UserError, match=f"resizing by {rule}: images must be uint8 from 0 to 255, not float32"):
        resize(random_images(0, 2, 3, 32, 32) / 255, 299, rule)
