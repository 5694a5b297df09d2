"""Tables from records: ours beside the paper's, named for what they rest on, readable by machine and by eye."""

import csv
import json
from statistics import fmean

import pandas as pd
import pytest
import scipy.stats
from pandas.api.types import is_numeric_dtype
from records import EVALUATION, RATIOS, TRAIN_STEP, fill

from surrodiff.planning import recipes
from surrodiff.planning.plan import Plan, Row
from surrodiff.planning.recipes import sidecar
from surrodiff.report import tables
from surrodiff.store.runs import load_run

# What the paper prints, copied from it once more.
PAPER = {
    "table_4_1": [(7.84, 0.09, 11.52), (8.36, 0.08, 6.05), (8.67, 0.11, 4.93), (9.46, 0.11, 3.17)],
    "table_4_2": [(7.24, 0.09, 49.58), (8.12, 0.11, 40.77), (8.40, 0.08, 40.40)],
    "table_4_3": [
        (8.67, 0.11, 4.93),
        (8.46, 0.11, 5.90),
        (8.80, 0.10, 4.56),
        (8.53, 0.09, 6.39),
        (8.68, 0.10, 6.41),
        (8.95, 0.13, 4.10),
    ],
    "table_4_4": [
        (8.67, 0.11, 4.93),
        (8.95, 0.11, 4.09),
        (8.91, 0.13, 4.33),
        (9.16, 0.10, 3.69),
        (9.33, 0.11, 3.42),
        (None, None, None),
    ],
    "table_4_5": [
        (3.40, 0.03, 145.00),
        (8.64, 0.05, 9.75),
        (8.80, 0.08, 6.50),
        (8.67, 0.09, 5.08),
        (8.25, 0.11, 13.70),
        (8.94, 0.08, 6.36),
        (8.84, 0.10, 4.84),
        (8.70, 0.09, 4.90),
        (8.67, 0.11, 4.93),
    ],
}


@pytest.fixture(scope="module")
def filled(plan, tmp_path_factory):
    results = tmp_path_factory.mktemp("tables") / "test"
    return results, fill(plan, results, "classifier", 64)


ALL = [*PAPER, "all_samplers", "calibration", "likelihood"]


def own_rows(plan: Plan, name: str) -> list[Row]:
    """The rows of a table that have runs: not those that only quote."""
    return [row for row in plan.tables[name].rows if row.runs]


@pytest.fixture(scope="module")
def frames(plan, filled) -> dict[str, pd.DataFrame]:
    """Every table, written and read again from its CSV file."""
    results, _ = filled
    for name in plan.tables:
        tables.write(recipes.table(plan, name), results)
    return {name: pd.read_csv(results / "tables" / f"{name}.csv") for name in plan.tables}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_values_stand_in_its_order(frames, name):
    columns = ["paper_is_mean", "paper_is_std", "paper_fid"]
    expected = pd.DataFrame(PAPER[name], columns=columns, dtype=float)
    pd.testing.assert_frame_equal(frames[name][columns], expected)


@pytest.mark.parametrize("name", PAPER)
def test_ours_stand_beside_them(frames, plan, filled, name):
    _, distances = filled
    frame, rows = frames[name], own_rows(plan, name)
    expected = [fmean(distances[run.score] for run in row.runs) for row in rows]
    assert frame["fd_classifier"][: len(rows)].tolist() == pytest.approx(expected, rel=1e-5)
    columns = list(frame)
    assert columns.index("paper_fid") == columns.index("fd_classifier") + 1
    assert columns.index("paper_is_mean") == columns.index("is_classifier_std") + 1
    assert frame["num_samples"][: len(rows)].tolist() == [64] * len(rows)
    assert frame["train_steps"][: len(rows)].tolist() == [row.step for row in rows]
    assert frame["data"][: len(rows)].tolist() == ["digits"] * len(rows)


