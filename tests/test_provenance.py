"""The revision in records is that of the code, whatever else in the repository has changed."""

import re
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def repository(root, tmp_path):
    """A git repository with the package and one more tracked file; returns its folder."""
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "table.csv").write_text("1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "All"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


def revision(folder) -> str:
    code = f"import sys; sys.path.insert(0, {str(folder / 'src')!r}); from surrodiff import provenance as p; "
    printed = subprocess.run(
        [sys.executable, "-c", code + "print(p.revision())"], cwd=folder, capture_output=True, text=True, check=True
    )
    return printed.stdout.strip()


def test_a_changed_table_is_no_changed_code(repository):
    clean = revision(repository)
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (repository / "table.csv").write_text("2\n")
    assert revision(repository) == clean
    (repository / "src/surrodiff/noise.py").open("a").write("# another\n")
    assert revision(repository) == f"{clean}-dirty"


def test_outside_git_it_is_the_version(repository):
    shutil.rmtree(repository / ".git")
    assert re.fullmatch(r"\d+\.\d+\.\d+", revision(repository))
