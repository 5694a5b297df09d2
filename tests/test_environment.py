"""Odd environments: no home, no name, no usable cache, a locale without UTF-8. What needs none of them works."""

import json
import os
import subprocess
import sys

import pytest
import yaml

# The user database knows nobody, as in a container that runs with an arbitrary uid.
NOBODY = """
import pwd, sys

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
"""
MAIN = "import sys; from surrodiff import cli; sys.exit(cli.main(sys.argv[1:]))"

TRAIN = """
import os, sys
from surrodiff import cli

for command in (["data", "digits"], ["train", "Default"]):
    if cli.main([*command, *sys.argv[1:]]):
        sys.exit(1)
print(os.environ["TORCHINDUCTOR_CACHE_DIR"])
"""


@pytest.fixture
def python(root, tmp_path):
    """Run code in a folder of its own that holds params.yaml, with nothing but these environment variables."""
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())

    def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root / "src"), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.run(command, cwd=tmp_path, env=base | environment, capture_output=True)
        assert b"Traceback" not in process.stderr, process.stderr.decode(errors="replace")
        return process

    return run


# A user without a name and a home, and one whose home can hold nothing.
HOMELESS = pytest.mark.parametrize(("code", "environment"), [(NOBODY + TRAIN, {}), (TRAIN, {"HOME": os.devnull})])


@HOMELESS
def test_training_on_digits_needs_no_home(python, tmp_path, code, environment):
    process = python(code, "--preset", "test", "--device", "cpu", **environment)
    assert process.returncode == 0, process.stderr
    data, model, compiled = process.stdout.decode().splitlines()
    assert all((tmp_path / run / "record.json").exists() for run in (data, model))
    assert compiled == str(tmp_path / f"surrodiff-{os.getuid()}/compiled")


def test_a_download_without_a_home_says_what_to_set(python):
    code = """
from surrodiff import errors
from surrodiff.scoring import features
with errors.shown():
    features.inception_file()
"""
    process = python(NOBODY + code)
    assert process.returncode == 1
    (line,) = process.stderr.decode().splitlines()
    assert "no home directory: set XDG_CACHE_HOME" in line
    assert line.endswith("or HOME")


def test_a_folder_in_no_home_is_named(python, tmp_path):
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text())
    data = {"source": "image_folder", "path": "~/images", "image_size": 8, "channels": 1, "held_out": 0.2}
    raw["presets"]["test"]["data"] = data | {"seed": 0, "revision": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    process = python(NOBODY + MAIN, "data", "image_folder", "--preset", "test")
    assert process.returncode == 1
    lines = [line for line in process.stderr.decode().splitlines() if ": warning: " not in line]
    assert lines == ["surrodiff: data.path: '~/images' names no home directory here; write the whole path"]


def test_a_locale_without_utf_8_is_no_hindrance(python, tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    results = tmp_path / "r\u00e9sultats"
    process = python(MAIN, "data", "digits", "--preset", "test", "--results", str(results), **ascii_only)
    assert process.returncode == 0, process.stderr
    (record,) = results.glob("data/*/record.json")
    assert json.loads(record.read_bytes())["source"] == "digits"
    assert process.stdout == os.fsencode(record.parent) + b"\n"
