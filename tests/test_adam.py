"""The optimiser: PyTorch's own class is the oracle, to the last bit."""

import subprocess
import sys

import pytest
import torch

from surrodiff.kinds.adam import Adam


def parameters(memory_format: torch.memory_format) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for shape in ((4, 3, 3, 3), (4,), (2, 4))]
    tensors[0] = tensors[0].to(memory_format=memory_format)
    return [torch.nn.Parameter(tensor) for tensor in tensors]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator) for shape in ((4, 3, 3, 3), (4,), (2, 4))]


@pytest.mark.parametrize("fused", [None, False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_steps_are_those_of_pytorch_s_class(fused, memory_format):
    first, second = parameters(memory_format), parameters(memory_format)
    ours, theirs = Adam(first, 0.01, betas=(0.5, 0.9), fused=fused), torch.optim.Adam(second, 0.01, (0.5, 0.9))
    theirs = torch.optim.Adam(second, 0.01, (0.5, 0.9), fused=fused)
    for step in range(1, 6):
        rate = 0.01 / step
        ours.lr = theirs.param_groups[0]["lr"] = rate
        for a, b, gradient in zip(first, second, gradients(step), strict=True):
            # Without a gradient, a parameter and its moments stay.
            a.grad = b.grad = None if step == 3 and gradient.ndim == 1 else gradient
        ours.step()
        theirs.step()
        assert all(map(torch.equal, first, second))
    for number, tensors in theirs.state_dict()["state"].items():
        assert all(torch.equal(ours.state()[f"{number}.{key}"], value) for key, value in tensors.items())
    ours.zero_grad()
    assert all(parameter.grad is None for parameter in first)


def test_steps_go_on_from_a_state_in_another_layout():
    whole, resumed = Adam(parameters(torch.contiguous_format), 0.01), Adam(parameters(torch.channels_last), 0.01)
    for step in range(1, 3):
        for parameter, gradient in zip(whole.parameters, gradients(step), strict=True):
            parameter.grad = gradient
        whole.step()
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    resumed.load_state(state)
    for a, b in zip(whole.parameters, resumed.parameters, strict=True):
        b.data.copy_(a.data)
    for optimiser in (whole, resumed):
        for parameter, gradient in zip(optimiser.parameters, gradients(3), strict=True):
            parameter.grad = gradient
        optimiser.step()
    assert all(map(torch.equal, whole.parameters, resumed.parameters))
    del state["1.exp_avg"]
    with pytest.raises(KeyError, match=r"1\.exp_avg"):
        resumed.load_state(state)


def test_a_training_step_that_compiles_nothing_imports_nothing_for_it(root):
    code = """
import sys, torch
from surrodiff.kinds.adam import Adam
p = torch.nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
for fused in (None, True):
    Adam([p], 0.1, fused=fused).step()
print("torch._dynamo" in sys.modules, p.tolist())
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert process.stdout.startswith("False"), process.stdout + process.stderr
