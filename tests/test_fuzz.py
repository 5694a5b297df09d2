"""Short runs of the fuzzers (docs/reliability.md): nothing that the program reads ends in a traceback, hangs it, or is
believed though it was damaged."""

from pathlib import Path

import pytest
from reliability import params_fuzz
from reliability.files_fuzz import SCENARIOS, Files
from reliability.findings import Report
from reliability.params_mutations import MUTATIONS, NAMED, mutated
from small_studies import one_model

pytestmark = pytest.mark.long
SEED = 1
# One that reads each kind of file; the others read them in the same ways.
CHOSEN = ("resume a training", "resume sampling", "resume a likelihood", "score", "table table_4_4", "summary")


def test_every_params_file_is_accepted_or_refused_in_lines_that_name_it():
    report = params_fuzz.fuzz(range(150), SEED, real=0)
    assert not report.findings, report.summary()
    assert report.outcomes["accepted"] > 0 < report.outcomes["refused"]


def test_a_preset_with_a_shells_characters_runs_no_command(tmp_path):
    """If it is accepted at all, the real workflow runs, and writes only where it may."""
    text = params_fuzz.original()
    named = [case for case in range(100) if mutated(SEED, case, text)[0] in NAMED]
    for case in named:
        mutation, damaged = mutated(SEED, case, text)
        path = tmp_path / "params.yaml"
        path.write_bytes(damaged)
        ended, findings = params_fuzz.check(case, mutation.__name__, path)
        assert not findings
        if ended.how == "returned":
            folder = tmp_path / f"case {case}"
            assert not params_fuzz.run_for_real(case, mutation.__name__, damaged, folder, named=True)
            break


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    chosen = tuple(scenario for scenario in SCENARIOS if scenario.name in CHOSEN)
    assert len(chosen) == len(CHOSEN)
    return Files(Path(tmp_path_factory.mktemp("fuzz")) / "states", chosen, one_model())


def test_every_damaged_file_is_made_again_or_refused_in_a_line_that_names_it(files):
    report = Report()
    for case in range(40):
        report.add(*files.check(SEED, case))
    assert not report.findings, report.summary()
    assert report.outcomes["refused"] > 0


def test_cases_are_the_same_for_a_seed():
    text = params_fuzz.original()
    assert [mutated(SEED, case, text) for case in range(20)] == [mutated(SEED, case, text) for case in range(20)]
    assert {mutated(SEED, case, text)[0] for case in range(120)} == set(MUTATIONS)
