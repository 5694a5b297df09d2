"""Devices are handed out by lock: never one to two processes, and never a wait while one is free."""

import itertools
import json
import os
import subprocess
import sys
import time

import pytest
import torch

from surrodiff.errors import UserError
from surrodiff.runtime import devices

CLAIM = """
import json, sys, time, torch
from surrodiff.runtime import devices
with devices.claimed(torch.device("cpu")) as found:
    began = time.time()
    time.sleep(float(sys.argv[1]))
    print(json.dumps([str(found), began, time.time()]))
"""


# Fills the memory of large tensors again and again; prints how many pages it had to get, and how many it filled.
PAGES = """
import resource, torch
from surrodiff.runtime import devices
devices.resolve("cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(30):
    torch.ones(16, 1024, 1024).mul(2)  # twice 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, 30 * 128 * 2**20 // resource.getpagesize())
"""


@pytest.fixture
def claim(root, tmp_path):
    """Start a process that claims a device for some seconds."""

    def start(seconds: float, names: str) -> subprocess.Popen:
        environment = {"PYTHONPATH": str(root / "src"), "SURRODIFF_DEVICES": names, "TMPDIR": str(tmp_path)}
        return subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(seconds)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_each_device_has_one_holder_at_a_time_and_all_are_used(claim):
    processes = [claim(2, "cpu:0, cpu:1") for _ in range(5)]
    output = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 5
    held = sorted(json.loads(printed) for printed, _ in output)
    assert {name for name, _, _ in held} == {"cpu:0", "cpu:1"}
    for (name, _, end), (next_name, start, _) in itertools.pairwise(held):
        assert name != next_name or start >= end
    assert any("all 2 devices are taken; waiting for one" in said for _, said in output)


def test_a_killed_holder_s_device_is_free(claim):
    holder = claim(60, "cpu:0,cpu:1")
    while "device cpu:0" not in holder.stderr.readline():
        time.sleep(0.01)
    holder.kill()
    holder.communicate()
    printed, _ = claim(0, "cpu:0,cpu:1").communicate(timeout=60)
    assert json.loads(printed)[0] == "cpu:0"


def test_the_only_device_is_not_locked():
    with devices.claimed(torch.device("cpu")) as first, devices.claimed(torch.device("cpu")) as second:
        assert first == second == torch.device("cpu")


def test_a_wrong_list_is_told(monkeypatch):
    monkeypatch.setenv("SURRODIFF_DEVICES", "gpu one")
    with pytest.raises(UserError, match="SURRODIFF_DEVICES=gpu one"), devices.claimed(torch.device("cpu")):
        pass


def test_memory_that_was_freed_is_used_again_without_the_system(root):
    process = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True, cwd=root)
    fetched, filled = map(int, process.stdout.split())
    assert fetched < 0.5 * filled  # small tensors in between may spoil a place now and then
