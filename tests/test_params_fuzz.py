"""Damaged params files: each ends in a plan, or in lines that name the file."""

import os
import random

import pytest

from surrodiff.config import params
from surrodiff.errors import UserError
from surrodiff.planning import plan

MUTATIONS = 500
WORDS = r"""
null true no 0 -0 -1 1 2 6.0 1e9 1000000000 5e-05 .inf -.inf .nan 1e999 0x10 0o17 017 1_000 99999999999999999999
"6" '1' "" text auto digits [] [[]] [1,1] {} {a:1} &a *a &a&b !!int !!python/object:os.system ! 2020-13-45 12:30:45
<< ? : - ~ | > %YAML --- ... @x `x` # $(touch_x) ../../../esc ~nobody/x "\uD800" "\x1b[31m" "\0" "\U00110000"
"""
VALUES = [*WORDS.split(), "\t", "\x07", "\u202e", "\ud55c", "\ud800", "\n", " ", "x" * 5000, "9" * 5000, "&a [*a]"]
VALUES += ["[" * 3000, "{a: " * 500, "- " * 500, "&x [*x, *x]"]


def lines_changed(text: str, chance: random.Random) -> str:
    """Lines duplicated, deleted, swapped, indented otherwise."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(4):
            case 0:
                lines.insert(b, lines[a])
            case 1:
                del lines[a]
            case 2:
                lines[a], lines[b] = lines[b], lines[a]
            case _:
                lines[a] = " " * chance.randint(0, 9) + lines[a].lstrip()
    return "\n".join(lines)


def values_replaced(text: str, chance: random.Random) -> str:
    """What follows a colon, up to the next comma or bracket or line, is something else."""
    for _ in range(chance.randint(1, 3)):
        starts = [i + 2 for i in range(len(text)) if text.startswith(": ", i)]
        start = chance.choice(starts)
        end = min(i for i in (text.find(mark, start) for mark in ",}\n") if i > 0)
        text = text[:start] + chance.choice(VALUES) + text[end:]
    return text


def words_replaced(text: str, chance: random.Random) -> str:
    """One word, a key as well as a value, is something else."""
    words = text.split(" ")
    words[chance.randrange(len(words))] = chance.choice(VALUES)
    return " ".join(words)


def blocks_replaced(text: str, chance: random.Random) -> str:
    """A block in braces is something else, or another block."""
    starts = [i for i, c in enumerate(text) if c == "{"]
    blocks = [text[i : text.index("}", i) + 1] for i in starts]
    block = chance.choice(blocks)
    return text.replace(block, chance.choice([*VALUES, *blocks]), 1)


def bytes_flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def mutated(text: str, chance: random.Random) -> bytes:
    change = chance.choice([lines_changed, values_replaced, words_replaced, blocks_replaced, None])
    encoding = chance.choice(["utf-8"] * 20 + ["utf-8-sig", "utf-16", "utf-16-le"])
    data = (change(text, chance) if change else text).encode(encoding, "surrogatepass")
    return data if change else bytes_flipped(data, chance)


@pytest.fixture(scope="module")
def small(root) -> str:
    """params.yaml with the preset `test` alone, so that many readings take little time."""
    text = (root / "params.yaml").read_text()
    head, rest = text.split("presets:\n")
    return head.replace("preset: demo", "preset: test") + "presets:\n" + rest.split("  # Minutes")[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_file_is_a_plan_or_lines_that_name_it(tmp_path, small, seed):
    file = tmp_path / "params.yaml"
    outcomes = {"plan": 0, "refused": 0}
    for number in range(MUTATIONS // 5):
        data = mutated(small, random.Random(1000 * seed + number))
        file.write_bytes(data)
        try:
            loaded = params.load(file)
        except UserError as error:
            outcomes["refused"] += 1
            lines = str(error).split("\n")
            assert len(lines) <= params.MOST_LINES + 1, data
            for line in lines:
                assert line.startswith(f"{file}: "), data
                assert line.isprintable(), data
                assert len(line) < 1000, data
        else:
            outcomes["plan"] += 1
            for run_id in plan.build(loaded).runs:
                assert os.fsencode(run_id).isascii()
                assert "/" not in run_id
            for line in params.warnings(loaded):
                assert line.isprintable()
    assert min(outcomes.values()) > 0
