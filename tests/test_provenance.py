"""The revision in records is that of the code, whatever else in the repository has changed, or none."""

import importlib.util
import re
import shutil
import subprocess

import pytest

VERSION = r"\d+\.\d+\.\d+"


def commit_all(folder):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "All"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)


def copy_package(root, folder):
    shutil.copytree(root / "src/surrodiff", folder / "surrodiff", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def repository(root, tmp_path):
    """A git repository with the package and one more tracked file; returns its folder."""
    copy_package(root, tmp_path / "src")
    (tmp_path / "table.csv").write_text("1\n")
    commit_all(tmp_path)
    return tmp_path


def revision(source) -> str:
    """The revision of the package below `source`, by its own provenance.py."""
    spec = importlib.util.spec_from_file_location("copied_provenance", source / "surrodiff/store/provenance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.revision()


def test_a_changed_table_is_no_changed_code(repository):
    clean = revision(repository / "src")
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (repository / "table.csv").write_text("2\n")
    assert revision(repository / "src") == clean
    (repository / "src/surrodiff/runtime/noise.py").open("a").write("# another\n")
    assert revision(repository / "src") == f"{clean}-dirty"


def test_outside_git_it_is_the_version(repository):
    shutil.rmtree(repository / ".git")
    assert re.fullmatch(VERSION, revision(repository / "src"))


def test_without_git_it_is_the_version(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository / "empty"))
    assert re.fullmatch(VERSION, revision(repository / "src"))


def test_before_the_first_commit_it_is_the_version(root, tmp_path):
    copy_package(root, tmp_path)
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    assert re.fullmatch(VERSION, revision(tmp_path))


def test_in_an_environment_below_somebody_else_s_repository_it_is_the_version(root, tmp_path, monkeypatch):
    (tmp_path / ".gitignore").write_text(".venv/\n")
    commit_all(tmp_path)
    packages = tmp_path / ".venv/lib/site-packages"
    copy_package(root, packages)
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(VERSION, revision(packages))


def test_what_a_hook_of_another_repository_exports_does_not_mislead(repository, root, tmp_path_factory, monkeypatch):
    clean = revision(repository / "src")
    other, lone = (tmp_path_factory.mktemp(name) for name in ("other", "lone"))
    copy_package(root, other / "src")
    (other / "more").write_text("")
    commit_all(other)
    copy_package(root, lone)
    assert revision(other / "src") != clean
    monkeypatch.chdir(other)
    for name, path in {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}.items():
        monkeypatch.setenv(name, str(other / path))
    assert revision(repository / "src") == clean
    assert re.fullmatch(VERSION, revision(lone))


def test_in_a_repository_of_another_owner_it_is_the_version(repository, monkeypatch):
    # git's own switch for its tests: it then refuses to read the repository, as it does somebody else's.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert re.fullmatch(VERSION, revision(repository / "src"))