def test_the_quoted_row_says_that_it_was_not_run(frames):
    quoted = frames["table_4_1"].iloc[-1]
    assert "Ho et al." in quoted["model"]
    assert quoted["paper_train_steps"] == 800_000
    assert "not run" in quoted["note"]
    columns = ["train_steps", "is_classifier_mean", "is_classifier_std", "fd_classifier", "num_samples"]
    assert quoted[columns].isna().all()
    assert frames["table_4_1"]["train_steps"][:3].tolist() == [2, 4, 6]
    assert len(frames["table_4_1"]) == 4


def test_rows_carry_the_paper_s_names(frames):
    for table, T in (("table_4_1", 1000), ("table_4_2", 100)):
        assert frames[table]["paper_train_steps"].tolist()[:3] == [50_000, 100_000, 150_000]
        assert frames[table]["paper_T"].tolist()[:3] == [T] * 3
    assert frames["table_4_3"]["architecture"].tolist() == [
        "Default",
        "DeepRes1",
        "ShallowRes2",
        "ShallowRes1",
        "MBConv64",
        "MBConv96",
    ]
    assert frames["table_4_4"]["setup"].tolist()[:5] == [
        "DDPM",
        "Importance Sampling",
        "Importance Sampling +2",
        "IWDiff",
        "IWDiff + Importance Sampling",
    ]
    assert frames["table_4_5"]["surrogate"].tolist() == ["DDPM-16"] * 4 + ["SNGAN-ResNet-32"] * 4 + ["DDPM"]


def test_the_control_stands_in_the_table_of_objectives(frames):
    control = frames["table_4_4"].iloc[-1]
    assert "equal weights" in control["setup"]
    assert "control" in control["note"]
    assert control[["paper_is_mean", "paper_fid", "paper_train_time_ratio"]].isna().all()
    assert control[["fd_classifier", "is_classifier_mean", "train_time_ratio"]].notna().all()


def test_default_is_the_unit_of_all_ratios(frames):
    assert frames["table_4_4"]["train_time_ratio"][0] == 1
    assert frames["table_4_3"]["sampling_speed_ratio"][0] == 1
    assert frames["table_4_5"]["sampling_speed_ratio"].iloc[-1] == 1
    assert frames["table_4_4"]["train_time_ratio"][1:].tolist() == [1.75] * 5


def test_speeds_of_architectures_follow_from_their_evaluations(frames):
    frame = frames["table_4_3"]
    default = 1 / (8 * EVALUATION)
    assert frame["samples_per_second"][0] == pytest.approx(default, rel=1e-5)
    assert frame["samples_per_second"][1] == pytest.approx(default / 0.6, rel=1e-5)
    assert frame["sampling_speed_ratio"][1] == pytest.approx(1 / 0.6, rel=1e-5)
    assert frame["train_hours"][0] == pytest.approx(6 * TRAIN_STEP / 3600, rel=1e-5)
    assert frame["train_hours"][1] == pytest.approx(6 * 0.8 * TRAIN_STEP / 3600, rel=1e-5)
    assert frame["paper_samples_per_second"].tolist() == [1.00, 1.50, 1.15, 1.74, 1.23, 0.77]
    assert frame["paper_train_hours"].tolist() == [20.66, 18.50, 19.15, 16.88, 28.33, 42.50]


def test_speeds_of_surrogates_follow_from_their_evaluations(frames):
    frame = frames["table_4_5"]
    half, gan = RATIOS["DDPMHalf"][0] * EVALUATION, RATIOS["SNGAN"][0] * EVALUATION
    # T = 8: from 8 down to t_mid + 1 and, where Default goes on, x_0's estimate at t_mid; a generator runs once.
    seconds = [8 * half, 7 * half + 2 * EVALUATION, 5 * half + 4 * EVALUATION, 3 * half + 6 * EVALUATION]
    seconds += [gan, gan + 2 * EVALUATION, gan + 4 * EVALUATION, gan + 6 * EVALUATION, 8 * EVALUATION]
    assert frame["samples_per_second"].tolist() == pytest.approx([1 / s for s in seconds], rel=1e-5)
    assert frame["sampling_speed_ratio"].tolist() == pytest.approx([8 * EVALUATION / s for s in seconds], rel=1e-5)
    assert frame["paper_samples_per_second"].tolist() == [2.53, 1.84, 1.38, 1.17, 188.40, 4.00, 1.96, 1.30, 1.00]
    assert frame["t_mid"].tolist()[:8] == [0, 2, 4, 6] * 2
    assert pd.isna(frame["t_mid"].iloc[-1])
    assert frame["T"].tolist() == [8] * 9
    assert frame["paper_t_mid"].tolist()[:8] == [0, 250, 500, 750] * 2
    assert frame["image_size"].tolist() == [4] * 4 + [8] * 5


