"""What two finished results folders must have in common: every byte, but for times (docs/reliability.md)."""

import json
import re
from pathlib import Path

import numpy as np

SKIPPED = {"logs", "timings", "work"}  # whole folders: when things happened, speeds, and where the runs were made
TIMES = re.compile(r"(\w+_)?seconds|finished")
# How much of a run its last attempt made, and in batches of which size.
ATTEMPTS = {"sampled_now", "evaluated_now", "batch"}
CHECKSUM = re.compile(r"[0-9a-f]{64}")


def contents(results: Path) -> dict[str, bytes]:
    """Every file of a results folder by its relative path, without what depends on when and how fast it was made."""
    files = [path for path in results.rglob("*") if path.is_file() and path.name != ".lock"]
    relative = {path.relative_to(results): path for path in files}
    return {str(name): comparable(path) for name, path in sorted(relative.items()) if not SKIPPED & {*name.parts}}


def comparable(path: Path) -> bytes:
    """A file's contents without its times; all of them if it is not what its name says."""
    content = path.read_bytes()
    try:
        if path.name in ("record.json", "done.json"):
            return json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
        if path.suffix == ".json" and isinstance(value := json.loads(content), dict) and "records" in value:
            return json.dumps({**value, "records": sorted(value["records"])}, sort_keys=True).encode()
        if path.name == "losses.csv":
            return _without_seconds(content)
        if path.name == "checkpoint.safetensors":
            return _without_elapsed(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return content


def _without_times(value):
    """Checksums go, too: the files themselves are compared, and some of them hold times. So does the git revision,
    which a commit in the meantime changes."""
    if isinstance(value, dict):
        left_out = ATTEMPTS | {"bytes"} | ({"revision"} if "versions" in value or "source" in value else set())
        return {k: _without_times(v) for k, v in value.items() if not TIMES.fullmatch(k) and k not in left_out}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return "a checksum" if isinstance(value, str) and CHECKSUM.fullmatch(value) else value


def _without_seconds(content: bytes) -> bytes:
    lines = content.splitlines()
    if not lines[0].endswith(b",seconds"):
        return content
    return b"\n".join(line.rpartition(b",")[0] for line in lines)


def _without_elapsed(content: bytes) -> bytes:
    """A safetensors file is the length of its header, the header as JSON, the tensors."""
    end = 8 + int.from_bytes(content[:8], "little")
    header, values = json.loads(content[8:end]), bytearray(content[end:])
    metadata = json.loads(header["__metadata__"]["surrodiff"])
    kept = {key: value for key, value in metadata.items() if key not in ("elapsed", "sha256")}
    log = header["log.rows"]
    first, last = log["data_offsets"]
    rows = np.frombuffer(values, np.float64, (last - first) // 8, first).reshape(log["shape"])
    rows[:, -1:] = 0  # seconds
    return json.dumps({**header, "__metadata__": kept}, sort_keys=True).encode() + bytes(values)


def differences(expected: dict[str, bytes], actual: dict[str, bytes]) -> list[str]:
    """One line for each file that is missing, additional, or different."""
    lines = [f"{name}: missing" for name in expected.keys() - actual.keys()]
    lines += [f"{name}: is not in the uninterrupted results" for name in actual.keys() - expected.keys()]
    for name in expected.keys() & actual.keys():
        if expected[name] != actual[name]:
            lines.append(f"{name}: different: {_first_difference(expected[name], actual[name])}")
    return sorted(lines)


def _first_difference(expected: bytes, actual: bytes) -> str:
    pairs = enumerate(zip(expected, actual, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(actual)))
    around = slice(max(0, at - 30), at + 30)
    return f"byte {at} of {len(expected)}: {expected[around]!r}, found {actual[around]!r}"


def temporary(results: Path) -> list[str]:
    """Files of a results folder that only unfinished work may have."""
    files = [f for f in results.rglob("*") if f.suffix == ".part" or (f.name.startswith(".") and f.suffix == ".tmp")]
    return sorted(str(file.relative_to(results)) for file in files)
