"""Files of named tensors: safetensors, with a checksum of the contents, written in one step, read without pickle."""

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from surrodiff.errors import UserError
from surrodiff.plan import canonical
from surrodiff.runs import replacing


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(memoryview(tensors[name].reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def save(path: Path, tensors: dict[str, torch.Tensor], **metadata: str):
    """Write tensors and text metadata to `path` (see runs.replacing)."""
    # clone: copies on the CPU that share no storage with what goes on being trained
    tensors = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    # One entry: the order of several in the header is random, and equal contents should make equal files.
    header = {"surrodiff": canonical({**metadata, "digest": _digest(tensors)})}
    blob = safetensors.torch.save(tensors, header)
    with replacing(path) as temporary:
        temporary.write_bytes(blob)


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors (on the CPU) and metadata of a file that `save` wrote.

    Raises UserError if the file is missing, truncated or altered.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("surrodiff", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or no safetensors file ({error}); restore it or move it away") from None
    if metadata.get("digest") != _digest(tensors):
        raise UserError(f"{path}: altered (its contents do not match their checksum); restore it or move it away")
    return tensors, metadata
