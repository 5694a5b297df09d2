"""Documents: YAML 1.2's core schema, in bounded work, and every mistake in one line."""

import contextlib
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.config import documents
from surrodiff.errors import UserError

# Without digits: what YAML 1.1 takes for text, PyYAML leaves without quotes even where YAML 1.2 has a number.
TEXT = st.text("abé:#-[]{}&*!|>'\"%@`, \n~", max_size=8)
NO_TEXT = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False)


def nested(leaves):
    return st.recursive(leaves, lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXT, part, max_size=4))


def mistake(text: str) -> str:
    with pytest.raises(documents.Mistake) as caught:
        documents.parse(text)
    return str(caught.value)


def typed(value):
    """A value in which 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    return [typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@given(nested(NO_TEXT | TEXT))
def test_what_pyyaml_writes_is_read_back(value):
    assert typed(documents.parse(yaml.safe_dump(value, allow_unicode=True))) == typed(value)


def test_the_project_s_own_file_is_read_as_by_pyyaml(root):
    text = (root / "params.yaml").read_text()
    assert typed(documents.read(root / "params.yaml")) == typed(yaml.safe_load(text))


@given(st.floats(allow_nan=False) | st.integers(-(2**64), 2**64))
def test_numbers_as_python_prints_them_are_numbers(value):
    text = str(value).replace("inf", ".inf")
    assert typed(documents.scalar(text)) == typed(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-05", 5e-05),
        ("2e-4", 2e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("6.", 6.0),
        ("1e+3", 1000.0),
        ("-.5e1", -5.0),
        ("0o14", 12),
        ("014", 14),
        ("0x1F", 31),
        ("+7", 7),
        ("-.inf", -math.inf),
        ("~", None),
        ("TRUE", True),
        ("False", False),
        ("1e999", math.inf),
    ],
)
def test_plain_text_has_the_core_schema_s_value(text, value):
    assert typed(documents.scalar(text)) == typed(value)
    assert typed(documents.parse(f"a: {text}")) == typed({"a": value})
    assert documents.parse(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    "text", ["yes", "off", "1_000", "12:30:45", "2020-13-45", "0b11", "1e", "e5", ".", "-", "+", "\u0661"]
)
def test_what_the_core_schema_does_not_know_is_text(text):
    assert documents.scalar(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a: the same key as in line 1; keep one"),
        ("x:\n  b: {c: 1,\n    c: 2}", "line 3: x.b.c: the same key as in line 2; keep one"),
        ("a: 1\n'a': 2", "line 2: a: the same key as in line 1; keep one"),
        ("a: &a [*a]", "line 1: *a stands inside what it stands for"),
        ("a: &a {<<: *a}", "line 1: *a stands inside what it stands for"),
        ("a: *b", "line 1: *b stands for nothing: no &b before it"),
        ("a: {<<: 3}", "line 1: <<: takes over blocks only"),
        ("a: !!python/object:os.system 1", "line 1: the tag tag:yaml.org,2002:python/object:os.system; write"),
        ("a: !!int 1", "write the value without a tag"),
        ("a: ! 1", "write the value without a tag"),
        ("{[1]: 2}", "line 1: a key must be plain text"),
        ("{{a: 1}: 2}", "line 1: a key must be plain text"),
        ("a: 1\n--- \nb: 2", "line 2: a second document begins (---); keep one"),
        ("a: " + "9" * 5000, "line 1: a number of 5,000 characters; write at most 100"),
        ("a: 0." + "9" * 5000, "line 1: a number of 5,002 characters; write at most 100"),
        ("a:\n " + "[" * 100_000, "line 2: more than 20 blocks and lists inside each other"),
        ("- " * 100_000, "line 1: more than 20 blocks and lists inside each other"),
        ("{a: " * 100_000, "line 1: more than 20 blocks and lists inside each other"),
        ("\n".join(f"a{number}: 1" for number in range(300)), "more than 200 keys in one block"),
        ("a: [" + "1, " * 30_000 + "]", "more than 20,000 values"),
        ("a: 1\nb: \x00", "not valid YAML: line 2: the character '\\x00'; remove it"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1", "not valid YAML"),
        ("%YAML 3.0\n---\na: 1", "not valid YAML: line 1"),
        ("preset: [", "not valid YAML: line 1"),
        ("a: b: c", "not valid YAML: line 1"),
        ("\tpreset: test", "not valid YAML: line 1"),
        ("a: 1\n b: 2", "not valid YAML: line 2"),
    ],
)
def test_a_mistake_is_told_with_its_line(text, says):
    assert says in mistake(text)


def test_aliases_that_grow_exponentially_are_counted_and_not_followed():
    bomb = "a0: &a0 [" + "x, " * 9 + "]\n"
    bomb += "".join(f"a{n}: &a{n} [" + f"*a{n - 1}, " * 9 + "]\n" for n in range(1, 30))
    assert "more than 20,000 values, counting what aliases stand for" in mistake(bomb)
    bomb = "a0: &a0 {b: 1}\n"
    bomb += "".join(f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}\n" for n in range(1, 18))
    assert "more than 20,000 values" in mistake(bomb)


def test_anchors_and_merge_keys_share_blocks():
    text = "a: &a {x: 1, y: 2}\nb: &b {x: 3, z: 4}\nc: {<<: *a, y: 5}\nd: {y: 6, <<: [*a, *b]}\ne: [*a]"
    blocks = documents.parse(text)
    assert blocks["c"] == {"x": 1, "y": 5}
    assert blocks["d"] == {"x": 1, "y": 6, "z": 4}
    assert blocks["e"] == [{"x": 1, "y": 2}]


def test_keys_are_text():
    assert documents.parse("1: a\nyes: b\nnull: c\n2020-01-01: d") == {
        "1": "a",
        "yes": "b",
        "null": "c",
        "2020-01-01": "d",
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a: 1\n".encode("utf-16"), "line 1: not UTF-8; save the file in UTF-8"),
        ("a: 1\n".encode("utf-16-le"), "the character '\\x00'; remove it"),
        ("a: 1\nb: é".encode("latin-1"), "line 2: not UTF-8; save the file in UTF-8"),
        (b"a: \xed\xa0\x80", "not UTF-8"),
        (b"a: '" + b"x" * 2_000_000 + b"'", "larger than 1,000,000 bytes"),
        (b"a: !\xc2\x9b31m 1", "line 1"),
    ],
)
def test_a_file_that_is_no_text_or_too_large_is_told(tmp_path, data, says):
    file = tmp_path / "params.yaml"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        documents.read(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert says in message
    assert message.isprintable()


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_bytes("a: é".encode("utf-8-sig"))
    assert documents.read(file) == {"a": "é"}


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_a_value_or_one_line(tmp_path, data):
    file = tmp_path / "any.yaml"
    file.write_bytes(data)
    with contextlib.suppress(UserError):
        documents.read(file)
        return
    with pytest.raises(UserError) as caught:
        documents.read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).isprintable()


def words(value):
    """A value with its leaves as the words that stand for them in a document."""
    if isinstance(value, dict):
        return {key: words(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [words(inner) for inner in value]
    return "null" if value is None else str(value).replace("inf", ".inf")


@given(nested(NO_TEXT))
def test_words_that_lost_their_types_are_read_as_in_a_document(value):
    assert typed(documents.resolved(words(value))) == typed(value)
