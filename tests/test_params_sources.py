"""Where parameters come from: a file that is missing or broken, and the command line beside it."""

import re
from pathlib import Path

import pytest
import yaml
from test_params import put, remove

from surrodiff.config.params import STUDIES, load, of_config
from surrodiff.errors import UserError


def load_error(path, named=None) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(named or path) in message
    return message


def test_a_missing_file_is_told(tmp_path):
    assert "--params" in load_error(tmp_path / "params.yaml")


def test_a_folder_in_the_file_s_place_is_told(tmp_path):
    assert "directory" in load_error(tmp_path)


def test_broken_yaml_is_told_with_its_line(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("preset: test\nmodels: {a")
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
    changes["presets"]["test"] |= {"execution": {"micro_batch": "null"}, "seeds": {"training": ["2", "4"]}}
    loaded = load(root / "params.yaml", changes)
    default = loaded.selected.models["Default"].training
    assert (default.learning_rate, default.steps, default.horizontal_flip) == (5e-05, 8, True)
    assert loaded.selected.seeds.training == [2, 4]
    assert loaded.selected.execution.micro_batch is None
    assert default.batch_size == 8  # the file's


def refused_lines(root, changes: dict) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(root / "params.yaml", changes)
    return [line.removeprefix(str(root)).removeprefix("/") for line in str(caught.value).splitlines()]


def test_a_mistake_of_the_command_line_is_told_as_possibly_its_own(root):
    changes = {"preset": "test", "presets": {"test": {"data": {"seed": "x", "held_out": "0"}}}}
    assert [line.split(": ")[:2] for line in refused_lines(root, changes)] == [
        ["params.yaml or --config", "presets.test.data.held_out"],
        ["params.yaml or --config", "presets.test.data.seed"],
    ]


def test_a_mistake_that_the_command_line_does_not_touch_is_the_file_s_alone(tmp_path, raw):
    remove(raw, "presets.paper.data.seed")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    (line,) = refused_lines(tmp_path, {"preset": "test"})
    assert line == "params.yaml: presets.paper.data.seed: missing"
    (line,) = refused_lines(tmp_path, {"presets": {"test": {"data": {"revision": "3"}}}})
    assert line == "params.yaml: presets.paper.data.seed: missing"


def test_a_mistake_of_the_command_line_in_what_presets_inherit_is_told_once(root):
    assert refused_lines(root, {"models": {"Default": {"training": {"steps": "x"}}}}) == [
        "params.yaml or --config: models.Default.training.steps: must be a whole number, got 'x'"
    ]
    assert refused_lines(root, {"presets": {"paper": {"timing": {"rounds": "0"}}}}) == [
        "params.yaml or --config: presets.paper.timing.rounds: Input should be greater than or equal to 1, got 0"
    ]


def test_a_mistake_of_the_file_beside_a_change_of_the_command_line_is_the_file_s(tmp_path, raw):
    put(raw, "models.Default.training.batch_size", 0)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    changes = {"presets": {"quick": {"models": {"Default": {"training": {"steps": "2000"}}}}}}
    (line,) = refused_lines(tmp_path, changes)
    assert line.startswith("params.yaml: models.Default.training.batch_size: ")


@pytest.fixture
def split(tmp_path, raw) -> Path:
    """A folder with params.yaml and the studies beside it, as the repository has them."""
    studies = raw.pop("studies")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (tmp_path / STUDIES).mkdir(parents=True)
    for name, study in studies.items():
        (tmp_path / STUDIES / f"{name}.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return tmp_path


def test_studies_beside_the_file_and_inside_it_are_the_same(split, raw, params):
    assert load(split / "params.yaml") == params


def test_studies_of_another_folder_are_read_where_it_is_given(split, params):
    (split / STUDIES).rename(split / "own studies")
    assert load(split / "params.yaml") == params, "the repository's own"
    (split / "own studies/likelihood.yaml").unlink()
    assert load(split / "params.yaml", folder=split / "own studies") != params
    (split / STUDIES).mkdir()
    assert "no studies (*.yaml) here" in load_error(split / "params.yaml", named=split / STUDIES)


def test_a_document_that_has_its_studies_reads_no_others(split, raw, params):
    (split / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    for file in (split / STUDIES).iterdir():
        file.write_text("{")
    assert load(split / "params.yaml") == params


def test_a_mistake_in_a_study_is_told_with_its_file(split):
    file = split / STUDIES / "table_4_1.yaml"
    text = file.read_text()
    for line, damaged in (
        ("title: missing", re.sub(r"title: .*\n", "", text)),
        ("rows.0.model: presets.paper.models has no 'Defualt'; there are ", text.replace("l: Default", "l: Defualt")),
        ("not valid YAML: line 2: ", "{" + text),
    ):
        file.write_text(damaged)
        assert load_error(split / "params.yaml", named=file).startswith(f"{file}: {line}")


def test_a_configuration_of_a_module_is_read_as_text_with_the_studies_of_its_folder(split, raw, params):
    """Snakemake hands over every value of it as text."""

    def as_text(value):
        if isinstance(value, dict):
            return {key: as_text(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [as_text(inner) for inner in value]
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    config = as_text(raw)
    assert of_config(config, split / STUDIES) == params
    assert of_config(params.model_dump(mode="json"), split / "nowhere") == params
    config["presets"]["test"]["sampling"]["num_samples"] = "3"
    with pytest.raises(UserError, match=r"^config: presets\.test\.sampling\.num_samples: .*, got 3$"):
        of_config(config, split / STUDIES)


def test_a_command_line_that_goes_on_for_ever_is_told(root):
    circle: list = []
    circle.append(circle)
    (line,) = refused_lines(root, {"presets": circle})
    assert line.startswith("--config: more than")
