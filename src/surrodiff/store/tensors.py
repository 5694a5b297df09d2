"""Files of named tensors: safetensors, with a checksum of the contents, written in one step, read without pickle."""

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from surrodiff.errors import UserError
from surrodiff.planning.runs import canonical
from surrodiff.store.runs import replacing


def _bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of all that a file says: metadata, names, types, shapes and values."""
    digest = hashlib.sha256(canonical(metadata).encode())
    for name in sorted(tensors):
        digest.update(canonical([name, str(tensors[name].dtype), list(tensors[name].shape)]).encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _digest_of_values(tensors: dict[str, torch.Tensor]) -> str:
    """What earlier versions kept: of names and values alone."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def save(path: Path, tensors: dict[str, torch.Tensor], **metadata: str):
    """Write tensors and text metadata to `path` (see runs.replacing)."""
    # clone: the copies on the CPU share no storage with tensors that training goes on changing
    tensors = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    # One entry: the order of several in the header is random, and equal contents should make equal files.
    header = {"surrodiff": canonical({**metadata, "sha256": _digest(tensors, metadata)})}
    blob = safetensors.torch.save(tensors, header)
    with replacing(path) as temporary:
        temporary.write_bytes(blob)


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors (on the CPU) and metadata of a file that `save` wrote.

    Raises UserError if the file is missing, truncated or altered.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("surrodiff", "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or no safetensors file ({error}); restore it or move it away") from None
    try:
        metadata = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        metadata = {}
    if "sha256" in metadata:
        matches = metadata.pop("sha256") == _digest(tensors, metadata)
    else:
        matches = metadata.pop("digest", None) == _digest_of_values(tensors)
    if not matches:
        raise UserError(f"{path}: altered (its contents do not match their checksum); restore it or move it away")
    return tensors, metadata
