"""Ways in which a params.yaml may be wrong, odd or hostile. Each takes a source of chance and the text."""

import copy
import datetime
import random
from collections.abc import Callable

import yaml

# A command that a shell would run makes this file in the folder that holds the project's.
CANARY = "canary"
NAMES = (
    f"$(touch ../{CANARY})",
    f"`touch ../{CANARY}`",
    f"x; touch ../{CANARY};",
    f"x' ; touch ../{CANARY}; '",
    f'x" ; touch ../{CANARY}; "',
    f"x && touch ../{CANARY}",
    f"x\ntouch ../{CANARY}\n",
    f"x > ../{CANARY}",
    f"../../{CANARY}",
    f"{{canary.__class__}}/../../{CANARY}",
    "../outside",
    "/proc/self/cwd/../outside",
    "..",
    ".",
    "",
    " ",
    "a b",
    "a/b",
    "{run}",
    "{",
    "-n",
    "--help",
    "*",
    "~",
    "é",
    "模型",
    "٣",
    "a\u202eb",
    "a\tb",
    "a" * 300,
    "CON",
    "null",
    "1",
    "%s",
    "$HOME",
    "!x",
    "#x",
)
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**30,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "auto",
    "5e-05",
    "1_000",
    "yes",
    [],
    {},
    [[]],
    [None],
    [1, "x", {}],
    {"a": {"b": {}}},
    datetime.date(2001, 1, 1),
    datetime.datetime(2001, 1, 1, 1, 1, 1),
    b"bytes",
    "x" * 10_000,
    *NAMES[:8],
)
# YAML that stands for a value, in the places of numbers and words.
SCALARS = (
    "9" * 400,
    "9" * 5000,
    "0x" + "f" * 5000,
    "0b11",
    "0o17",
    "017",
    "1:30:15",
    ".inf",
    "-.inf",
    ".nan",
    "2001-01-01",
    "2001-99-99",
    "2001-01-01T25:61:61Z",
    "1e400",
    "1e-400",
    "~",
    "*nobody",
    "&a [*a]",
    "&a {b: *a}",
    "!!binary aaa",
    "!!binary $$$",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!int 'x'",
    "!!float 'x'",
    "!!bool 'x'",
    "!!null 'x'",
    "!!timestamp 'x'",
    "!!python/object/apply:os.system ['touch ../canary']",
    "!!python/name:os.system ''",
    "!unknown 1",
    "? a",
    "- - - a",
    "{[1, 2]: 3}",
    "{{}: 3}",
    "[" * 50 + "]" * 50,
    "[" * 5000 + "]" * 5000,
    "{a: " * 3000 + "1" + "}" * 3000,
    "@x",
    "`x`",
    "'unclosed",
    '"\\ud800"',
    '"\\0"',
    '"\\x07"',
    "|",
    ">-",
    "%x",
)
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
Mutation = Callable[[random.Random, bytes], bytes]


def _line(chance: random.Random, text: bytes, change: Callable[[bytes], bytes]) -> bytes:
    lines = text.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    lines[at] = change(lines[at])
    return b"".join(lines)


