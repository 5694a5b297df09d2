"""Projects in which the real workflow runs."""

import fcntl
import shutil
from pathlib import Path

import pytest
from project import Project, Repository, trained


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """The copy lies under a path with a space, as users' folders do."""
    path = tmp_path_factory.mktemp("a project")
    return Project(path)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory, worker_id) -> Repository:
    """Everything made by `dvc repro`, committed and pushed; not to be changed, but cloned. It is made once for all of
    pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "recorded"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder / "the origin", ignore_errors=True)
            shutil.rmtree(folder / "the remote", ignore_errors=True)
            _record(folder / "the origin", folder / "the remote")
            (folder / "complete").touch()
    return Repository.at(folder / "the origin")


def _record(origin: Path, remote: Path):
    origin.mkdir()
    remote.mkdir()
    repository = Repository.start(origin, remote)
    printed = repository.succeed("dvc", "repro")
    assert sorted(trained(printed)) == ["DeepRes1", "Default", "IWDiff", "SNGAN", "ShortDiffusion", "classifier"]
    repository.commit("Make everything")
    repository.succeed("dvc", "push")


@pytest.fixture
def clone(recorded, tmp_path) -> Repository:
    return Repository.clone(recorded, tmp_path / "a clone")
