"""What the tests share: the `test` preset, its plan, and a small results folder that is made once."""

import copy
import shutil
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings

from surrodiff.config import params as params_module
from surrodiff.config.presets import Execution
from surrodiff.planning import plan as plan_module
from surrodiff.planning.runs import Run
from surrodiff.scoring import features
from surrodiff.stages import registry
from surrodiff.stages.job import Job

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "surrodiff",
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("surrodiff")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def _read_once() -> dict:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"preset": "test", "device": "cpu"}
    files = sorted((ROOT / params_module.STUDIES).glob("*.yaml"))
    return raw | {"studies": {file.stem: yaml.safe_load(file.read_text()) for file in files}}


@pytest.fixture
def raw(_read_once) -> dict:
    """params.yaml and the studies as loaded, preset `test` on the CPU; a copy to change at will."""
    return copy.deepcopy(_read_once)


@pytest.fixture(scope="session")
def params(_read_once):
    """The validated parameters, preset `test`."""
    return params_module.parse(_read_once)


@pytest.fixture(scope="session")
def plan(params):
    """The plan of the preset `test`."""
    return plan_module.build(params)


@pytest.fixture(scope="session")
def execution(params) -> Execution:
    return params.selected.execution


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture(scope="session")
def make(execution, cpu):
    """Make a run on the CPU, with some numbers of `execution` changed; returns its record."""

    def make(run: Run, results: Path, **changes) -> dict | None:
        return registry.make(run, Job(results, cpu, execution.model_copy(update=changes)))

    return make


@pytest.fixture(scope="session")
def run_named(plan):
    """The run of the plan with a stage and a name."""

    def find(stage: str, name: str) -> Run:
        return next(run for run in plan.runs.values() if (run.stage, run.name) == (stage, name))

    return find


@pytest.fixture(scope="session")
def results(tmp_path_factory, run_named, make) -> Path:
    """A results folder with digits, Default, SNGAN, the classifier, the reference, and Default's scored samples.

    For reading only: a test that changes it takes `own_results`.
    """
    folder = tmp_path_factory.mktemp("shared") / "test"
    for stage, name in (
        ("data", "digits"),
        ("models", "Default"),
        ("models", "SNGAN"),
        ("models", "classifier"),
        ("references", "classifier"),
        ("samples", "Default_6"),
        ("scores", "Default_6"),
    ):
        make(run_named(stage, name), folder)
    return folder


@pytest.fixture(scope="session")
def trained(results, _read_once, cpu, make, tmp_path_factory):
    """Results with a classifier that has learned something, its plan, and the network."""
    raw = copy.deepcopy(_read_once)
    classifier = {"channels": 16, "steps": 150, "batch_size": 64, "learning_rate": 0.005}
    raw["presets"]["test"]["scoring"]["classifier"] |= classifier
    plan = plan_module.build(params_module.parse(raw))
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").symlink_to(results / "data")
    classifier_run = next(run for run in plan.runs.values() if run.name == "classifier" and run.stage == "models")
    for run in (classifier_run, plan.runs[plan.reference]):
        make(run, folder)
    return folder, plan, features.classifier(folder, classifier_run.id, cpu)


@pytest.fixture
def own_results(results, tmp_path) -> Path:
    """A copy of the results folder, to damage at will."""
    return Path(shutil.copytree(results, tmp_path / "results" / "test"))


@pytest.fixture
def no_network():
    """Every download fails at once, whether or not there is a network."""
    nowhere = "http://127.0.0.1:9"
    proxies = urllib.request.ProxyHandler({"http": nowhere, "https": nowhere})
    urllib.request.install_opener(urllib.request.build_opener(proxies))
    yield
    urllib.request.install_opener(None)
