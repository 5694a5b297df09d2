"""The networks' blocks: their formulas, what inference does in place and in parts, dropout's masks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.networks import blocks
from surrodiff.networks.blocks import Attention, Dropout, GroupNorm, MBConvBlock, ResBlock


def plainly(block: torch.nn.Module, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
    """A block without dropout by its formula: every layer of the whole batch, and nothing in place."""
    bias = F.linear(F.silu(temb), block.temb.weight, block.temb.bias)[:, :, None, None]
    if isinstance(block, ResBlock):
        h = block.conv1(F.silu(block.norm1(x))) + bias
        return block.shortcut(x) + block.conv2(F.silu(block.norm2(h)))
    h = block.expand(F.silu(block.norm1(x))) + bias
    h = F.silu(block.norm3(block.depthwise(F.silu(block.norm2(h)))))
    gate = torch.sigmoid(F.silu(h.mean((2, 3)) @ block.se.squeeze.weight.T) @ block.se.excite.weight.T)
    return block.shortcut(x) + block.project(h * gate[:, :, None, None])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("c_out", [8, 12])
@pytest.mark.parametrize("kind", [ResBlock, MBConvBlock])
def test_blocks_agree_with_their_formula_with_gradients_and_without(kind, c_out, layout, monkeypatch):
    """Without gradients they overwrite their own maps, never what they were given, and work image by image."""
    monkeypatch.setattr(blocks, "CACHED", 1)
    torch.manual_seed(0)
    block = kind(8, c_out, 16, 4, 0.0).double().eval()
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    x = torch.randn(3, 8, 4, 6, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    temb = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    given, expected = (x.detach().clone(), temb.detach().clone()), plainly(block, x, temb)
    assert torch.equal(block(x, temb), expected)
    assert torch.autograd.gradcheck(block, (x, temb), fast_mode=True)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = block(x, temb)
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert found.is_contiguous(memory_format=layout)
        assert torch.equal(x, given[0])
        assert torch.equal(temb, given[1])


def test_mbconv_blocks_take_as_many_images_at_once_as_caches_hold_in_inference_alone(monkeypatch):
    block, x, temb, sizes = MBConvBlock(8, 8, 16, 4, 0.5), torch.randn(5, 8, 4, 4), torch.randn(5, 16), []
    block.expand.register_forward_hook(lambda module, inputs, out: sizes.append(len(out)))
    two_images = 2 * 4 * (4 * 8) * 4 * 4  # of 4 bytes x 32 channels x 16 pixels
    for threads, cached, expected in [
        (1, two_images, [2, 2, 1]),
        (2, two_images, [4, 1]),
        (1, 1, [1] * 5),
        (1, 2**21, [5]),
    ]:
        monkeypatch.setattr(blocks, "CACHED", cached)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for training, gradients in [(False, False), (True, False), (False, True), (True, True)]:
            sizes.clear()
            with torch.set_grad_enabled(gradients):
                block.train(training)(x, temb)
            # In training a batch's dropout masks are drawn at once.
            assert sizes == ([5] if training or gradients else expected)
    monkeypatch.setattr(blocks, "CACHED", 1)
    for threads, expected in [(1, [5]), (2, [1] * 5)]:  # in bfloat16
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        sizes.clear()
        with torch.inference_mode():
            block.eval().bfloat16()(x.bfloat16(), temb.bfloat16())
        assert sizes == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_agrees_with_the_formula(dtype):
    torch.manual_seed(0)
    made = Attention(6, 2, out_gain=1.0)
    torch.nn.init.normal_(made.out.weight)
    x = torch.randn(2, 6, 3, 5)
    cast = copy.deepcopy(made).to(dtype)
    quick = cast(x.to(dtype))
    with torch.inference_mode():
        assert torch.equal(cast(x.to(dtype)), quick)
    h = made.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (h @ made.qkv.weight[:, :, 0, 0].T + made.qkv.bias).split(6, -1)
    mixed = torch.softmax(q @ k.transpose(1, 2) / 6**0.5, -1) @ v
    out = (mixed @ made.out.weight[:, :, 0, 0].T + made.out.bias).transpose(1, 2).reshape(x.shape)
    assert (quick.float() - (x + out)).abs().max() < (1e-5 if dtype == torch.float32 else 0.02 * out.abs().max())
    assert torch.allclose(Attention(6, 2, out_gain=1e-5)(x), x, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "size"), [(4, 8), (40, 8), (4, 32), (32, 32)])
def test_groups_are_normalised_in_bfloat16_as_by_the_formula(layout, channels, size):
    """On either side of where the kernel changes: 16 channels a group, 32 x 32 pixels."""
    torch.manual_seed(0)
    made = GroupNorm(2, channels)
    torch.nn.init.normal_(made.weight, 1, 0.2)
    torch.nn.init.normal_(made.bias, 0, 0.2)
    made.to(torch.bfloat16)
    x = (3 + 2 * torch.randn(3, channels, size, size)).to(torch.bfloat16, memory_format=layout).requires_grad_()
    gradient = torch.randn(x.shape)
    exact = x.detach().double().requires_grad_()
    groups = exact.reshape(3, 2, -1)
    normal = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    weight, bias = (p.detach().double()[:, None, None] for p in (made.weight, made.bias))
    expected = normal.reshape(exact.shape) * weight + bias
    found = made(x)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=layout)
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()
    (found * gradient).sum().backward()
    (expected * gradient).sum().backward()
    assert (x.grad - exact.grad).abs().max() < 0.02 * exact.grad.abs().max()


@given(p=st.floats(0, 0.99), seed=st.integers(0, 2**32), total=st.integers(1, 5), c=st.integers(1, 7))
def test_dropout_drops_the_share_that_it_is_told_to_and_keeps_the_mean(p, seed, total, c):
    dropout, x = Dropout(p), torch.full((total, c, 5, 3), 2.0)
    shares = []
    for number in range(40):
        torch.manual_seed(seed + number)
        out = dropout(x)
        kept = out[out != 0]
        assert torch.allclose(kept, 2 / torch.tensor(1 - p), rtol=1e-2 if p > 0.9 else 1e-3)
        shares.append(1 - len(kept) / x.numel())
    sigma = (p * (1 - p) / (40 * x.numel())) ** 0.5
    assert abs(sum(shares) / 40 - p) <= 6 * sigma + 2**-15


@given(seed=st.integers(0, 2**32), rows=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_dropout_is_the_same_for_every_layout_and_for_parts_of_a_batch(seed, rows):
    dropout, x = Dropout(0.3), torch.randn(6, 3, 5, 7)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(seed)
        found.append(dropout(x.to(memory_format=layout)))
    assert found[0].equal(found[1])
    torch.manual_seed(seed)
    dropout.part = (torch.tensor(rows), 6)
    assert dropout(x[rows]).equal(found[0][rows])


def test_dropout_forgets_no_pixel_with_another():
    """Numbers are cut out of longer ones: neighbours must drop independently."""
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(1, 1, 500, 400)) == 0).flatten().double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert abs((dropped[distance:] * dropped[:-distance]).mean()) < 5 * 0.25 / 200_000**0.5
