"""The paper's claims: what each comparison says, that they name real rows, and that the paper's own numbers bear them
out."""

import math
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from plans import changed_plan
from records import change_record, fill

from surrodiff import claims, params, tables
from surrodiff.claims import FAILS, HOLDS, UNDECIDED, UNKNOWN, compare, conclusion
from surrodiff.plan import build
from surrodiff.recipes import recipe, sidecar

NUMBERS = st.floats(-1e6, 1e6)
CLAIMS = yaml.safe_load(Path(claims.__file__).with_name("claims.yaml").read_text())
TABLES = [f"table_4_{n}" for n in range(1, 6)]


@given(NUMBERS, NUMBERS, st.floats(0, 1e6))
def test_a_comparison_and_its_opposite_never_both_hold(left, right, interval):
    verdicts = [compare(left, relation, right, interval) for relation in "<>"]
    assert verdicts in ([HOLDS, FAILS], [FAILS, HOLDS], [UNDECIDED, UNDECIDED])
    assert compare(left, "<", right, interval) == compare(right, ">", left, interval)
    assert compare(left, "=", right, interval) == compare(right, "=", left, interval)


@pytest.mark.parametrize(
    ("left", "right", "interval", "verdict"),
    [
        (95.0, 100.0, 1.0, HOLDS),
        (95.0, 100.0, 6.0, UNDECIDED),  # a wide interval shows no equality
        (50.0, 100.0, 39.0, FAILS),
        (50.0, 100.0, 41.0, UNDECIDED),
    ],
)
def test_almost_equal_is_within_a_tenth_for_the_whole_interval(left, right, interval, verdict):
    assert compare(left, "=", right, interval) == verdict


@pytest.mark.parametrize("relation", ["<", ">", "="])
def test_what_was_not_measured_is_not_decided(relation):
    assert compare(None, relation, 1.0, 0.0) == compare(1.0, relation, None, 0.0) == UNKNOWN


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, UNDECIDED], UNDECIDED),
        ([UNDECIDED, FAILS, HOLDS], FAILS),
        ([HOLDS, UNKNOWN], UNKNOWN),
        ([UNKNOWN, FAILS], FAILS),
    ],
)
def test_a_claim_holds_only_with_all_of_its_comparisons(verdicts, expected):
    assert conclusion(verdicts) == expected


@pytest.fixture(scope="module")
def judged(plan, tmp_path_factory) -> pd.DataFrame:
    results = tmp_path_factory.mktemp("claims") / "test"
    fill(plan, results, "classifier", 64)
    made = recipe(plan, "claims")
    tables.write_claims(made, results)
    assert (results / "claims.json").read_text() == sidecar(made, results)
    return pd.read_csv(results / "claims.csv", keep_default_na=False)


def test_every_claim_is_judged_and_says_what_it_rests_on(judged):
    assert judged["claim"].tolist() == [claim["claim"] for claim in CLAIMS]
    assert judged["verdict"].isin([HOLDS, FAILS, UNDECIDED]).all(), "every row and metric that a claim names is there"
    assert (judged["features"] == "classifier").all()
    assert (judged["num_samples"] == 64).all()
    assert (judged["data"] == "digits").all()
    assert (judged["train_steps"] == 6).all()


def test_the_paper_s_own_numbers_bear_out_what_it_says(judged):
    found = judged.set_index("claim")["in_the_papers_numbers"]
    # It prints no variance of a loss, and the control is not in it.
    silent = {
        "importance sampling lowers the variance of the loss",
        "IWDiff improves on as many noises with equal weights",
    }
    assert set(found.index[found == UNKNOWN]) == silent
    assert set(found.index[found == HOLDS]) == set(found.index) - silent


def test_quotes_are_the_paper_s_and_only_the_control_has_none():
    assert [claim["claim"] for claim in CLAIMS if not claim["quote"]] == [
        "IWDiff improves on as many noises with equal weights"
    ]


def scored(plan, results, distances: dict[str, float]) -> pd.DataFrame:
    """The claims of Table 4.4 where rows have these Frechet distances, errors of 1, and equal Inception Scores of 5."""
    fill(plan, results, "classifier", 64)
    for row in plan.tables["table_4_4"]:
        distance = distances.get(row["model"], 50.0)

        def change(record: dict, distance: float = distance):
            record["train"] |= {"frechet_distance": distance, "frechet_error": 1.0}
            record |= {"is_mean": 5.0 - distance / 50, "is_std": 0.02}

        change_record(results / "scores" / row["runs"][0]["score"], change)
    return claims.judge(recipe(plan, "table_4_4"), results).set_index("claim")


@pytest.mark.parametrize(
    ("uniform", "verdict"),
    [(40.0, HOLDS), (20.0, FAILS), (30.0 + 1.9 * math.sqrt(2), UNDECIDED), (30.0 + 2.1 * math.sqrt(2), HOLDS)],
)
def test_the_control_is_judged_by_the_interval_of_the_difference(raw, tmp_path, uniform, verdict):
    plan = changed_plan(raw, "seeds.calibration", [])  # so that errors are the jackknife's
    found = scored(plan, tmp_path, {"IWDiff": 30.0, "UniformNoises": uniform})
    line = found.loc["IWDiff improves on as many noises with equal weights"]
    assert line["verdict"] == verdict
    assert f"IWDiff 30 ± 2 < UniformNoises {uniform:.4g} ± 2" in line["comparisons"]


def test_a_claim_about_a_row_that_is_not_there_is_not_measured(raw, tmp_path):
    raw["tables"]["table_4_3"] = ["Default", "DeepRes1"]
    raw["presets"]["test"]["surrogate"]["t_mid"] = [0, 2]
    made = build(params.parse(raw))
    fill(made, tmp_path, "classifier", 64)
    found = claims.judge(recipe(made, "table_4_3"), tmp_path).set_index("claim")["verdict"]
    assert found["MBConv96 is the best and the slowest"] == UNKNOWN
    assert found["fewer residual blocks give worse samples, faster"] in (UNKNOWN, FAILS)
    found = claims.judge(recipe(made, "table_4_5"), tmp_path)
    assert found["verdict"].isin([UNKNOWN, FAILS]).all()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_s_page_ends_with_its_claims(plan, tmp_path, name):
    fill(plan, tmp_path, "classifier", 64)
    made = recipe(plan, name)
    tables.write(made, tmp_path)
    section = (tmp_path / "tables" / f"{name}.md").read_text().partition("## The paper's claims\n")[2]
    found = claims.judge(made, tmp_path)
    assert section.count("\n- **") == len(found) > 0
    for claim in found.to_dict("records"):
        assert f"- **{claim['verdict']}**: {claim['claim']}" in section
