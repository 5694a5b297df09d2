"""Damaged params files and studies: each ends in a plan, or in lines that name the file."""

import os
import random
import re
import shutil
from pathlib import Path

import pytest

from surrodiff.config import params, refusals
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
    """A block in braces, or a list in brackets, is something else, or another of them."""
    blocks = re.findall(r"\{[^}]*\}|\[[^]]*\]", text)
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


@pytest.fixture
def small(tmp_path, root) -> Path:
    """params.yaml with the preset `test` and the one that it is a difference from, so that many readings take little
    time, and the studies beside it."""
    text = (root / "params.yaml").read_text().replace("preset: demo", "preset: test", 1)
    (tmp_path / "params.yaml").write_text(re.sub(r"(?s)\n  # Hours on one.*(?=\n  # Seconds)", "", text))
    assert list(params.load(tmp_path / "params.yaml", folder=root / params.STUDIES).presets) == ["paper", "test"]
    shutil.copytree(root / params.STUDIES, tmp_path / params.STUDIES)
    return tmp_path


def check(file: Path, files: list[Path], data: bytes) -> str:
    """How a reading with a damaged file ends."""
    file.write_bytes(data)
    try:
        loaded = params.load(files[0])
    except UserError as error:
        lines = str(error).split("\n")
        assert len(lines) <= refusals.MOST_LINES + 1, data
        for line in lines:
            assert line.startswith(tuple(f"{source}: " for source in files)), data
            assert line.isprintable(), data
            assert len(line) < 1000, data
        return "refused"
    built = plan.build(loaded)
    for name in [*built.runs, *built.tables, *built.figures]:
        assert os.fsencode(name).isascii()
        assert "/" not in name
    for line in params.warnings(loaded):
        assert line.isprintable()
    return "plan"


@pytest.mark.parametrize("what", ["params", "studies"])
@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_file_is_a_plan_or_lines_that_name_it(small, seed, what):
    files = [small / "params.yaml", *sorted((small / params.STUDIES).iterdir())]
    outcomes = {"plan": 0, "refused": 0}
    for number in range(MUTATIONS // 5):
        chance = random.Random(1000 * seed + number)
        file = files[0] if what == "params" else chance.choice(files[1:])
        text = file.read_text()
        outcomes[check(file, files, mutated(text, chance))] += 1
        file.write_text(text)
    assert min(outcomes.values()) > 0
