"""Sample runs: what is refused before it becomes a result."""

import pytest
import torch
from records import change_record, forget

from surrodiff.errors import UserError
from surrodiff.stages import samples
from surrodiff.store import tensors
from surrodiff.store.runs import sha256


def test_samples_that_are_not_finite_are_told_and_not_kept(own_results, run_named, cpu):
    run = run_named("samples", "Default_6")
    forget(own_results, "samples")
    model = own_results / "models" / run.config["model"]["run"]
    file = model / "weights-6.safetensors"
    weights, metadata = tensors.load(file)
    tensors.save(file, {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}, **metadata)
    sums = {"sha256": sha256(file), "bytes": file.stat().st_size}
    change_record(model, lambda record: record["files"].update({file.name: sums}))
    with pytest.raises(UserError, match="are not finite"):
        samples.sample(run, own_results, cpu, 64)
    assert not list(own_results.glob("samples/*/samples.npy"))
    assert not list(own_results.glob("samples/*/record.json"))