def bytes_replaced(chance: random.Random, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(chance.choice([1, 1, 3, 20])):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def cut(chance: random.Random, text: bytes) -> bytes:
    start = chance.randrange(len(text))
    return chance.choice([text[:start], text[start:], text[:start] + text[start + chance.randrange(200) :]])


def line_removed_or_repeated(chance: random.Random, text: bytes) -> bytes:
    count = chance.choice([0, 2, 2, 50])
    return _line(chance, text, lambda line: line * count)


def line_indented(chance: random.Random, text: bytes) -> bytes:
    by = chance.choice([b" ", b"  ", b"\t", b"\xc2\xa0", b"- ", b"? "])
    return _line(chance, text, lambda line: by + line)


def other_encoding(chance: random.Random, text: bytes) -> bytes:
    decoded = text.decode()
    return chance.choice(
        [
            b"\xef\xbb\xbf" + text,
            decoded.encode("utf-16"),
            decoded.encode("utf-32"),
            decoded.encode("utf-16-le"),
            text.replace(b"\n", b"\r\n"),
            text.replace(b"\n", b"\r"),
            text.replace(b"#", "# é".encode("latin-1")),
            text + b"\0",
            text + b"# \xff\xfe\n",
            text.replace(b": ", ":\u2003".encode(), 3),
        ]
    )


def other_document(chance: random.Random, text: bytes) -> bytes:
    return chance.choice(
        [
            b"",
            b"# nothing\n",
            b"null\n",
            b"42\n",
            b"[]\n",
            b"{}\n",
            b"- preset: test\n",
            b"text\n",
            b"--- \n" + text + b"---\nmore: 1\n",
            b"%YAML 9.9\n---\n" + text,
            text + BOMB.encode(),
            b"[" * 20_000,
            b"x: " + b"9" * 5000 + b"\n" + text,
            text * 2,
            b"<<: &m {preset: test}\n" + text,
            b"<<: 3\n" + text,
            text + b"preset: demo\n",
        ]
    )


def scalar_written_otherwise(chance: random.Random, text: bytes) -> bytes:
    """YAML's rarer features in the place of one value."""
    scalar = chance.choice(SCALARS).encode()
    keys = [at for at in range(len(text) - 2) if text[at : at + 2] == b": " and text[at + 2 : at + 3] not in b"{[\n"]
    start = chance.choice(keys) + 2
    end = min(at for at in (text.find(mark, start) for mark in (b",", b"}", b"\n", b"]")) if at > 0)
    return text[:start] + scalar + text[end:]


def _places(value, path=()) -> list[tuple]:
    """Paths to all values below a document's."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in items for place in [(*path, key), *_places(below, (*path, key))]]


def _parent(document, path: tuple):
    for key in path[:-1]:
        document = document[key]
    return document


def _dumped(document) -> bytes:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def value_replaced(chance: random.Random, text: bytes) -> bytes:
    document = yaml.safe_load(text)
    for _ in range(chance.choice([1, 1, 1, 4])):
        path = chance.choice(_places(document))
        old = _parent(document, path)[path[-1]]
        near = [old * 2, -old, old + 1, old / 3, str(old)] if type(old) in (int, float) else [[old], {"a": old}]
        _parent(document, path)[path[-1]] = chance.choice([chance.choice(VALUES), chance.choice(near)])
    return _dumped(document)


def key_removed_added_or_renamed(chance: random.Random, text: bytes) -> bytes:
    document = yaml.safe_load(text)
    path = chance.choice([path for path in _places(document) if isinstance(path[-1], str)])
    block, key = _parent(document, path), path[-1]
    names = [*NAMES, key + " ", key.upper(), 1, None, True, datetime.date(2001, 1, 1), 1.5]
    match chance.choice(["remove", "add", "rename"]):
        case "remove":
            del block[key]
        case "add":
            block[chance.choice(names)] = copy.deepcopy(block[key])
        case "rename":
            block[chance.choice(names)] = block.pop(key)
    return _dumped(document)


def subtrees_swapped(chance: random.Random, text: bytes) -> bytes:
    document = yaml.safe_load(text)
    one, two = chance.choices(_places(document), k=2)
    if one[: len(two)] != two and two[: len(one)] != one:
        a, b = _parent(document, one), _parent(document, two)
        a[one[-1]], b[two[-1]] = b[two[-1]], a[one[-1]]
    return _dumped(document)


def preset_named(chance: random.Random, text: bytes) -> bytes:
    """The preset under another name, everywhere."""
    document, name = yaml.safe_load(text), chance.choice(NAMES)
    document["presets"][name] = document["presets"].pop(document["preset"])
    document["preset"] = name
    return _dumped(document)


def model_named(chance: random.Random, text: bytes) -> bytes:
    """A model under another name, in all presets or in one."""
    document, name = yaml.safe_load(text), chance.choice(NAMES)
    models = chance.choice([document, document["presets"][document["preset"]]])["models"]
    models[name] = {"network": {"num_res_blocks": 1}}
    document["studies"][chance.choice(list(document["studies"]))]["rows"] += [{"model": name}]
    return _dumped(document)


def study_named(chance: random.Random, text: bytes) -> bytes:
    """A study under another name, which its table has as well, or a figure, a group or a sampler."""
    document, name = yaml.safe_load(text), chance.choice(NAMES)
    studies = document["studies"]
    study = studies["table_4_5"]
    match chance.choice(["study", "figure", "group", "sampler"]):
        case "study":
            studies[name] = studies.pop("table_4_5")
        case "figure":
            study["figures"][0]["name"] = name
        case "group":
            study["group"] = name
            document["presets"][document["preset"]]["groups"] = ["paper", name]
        case "sampler":
            document["samplers"][name] = document["samplers"]["ancestral"]
            study["rows"][2]["sampler"] = name
    return _dumped(document)


def row_changed(chance: random.Random, text: bytes) -> bytes:
    """A row of a study with a key of another, a list where it has a value, or shares and lists of odd sizes."""
    document = yaml.safe_load(text)
    rows = [row for study in document["studies"].values() for row in study["rows"]]
    row, other = chance.choice(rows), chance.choice(rows)
    key = chance.choice([*other, "study", "handover", "sampler", "steps"])
    shares = [0, 1, "1/3", "2/6", 0.999999, "1/999999999", "1/0", [1, "1/2"], [0.1, 0.9, 0.5], ["0.5", 0.5]]
    match chance.choice(["other", "list", "share", "study"]):
        case "other":
            row[key] = copy.deepcopy(other.get(key, "ancestral"))
        case "list":
            row[key] = [row.get(key, 1)] * chance.choice([0, 1, 2, 500])
        case "share":
            row[chance.choice(["steps", "t_mid"])] = chance.choice(shares)
        case "study":
            row["study"] = chance.choice([*document["studies"], "nothing"])
    return _dumped(document)


def path_named(chance: random.Random, text: bytes) -> bytes:
    """A folder of images by a name that a shell would misread."""
    document = yaml.safe_load(text)
    data = document["presets"][document["preset"]]["data"]
    data |= {"source": chance.choice(["image_folder", "cifar10"]), "path": chance.choice(NAMES)}
    return _dumped(document)


NAMED = (preset_named, model_named, study_named, path_named)  # which may reach a shell or leave the results folder
MUTATIONS: tuple[Mutation, ...] = (
    bytes_replaced,
    cut,
    line_removed_or_repeated,
    line_indented,
    other_encoding,
    other_document,
    scalar_written_otherwise,
    scalar_written_otherwise,
    value_replaced,
    value_replaced,
    key_removed_added_or_renamed,
    subtrees_swapped,
    row_changed,
    *NAMED,
)


def mutated(seed: int, case: int, text: bytes) -> tuple[Mutation, bytes]:
    """A case's mutation and its text: the same for the same seed and number."""
    chance = random.Random(f"{seed} {case}")
    mutation = chance.choice(MUTATIONS)
    return mutation, mutation(chance, text)
