"""Commands of the real program in a copy of the project, and what may not be seen of them."""

import resource
import subprocess
import sys

from workflow.project import Project

TRACEBACK = "Traceback (most recent call last)"
SECONDS = 300
MEMORY = 16 * 2**30  # of addresses: PyTorch alone takes several GB of them


def output(project: Project, words: list[str]) -> tuple[int | None, str]:
    """The exit code of a Python module's command line, None if it took too long, and what it printed."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    command = [sys.executable, "-m", *words]
    process = subprocess.Popen(command, cwd=project.path, env=project.environment(), preexec_fn=limit, **streams)
    try:
        printed, _ = process.communicate(timeout=SECONDS)
        return process.returncode, printed.decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.kill()
        return None, process.communicate()[0].decode(errors="replace")


def complaint(code: int | None, printed: str) -> tuple[str, str] | None:
    """What is wrong with a command's end, and its last words; None if it did well or refused in a line of its own."""
    words = printed.strip()[-300:]
    if code is None:
        return "hang", words
    if TRACEBACK in printed:
        return "traceback", words
    if code and "surrodiff: " not in printed:
        return "failure without a message", words
    return None
