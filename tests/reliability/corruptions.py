"""Ways in which a file may be damaged. Each takes a source of chance and the file, and changes it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

Corruption = Callable[[random.Random, Path], None]
DEEP = 100_000


def _rewritten(change: Callable[[random.Random, bytearray], bytes]) -> Corruption:
    """A corruption that replaces the content by a changed one."""

    def corrupt(chance: random.Random, path: Path):
        path.write_bytes(change(chance, bytearray(path.read_bytes())))

    corrupt.__name__ = change.__name__
    return corrupt


def _range(chance: random.Random, content: bytes, most: int = 64) -> slice:
    start = chance.randrange(max(1, len(content)))
    return slice(start, start + chance.randint(1, most))


@_rewritten
def bit_flipped(chance, content):
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


@_rewritten
def first_bytes_changed(chance, content):
    """Headers are at the beginning of most formats."""
    for _ in range(3):
        if content:
            content[chance.randrange(min(200, len(content)))] = chance.randrange(256)
    return content


@_rewritten
def zeroed(chance, content):
    part = _range(chance, content, 4096)
    content[part] = bytes(len(content[part]))
    return content


@_rewritten
def truncated(chance, content):
    return content[: chance.choice([0, 1, 7, len(content) // 2, len(content) - 1, chance.randrange(len(content) + 1)])]


@_rewritten
def extended(chance, content):
    return content + chance.choice([b"\0", b"\n", b"x", chance.randbytes(100), bytes(5000), content])


@_rewritten
def blocks_swapped(chance, content):
    size = chance.choice([16, 100, 4096])
    blocks = [content[at : at + size] for at in range(0, len(content), size)]
    if len(blocks) > 1:
        one, two = chance.sample(range(len(blocks)), 2)
        blocks[one], blocks[two] = blocks[two], blocks[one]
    return b"".join(blocks)


@_rewritten
def part_repeated(chance, content):
    """Rows that stand twice: a line of a text, or so many bytes."""
    lines = content.splitlines(keepends=True)
    if b"\0" not in content and len(lines) > 1:
        at = chance.randrange(len(lines))
        return b"".join([*lines[: at + 1], *lines[at:]])
    part = _range(chance, content, 512)
    return content[: part.stop] + content[part] + content[part.stop :]


@_rewritten
def not_utf8(chance, content):
    at = chance.randrange(len(content) + 1)
    return content[:at] + b"\xff\xfe" + content[at:]


@_rewritten
def digits_changed(chance, content):
    """Another number, where there is one: a text stays well-formed."""
    places = [at for at, byte in enumerate(content) if byte in b"123456789"]
    if places:
        content[chance.choice(places)] = chance.choice(b"123456789")
    return content


def replaced_by_another_runs(chance: random.Random, path: Path):
    """The file of the same name of another run of the stage."""
    others = [other for other in sorted(path.parent.parent.glob(f"*/{path.name}")) if other != path and other.is_file()]
    if others:
        shutil.copyfile(chance.choice(others), path)


def replaced_by_a_neighbour(chance: random.Random, path: Path):
    """Another file of the same folder."""
    others = [other for other in sorted(path.parent.iterdir()) if other != path and other.is_file()]
    if others:
        shutil.copyfile(chance.choice(others), path)


def replaced_by_a_folder(chance: random.Random, path: Path):
    path.unlink()
    path.mkdir()


def deleted(chance: random.Random, path: Path):
    path.unlink()


SHAPES = (
    b"{}",
    b"[]",
    b"null",
    b"true",
    b'"text"',
    b"1",
    b"1e999",
    b"[1, 2]",
    b'[{"run": 1}]',
    b'{"run": null, "files": null}',
    b'{"files": []}',
    b'{"files": {"a": 1}}',
    b"9" * 5000,
    b'{"step": ' + b"9" * 5000 + b"}",
    b"[" * DEEP + b"]" * DEEP,
    b'{"a": ' * DEEP + b"1" + b"}" * DEEP,
    b'\xef\xbb\xbf{"run": 1}',
    b"{'run': 1}",
    b'{"run": 1,}',
    b'{"run": "\\ud800"}',
)


@_rewritten
def other_json(chance, content):
    return chance.choice(SHAPES)


def _leaves(value, path=()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in items for place in [(*path, key), *_leaves(below, (*path, key))]]


@_rewritten
def json_value_changed(chance, content):
    """One value of another type, not a number, negative, missing, or only another number."""
    document = json.loads(content)
    if not (places := _leaves(document)):
        return content
    *parents, key = chance.choice(places)
    block = document
    for parent in parents:
        block = block[parent]
    old = block[key]
    number = type(old) in (int, float)
    same_type = [old + 1, -old, old * 1.5, 0, 10**30] if number else [f"{old}x"]
    match chance.choice(["remove", "near", "near", "other"]):
        case "remove":
            del block[key]
        case "near":
            block[key] = chance.choice(same_type)
        case "other":
            block[key] = chance.choice([None, [], {}, "", "x", 1, True, [old], {"a": old}, float("nan"), float("inf")])
    return json.dumps(document, indent=2).encode()


ANY = (
    bit_flipped,
    first_bytes_changed,
    zeroed,
    truncated,
    extended,
    blocks_swapped,
    part_repeated,
    digits_changed,
    replaced_by_another_runs,
    replaced_by_a_neighbour,
    replaced_by_a_folder,
    deleted,
)
JSON = (other_json, other_json, json_value_changed, json_value_changed, json_value_changed, not_utf8)
TEXT = (not_utf8, digits_changed)


def choose(chance: random.Random, path: Path) -> Corruption:
    """A corruption that suits a file: half of those of JSON files leave valid JSON."""
    suited = {".json": (*ANY, *JSON, *JSON), ".csv": (*ANY, *TEXT)}.get(path.suffix, ANY)
    return chance.choice(suited)
