"""Files of named tensors: what comes back, and that damage is told."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.errors import UserError
from surrodiff.store import tensors

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


@st.composite
def a_tensor(draw) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return (torch.randn(shape, generator=generator) * 100).to(draw(st.sampled_from(DTYPES)))


@given(
    st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), a_tensor(), max_size=5)
)
def test_tensors_come_back_as_they_were(tmp_path, saved):
    path = tmp_path / "a.safetensors"
    tensors.save(path, saved, step="6", run="Mine-01234567")
    loaded, metadata = tensors.load(path)
    assert set(loaded) == set(saved)
    for name, tensor in saved.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(loaded[name], tensor)
    assert (metadata["step"], metadata["run"]) == ("6", "Mine-01234567")


def test_values_that_are_no_numbers_come_back(tmp_path):
    tensors.save(tmp_path / "a", {"x": torch.tensor([float("nan"), float("inf"), -0.0])})
    x = tensors.load(tmp_path / "a")[0]["x"]
    assert x[0].isnan()
    assert x[1].isinf()
    assert torch.signbit(x[2])


def test_views_slices_and_parameters_are_saved_by_value(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    saved = {
        "transposed": base.transpose(0, 2),
        "strided": base[:, ::2],
        "same": base,
        "again": base,
        "parameter": torch.nn.Parameter(base),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(5),
    }
    tensors.save(tmp_path / "a", saved)
    loaded, _ = tensors.load(tmp_path / "a")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())
    assert not loaded["parameter"].requires_grad


def test_what_is_loaded_is_not_the_file(tmp_path):
    tensors.save(tmp_path / "a", {"x": torch.zeros(3)})
    loaded, _ = tensors.load(tmp_path / "a")
    loaded["x"] += 1
    assert tensors.load(tmp_path / "a")[0]["x"].tolist() == [0, 0, 0]


def test_the_same_tensors_give_the_same_file(tmp_path):
    saved = {"b": torch.arange(3), "a": torch.ones(2)}
    tensors.save(tmp_path / "1", saved, step="1", run="Mine", elapsed="2.5")
    for number in range(2, 6):
        tensors.save(tmp_path / f"{number}", dict(reversed(saved.items())), elapsed="2.5", run="Mine", step="1")
        assert (tmp_path / f"{number}").read_bytes() == (tmp_path / "1").read_bytes()


@pytest.fixture(scope="module")
def a_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tensors") / "whole.safetensors"
    tensors.save(path, {"weight": torch.arange(12.0).reshape(3, 4), "count": torch.tensor(7)}, step="6")
    return path


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        tensors.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_every_truncation_is_told(tmp_path, a_file):
    blob = a_file.read_bytes()
    path = tmp_path / "a.safetensors"
    for size in range(len(blob)):
        path.write_bytes(blob[:size])
        assert refusal(path).startswith("truncated")


def test_bytes_too_many_are_told(tmp_path, a_file):
    path = tmp_path / "a.safetensors"
    path.write_bytes(a_file.read_bytes() + b"\0")
    refusal(path)


def test_every_altered_byte_of_the_values_is_told(tmp_path, a_file):
    blob = a_file.read_bytes()
    path = tmp_path / "a.safetensors"
    first = 8 + int.from_bytes(blob[:8], "little")
    assert len(blob) - first == 12 * 4 + 8
    for position in range(first, len(blob)):
        path.write_bytes(blob[:position] + bytes([blob[position] ^ 1]) + blob[position + 1 :])
        assert refusal(path).startswith("altered")


def test_no_altered_bit_of_the_header_changes_what_is_loaded(tmp_path, a_file):
    """Neither names, types and shapes nor the metadata, by which a training resumes at a step."""
    blob = a_file.read_bytes()
    path = tmp_path / "a.safetensors"
    expected = tensors.load(a_file)
    refused = 0
    for position in range(8 + int.from_bytes(blob[:8], "little")):
        for bit in range(8):
            path.write_bytes(blob[:position] + bytes([blob[position] ^ 1 << bit]) + blob[position + 1 :])
            try:
                loaded, metadata = tensors.load(path)
            except UserError:
                refused += 1
                continue
            assert metadata == expected[1], "only white space at the end can differ"
            assert all(loaded[name].equal(value) for name, value in expected[0].items())
            assert all(loaded[name].dtype == value.dtype for name, value in expected[0].items())
    assert refused > 1000


STEP = rb"\"step\":\"%d\""


@pytest.mark.parametrize(
    ("old", "new"), [(STEP % 6, STEP % 7), (b'"F32"', b'"I32"'), (b"[3,4]", b"[4,3]"), (b"[3,4]", b"[2,6]")]
)
def test_altered_metadata_types_and_shapes_are_told(tmp_path, a_file, old, new):
    blob = a_file.read_bytes()
    assert blob.count(old) == 1
    path = tmp_path / "a.safetensors"
    path.write_bytes(blob.replace(old, new))
    assert refusal(path).startswith("altered")


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    """Its checksum was of names and values alone."""
    import hashlib
    import json

    import safetensors.torch

    x = torch.arange(3.0)
    digest = hashlib.sha256(b"x" + x.numpy().tobytes()).hexdigest()
    for kept, is_whole in ((digest, True), (digest[::-1], False)):
        header = {"surrodiff": json.dumps({"step": "6", "digest": kept})}
        safetensors.torch.save_file({"x": x}, tmp_path / "a.safetensors", header)
        if is_whole:
            loaded, metadata = tensors.load(tmp_path / "a.safetensors")
            assert loaded["x"].equal(x)
            assert metadata == {"step": "6"}
        else:
            assert refusal(tmp_path / "a.safetensors").startswith("altered")


@pytest.mark.parametrize("header", [None, "", "{", "[]", "3", "null", "[" * 100_000, "1" * 5000, '{"sha256": 3}'])
def test_metadata_of_another_shape_is_told(tmp_path, header):
    import safetensors.torch

    metadata = None if header is None else {"surrodiff": header}
    safetensors.torch.save_file({"x": torch.zeros(3)}, tmp_path / "a.safetensors", metadata)
    assert refusal(tmp_path / "a.safetensors").startswith("altered")


def test_a_missing_file_is_told(tmp_path):
    assert refusal(tmp_path / "a.safetensors") == "missing"


def test_a_folder_is_told(tmp_path):
    refusal(tmp_path)


def test_a_file_without_our_checksum_is_told(tmp_path):
    import safetensors.torch

    safetensors.torch.save_file({"x": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert refusal(tmp_path / "a.safetensors").startswith("altered")


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    for number, write in enumerate((lambda file, what: file.write(pickle.dumps(what)), lambda f, w: torch.save(w, f))):
        path = tmp_path / f"{number}.safetensors"
        with open(path, "wb") as file:
            write(file, Bomb(tmp_path / "exploded"))
        assert "no safetensors file" in refusal(path)
    assert not (tmp_path / "exploded").exists()


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors.save(path, {"x": torch.zeros(3)})
    with pytest.raises(TypeError):
        tensors.save(path, {"x": torch.ones(3)}, step=object())
    assert tensors.load(path)[0]["x"].tolist() == [0, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