def test_parameters_are_the_records_own(frames, plan, filled):
    records = [load_run(filled[0], "models", row.runs[0].model)[2] for row in own_rows(plan, "table_4_3")]
    assert frames["table_4_3"]["parameters"].tolist() == [record["parameters"] for record in records]
    assert frames["table_4_3"]["parameters_m_by_paper"].tolist() == [r["parameters_by_paper"] for r in records]
    assert frames["table_4_3"]["paper_parameters_m"].tolist() == [34.21, 23.27, 24.76, 17.02, 11.51, 25.68]
    assert frames["table_4_3"]["channel_multipliers"].tolist()[1:3] == ["(1, 2, 2)", "(1, 2)"]
    assert frames["table_4_3"]["paper_channel_multipliers"].tolist()[1:3] == ["(1, 2, 2, 2)", "(1, 2, 2)"]
    assert frames["table_4_3"]["paper_base_channels"].tolist() == [128, 128, 128, 128, 64, 96]
    assert frames["table_4_3"]["paper_num_res_blocks"].tolist() == [2, 1, 2, 1, 2, 2]
    assert frames["table_4_3"]["paper_block"].tolist() == ["standard"] * 4 + ["mbconv"] * 2


def test_the_calibration_has_both_splits_damaged_copies_and_one_model_of_several_seeds(frames, plan, filled):
    frame = frames["calibration"]
    assert frame["images"].tolist() == ["train", "held_out", "held_out", *["Default"] * 3]
    assert frame["against"].tolist() == ["held_out", *["train"] * 5]
    assert frame["num_images"].tolist() == [1437, 360, 360, 64, 64, 64]
    assert frame["corruption"][2] == "noise"
    assert frame["amount"][2] == 16
    assert frame["seed"].tolist()[3:] == [0, 1, 2]
    distances = [filled[1][row.runs[0].score] for row in own_rows(plan, "calibration")]
    assert frame["fd_classifier"].tolist() == [1.5, 1.625, 20.5, *distances]
    assert frame["is_classifier_mean"].tolist()[:3] == [9.5, 9.25, 4.5]
    assert frame["is_classifier_std"].tolist()[:3] == [0.25] * 3


def test_the_likelihood_has_every_diffusion_model_and_its_parts(frames, plan, filled, raw):
    frame = frames["likelihood"].set_index("model")
    rows = own_rows(plan, "likelihood")
    lines = [line for table in plan.tables.values() for line in (row.line for row in table.rows)]
    models = {name for line in lines for name in (line.model, line.surrogate) if name}
    ddpms = {name for name in models if raw["models"][name].get("kind", "ddpm") == "ddpm"}
    assert ddpms == {row.line.model for row in rows}
    assert list(frame.index) == [*[row.line.model for row in rows], "DDPM of Ho et al. (2020)"]
    for row in rows:
        record = load_run(filled[0], "likelihoods", row.runs[0].likelihood)[2]
        cells = frame.loc[row.line.model]
        assert cells["bits_per_dim"] == pytest.approx(record["bits_per_dim"], rel=1e-5)
        assert cells["bits_per_dim_interval"] == pytest.approx(scipy.stats.t.ppf(0.975, 7) * 0.25, rel=1e-5)  # 8 images
        assert cells[["prior", "kl", "decoder"]].sum() == pytest.approx(cells["bits_per_dim"], rel=1e-5)
    assert frame.loc["DDPMHalf", "image_size"] == 4


