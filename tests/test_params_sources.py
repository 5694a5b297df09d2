"""Where parameters come from: a file that is missing or broken, and the command line beside it."""

import pytest
import yaml
from test_params import TEST, remove

from surrodiff.config import params
from surrodiff.errors import UserError


def load_error(path) -> str:
    with pytest.raises(UserError) as caught:
        params.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_missing_file_is_told(tmp_path):
    assert "--params" in load_error(tmp_path / "params.yaml")


def test_a_folder_in_the_file_s_place_is_told(tmp_path):
    assert "directory" in load_error(tmp_path)


def test_broken_yaml_is_told_with_its_line(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("preset: test\ntables: {a")
    assert "not valid YAML: line 2: " in load_error(file)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- test\n", "test\n"])
def test_a_file_without_keys_is_told(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    assert "must be a block of keys" in load_error(file)


def test_text_of_the_command_line_is_read_as_in_the_file(root):
    """Snakemake hands over every value inside `--config` as text."""
    training = {"learning_rate": "5e-05", "steps": "8", "horizontal_flip": "true"}
    changes = {"preset": "test", "presets": {"test": {"models": {"Default": {"training": training}}}}}
    changes["presets"]["test"] |= {"execution": {"micro_batch": "null"}, "evaluated_steps": ["2", "4"]}
    loaded = params.load(root / "params.yaml", changes)
    default = loaded.selected.models["Default"].training
    assert (default.learning_rate, default.steps, default.horizontal_flip) == (5e-05, 8, True)
    assert loaded.selected.evaluated_steps == [2, 4]
    assert loaded.selected.execution.micro_batch is None
    assert default.batch_size == 8  # the file's


def refused_lines(root, changes: dict) -> list[str]:
    with pytest.raises(UserError) as caught:
        params.load(root / "params.yaml", changes)
    return [line.removeprefix(str(root)).removeprefix("/") for line in str(caught.value).splitlines()]


def test_a_mistake_of_the_command_line_is_told_as_possibly_its_own(root):
    changes = {"preset": "test", "presets": {"test": {"data": {"seed": "x", "held_out": "0"}}}}
    assert [line.split(": ")[:2] for line in refused_lines(root, changes)] == [
        ["params.yaml or --config", "presets.test.data.held_out"],
        ["params.yaml or --config", "presets.test.data.seed"],
    ]


def test_a_mistake_that_the_command_line_does_not_touch_is_the_file_s_alone(tmp_path, raw):
    remove(raw, f"{TEST}.data.seed")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    (line,) = refused_lines(tmp_path, {"preset": "test"})
    assert line == "params.yaml: presets.test.data.seed: missing"


def test_a_command_line_that_goes_on_for_ever_is_told(root):
    circle: list = []
    circle.append(circle)
    (line,) = refused_lines(root, {"presets": circle})
    assert line.startswith("--config: more than")
