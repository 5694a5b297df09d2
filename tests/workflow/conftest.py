"""Projects in which the real workflow runs."""

import pytest
from project import Project, Repository, trained


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """The copy lies under a path with a space, as users' folders do."""
    path = tmp_path_factory.mktemp("a project")
    return Project(path)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Repository:
    """Everything made by `dvc repro`, committed and pushed; not to be changed, but cloned."""
    repository = Repository.start(tmp_path_factory.mktemp("the origin"), tmp_path_factory.mktemp("the remote"))
    printed = repository.succeed("dvc", "repro")
    assert sorted(trained(printed)) == ["DeepRes1", "Default", "IWDiff", "SNGAN", "ShortDiffusion", "classifier"]
    repository.commit("Make everything")
    repository.succeed("dvc", "push")
    return repository


@pytest.fixture
def clone(recorded, tmp_path) -> Repository:
    return Repository.clone(recorded, tmp_path / "a clone")
