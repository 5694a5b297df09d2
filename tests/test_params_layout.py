"""params.yaml is written as DVC writes it: `dvc exp run -S` changes the lines of its numbers and no other."""

import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from surrodiff.config import documents, params


@pytest.fixture
def copy(tmp_path, root):
    """A copy of params.yaml."""
    return Path(shutil.copy(root / "params.yaml", tmp_path / "params.yaml"))


def changed_lines(root, copy) -> list[tuple[str, str]]:
    """The lines before and after, in a file that has as many."""
    before, after = ((file / "params.yaml").read_text().splitlines() for file in (root, copy.parent))
    return [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]


def leaves(value, keys=()):
    """(dotted key, value) of everything that is no block; a list is one value."""
    if not isinstance(value, dict):
        yield ".".join(keys), value
        return
    for key, inner in value.items():
        yield from leaves(inner, (*keys, key))


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (
            ["preset=paper"],
            [("preset: demo      # test | demo | quick | paper", "preset: paper     # test | demo | quick | paper")],
        ),
        (["models.Default.training.steps=200000"], [("      steps: 150000", "      steps: 200000")]),
        (
            ["models.Default.training.learning_rate=5e-05"],
            [("      learning_rate: 0.0002", "      learning_rate: 5e-05")],
        ),
        (["models.DeepRes1.network.num_res_blocks=3"], [("1}}", "3}}")]),
        (["samplers.ancestral.clip_x0=true"], [("clip_x0: false}", "clip_x0: true}")]),
        (["presets.quick.models.Default.training.steps=8000"], [("          steps: 6000", "          steps: 8000")]),
        (["presets.demo.models.ShortDiffusion.diffusion.T=8"], [("{T: 6,", "{T: 8,")]),
        (["presets.quick.sampling.num_samples=600"], [("num_samples: 5000}", "num_samples: 600}")]),
        (["presets.paper.execution.micro_batch=64"], [("micro_batch:", "micro_batch: 64")]),
        (
            ["presets.quick.likelihood.num_images=600", "presets.test.timing.rounds=3", "device=cpu"],
            [
                ("device: auto ", "device: cpu  "),
                ("num_images: 500}", "num_images: 600}"),
                ("rounds: 2,", "rounds: 3,"),
            ],
        ),
    ],
)
def test_dvc_changes_the_lines_of_the_numbers_alone(root, copy, overrides, lines):
    apply_overrides(str(copy), overrides)
    changes = changed_lines(root, copy)
    assert len(changes) == len(lines)
    for (before, after), (old, new) in zip(changes, lines, strict=True):
        assert after == before.replace(old, new) != before
    params.load(copy, folder=root / params.STUDIES)


@pytest.mark.parametrize(
    ("override", "old", "new"),
    [
        (
            "+presets.demo.likelihood.seed=3",
            "{num_images: 64, samples: 500}",
            "{num_images: 64, samples: 500, seed: 3}",
        ),
        ("+presets.test.sampling.precision=float32", "{num_samples: 64}", "{num_samples: 64, precision: float32}"),
        ("+presets.quick.diagnosis.seed=3", "repetitions: 16}", "repetitions: 16, seed: 3}"),
    ],
)
def test_a_number_that_a_preset_inherits_is_added_to_its_line(root, copy, override, old, new):
    apply_overrides(str(copy), [override])
    ((before, after),) = changed_lines(root, copy)
    assert after == before.replace(old, new) != before
    ours, before = (params.load(file, folder=root / params.STUDIES).presets for file in (copy, root / "params.yaml"))
    changed = [name for name in before if ours[name] != before[name]]
    assert changed == [override.split(".")[1]]


@pytest.mark.parametrize(
    ("override", "added"),
    [
        ("+presets.demo.scoring.classifier.seed=3", ["        seed: 3"]),
        ("+presets.quick.scoring.is_splits=5", ["    scoring:", "      is_splits: 5"]),
        ("+models.Deep3.network.num_res_blocks=3", ["  Deep3:", "    network:", "      num_res_blocks: 3"]),
    ],
)
def test_what_is_new_is_added_and_no_other_line_changes(root, copy, override, added):
    before = copy.read_text().splitlines()
    apply_overrides(str(copy), [override])
    after = copy.read_text().splitlines()
    at = next(number for number, line in enumerate(after) if before[number] != line)
    assert after[at : at + len(added)] == added
    assert after[:at] + after[at + len(added) :] == before
    params.load(copy, folder=root / params.STUDIES)


def test_every_value_can_be_set_and_one_set_to_itself_changes_nothing(root, copy):
    def shown(value) -> str:
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    values = [*leaves(documents.read(copy))]
    assert len(values) > 200
    apply_overrides(str(copy), [f"{key}={shown(value)}" for key, value in values])
    assert copy.read_bytes() == (root / "params.yaml").read_bytes()


def test_dvc_s_reader_and_ours_see_the_same(root, copy):
    apply_overrides(str(copy), ["models.Default.training.learning_rate=1e-05"])
    ours = documents.read(copy)
    assert ours["models"]["Default"]["training"].pop("learning_rate") == 1e-05
    theirs = yaml.safe_load((root / "params.yaml").read_text())
    del theirs["models"]["Default"]["training"]["learning_rate"]
    assert ours == theirs