def test_the_likelihood_quotes_the_bound_that_the_paper_quotes(frames, filled):
    quoted = frames["likelihood"].iloc[-1]
    assert quoted["paper_bits_per_dim"] == 3.75
    assert "800,000 steps, CIFAR-10" in quoted["note"]
    assert pd.isna(quoted["bits_per_dim"])
    assert frames["likelihood"]["paper_bits_per_dim"][:-1].isna().all()
    columns = list(frames["likelihood"])
    assert columns.index("paper_bits_per_dim") == columns.index("bits_per_dim") + 1
    assert "| 3.75 " in (filled[0] / "tables" / "likelihood.md").read_text()


@pytest.mark.parametrize("name", ALL)
def test_the_csv_is_one_header_and_numbers(frames, filled, name):
    text = (filled[0] / "tables" / f"{name}.csv").read_text()
    lines = list(csv.reader(text.splitlines()))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines) == len(frames[name]) + 1
    assert len(set(lines[0])) == len(lines[0])
    words = {
        "model",
        "architecture",
        "setup",
        "surrogate",
        "images",
        "data",
        "note",
        "corruption",
        "against",
        "sampler",
    }
    words |= {"against_default"}
    words |= {f"{whose}{what}" for whose in ("", "paper_") for what in ("block", "channel_multipliers")}
    for column in set(frames[name]) - words:
        assert is_numeric_dtype(frames[name][column]), column
    assert "\r" not in text
    assert text.endswith("\n")


@pytest.mark.parametrize("name", ALL)
def test_the_markdown_says_what_the_numbers_rest_on(frames, filled, raw, name):
    text = (filled[0] / "tables" / f"{name}.md").read_text()
    assert text.startswith(f"# {raw['studies'][name]['title']}\n")
    first, _, more = text.partition("## More scores")
    rows = [line for line in first.splitlines() if line.startswith("|")]
    assert len(rows) == len(frames[name]) + 2
    assert bool(more) == (name != "likelihood")
    if more:
        rows = [line for line in more.splitlines() if line.startswith("|")]
        assert len(rows) == frames[name]["fd_classifier"].notna().sum() + 2
        assert "fd_classifier_infinity" in rows[0]
        assert "precision" not in first.partition("Preset")[0]
    assert "data `digits`" in text
    assert "Preset `test`" in text
    assert "nan" not in text
    assert "trained for 6 steps" in text
    if name == "likelihood":
        assert "on 8 held-out images" in text
    else:
        assert "`classifier` features in float32" in text
        assert "c0ffeec0ffee" in text
        assert "with 64 samples a row" in text
        assert "against 1437 training images (`_held_out`: 360 held-out images)" in text
    assert ("trained with the seeds 0, 1, 2 scores" in text) == (name not in ("calibration", "likelihood"))
    assert ("## Claims" in text) == (name not in ("calibration", "likelihood"))
    assert ("Columns `paper_...` are those of Baryshnikov (2022), " in text) == (name != "calibration")
    assert ("They rest on CIFAR-10" in text) == (name not in ("calibration", "likelihood"))
    assert ("Slide rule" in text) == (name in ("table_4_3", "table_4_4", "table_4_5"))


def test_the_markdown_joins_a_number_and_its_spread(filled, frames):
    text = (filled[0] / "tables" / "table_4_1.md").read_text()
    assert "| 7.84 ± 0.09 " in text
    assert "| 9.46 ± 0.11 " in text
    first = frames["table_4_1"].iloc[0]
    assert f"| {first['is_classifier_mean']:.2f} ± {first['is_classifier_std']:.2f} " in text  # over splits
    assert f"| {first['fd_classifier']:.2f} ± {first['fd_classifier_interval']:.2f} " in text
    assert "_std" not in text


def test_what_a_table_was_made_from_lies_beside_it(frames, filled, plan):
    results, _ = filled
    for name in frames:
        beside = (results / "tables" / f"{name}.json").read_text()
        assert beside == sidecar(recipes.table(plan, name), results)
        assert json.loads(beside)["output"] == name


def test_writing_again_changes_nothing(frames, filled, plan):
    results, _ = filled
    before = {path.name: path.read_bytes() for path in (results / "tables").iterdir()}
    for name in frames:
        tables.write(recipes.table(plan, name), results)
    assert {path.name: path.read_bytes() for path in (results / "tables").iterdir()} == before
