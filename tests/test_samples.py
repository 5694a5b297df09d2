"""Sample runs: what is refused before it becomes a result, and sampling from Python as the README shows it."""

import re
import shutil

import numpy as np
import pytest
import torch
from records import change_record, forget

from surrodiff.data.pixels import to_uint8
from surrodiff.errors import UserError
from surrodiff.stages.sample import sampler_named
from surrodiff.store import tensors
from surrodiff.store.runs import sha256


def test_samples_that_are_not_finite_are_told_and_not_kept(own_results, run_named, make):
    run = run_named("samples", "Default_6")
    forget(own_results, "samples")
    model = own_results / "models" / run.config.model.run
    file = model / "weights-6.safetensors"
    weights, metadata = tensors.load(file)
    tensors.save(file, {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}, **metadata)
    sums = {"sha256": sha256(file), "bytes": file.stat().st_size}
    change_record(model, lambda record: record["files"].update({file.name: sums}))
    with pytest.raises(UserError, match="are not finite"):
        make(run, own_results, sampling_batch=64)
    assert not list(own_results.glob("samples/*/samples.npy"))
    assert not list(own_results.glob("samples/*/record.json"))


def test_the_readme_s_example_samples_what_the_workflow_does(root, own_results, run_named, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    code = re.sub(r"Default_\d+", "Default_6", code).replace("demo", "test").replace("arange(16)", "arange(64)")
    assert own_results == tmp_path / "results/test"
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code, found)
    made = np.load(own_results / "samples" / run_named("samples", "Default_6").id / "samples.npy")
    assert found["images"].shape == made.shape
    assert (to_uint8(found["images"]).numpy() == made).mean() > 0.999  # another batch may round another way


def test_samples_are_found_by_name_or_id_and_several_of_a_name_are_told(own_results, run_named):
    run = run_named("samples", "Default_6")
    index = torch.arange(3)
    by_name = sampler_named(own_results, "Default_6")(index)
    with pytest.raises(UserError, match="`surrodiff sample Default_4` makes them"):
        sampler_named(own_results, "Default_4")
    shutil.copytree(own_results / "samples" / run.id, own_results / "samples/Default_6-01234567")
    with pytest.raises(UserError, match=f"there are Default_6-01234567, {run.id}; give one of these"):
        sampler_named(own_results, "Default_6")
    assert torch.equal(sampler_named(own_results, run.id)(index), by_name)
