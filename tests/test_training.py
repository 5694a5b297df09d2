"""The training loop: what it logs, and what a damaged log costs."""

import csv

import pytest

from surrodiff import training
from surrodiff.training import LossLog


def read(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_last_step_is_logged_however_rarely_the_others_are(own_results, run_named, execution, cpu):
    """A figure needs the log, and no later number of `execution` would bring it back."""
    import shutil

    run = run_named("models", "Default")
    folder = own_results / "models" / run.id
    shutil.rmtree(folder)
    training.train(run, own_results, cpu, {**execution, "log_every": 1000})
    rows = read(folder / "losses.csv")
    assert [row["step"] for row in rows] == ["6"]
    assert float(rows[0]["loss_uniform_t"]) > 0


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("", []),
        ("step,lo", []),
        ("step,loss,seconds\n", []),
        ("step,loss,seconds\n1,0.5,0.1\n2,0.4,0.2\n3,0.3,0.3\n", ["1", "2"]),
        ("step,loss,seconds\n1,0.5,0.1\n2,0.", ["1"]),
    ],
)
def test_a_log_goes_on_after_the_checkpoint_whatever_was_cut(tmp_path, content, kept):
    path = tmp_path / "losses.csv"
    path.write_text(content)
    log = LossLog(path, resumed_step=2)
    log.add({"step": 3, "loss": 0.25, "seconds": 0.5})
    rows = read(path)
    assert [row["step"] for row in rows] == [*kept, "3"]
    assert rows[-1] == {"step": "3", "loss": "0.25", "seconds": "0.5"}
