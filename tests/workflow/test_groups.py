"""A group of studies that the preset does not make by default, by the real workflow at the test preset."""

import re
import shutil

import pandas as pd
import pytest

GROUP = ("groups=beyond",)


@pytest.fixture(scope="module")
def beyond(project):
    """The project with all runs of the group made in one process, and then its tables by the workflow."""
    stages = ("data", "models", "references", "samples", "scores")
    measures = ("refinements", "likelihoods", "diagnoses", "timings")
    process = project.surrodiff("make", *stages, *measures, "--group", "beyond")
    assert process.returncode == 0, process.stdout
    assert not re.findall(
        r"Job \d+: (?:train|sample|refinement|likelihood|diagnosis|time|data|reference)",
        project.snakemake("tables", config=GROUP),
    )
    return project


def test_its_tables_and_figures_are_made_and_nothing_else(beyond):
    names = {path.name for path in (beyond.results / "tables").glob("*.csv")}
    others = ("iwdiff_weights", "likelihoods", "parameterisations", "table_2_4")
    assert names == {f"{name}.csv" for name in (*others, *(f"table_5_{n}" for n in range(1, 8)))}
    figures = {path.stem for path in (beyond.results / "figures").glob("*.svg")}
    assert figures == {
        *("figure_5_2", "figure_5_3_terms", "figure_5_3_variance", "figure_5_3_evaluations"),
        *("figure_5_4", "figure_5_5_sngan", "figure_5_5_ddpm_16", "figure_5_7", "figure_5_6"),
        *(f"figure_5_6_{what}" for what in ("effective", "variance", "loss")),
    }
    assert not (beyond.results / "claims.csv").exists()
    samplers = pd.read_csv(beyond.results / "tables/table_5_2.csv")
    assert samplers["fd_classifier"].gt(0).all()
    assert samplers.loc[samplers["sampler_of_default"] == "DDIM", "evaluations"].tolist() == [1, 1, 1, 1, 2, 8]
    improved = pd.read_csv(beyond.results / "tables/table_5_3.csv")
    assert improved["bits_per_dim"].dropna().between(2, 30).all()
    refined = pd.read_csv(beyond.results / "tables/table_5_5.csv")
    assert refined["t_mid"].tolist() == [1, 2, 4, 6, 7] * 2
    assert refined["moved"].between(0, 2, inclusive="neither").all()
    assert "Nothing to be done" in beyond.snakemake("tables", config=GROUP)


def test_samples_come_back_for_a_refinement_that_is_missing(beyond):
    """As after `dvc pull`, which brings no samples, and not for one that is there."""
    recorded = pd.read_csv(beyond.results / "tables/table_5_5.csv")
    (gone,) = (beyond.results / "refinements").glob("SNGAN_t2-*")
    for folder in (beyond.results, beyond.results / "work"):
        shutil.rmtree(folder / "refinements" / gone.name, ignore_errors=True)
        shutil.rmtree(folder / "samples", ignore_errors=True)
    printed = beyond.snakemake("scores", config=GROUP)
    assert sorted(re.findall(r"Job \d+: sample (\w+)-", printed)) == ["SNGAN_t0", "SNGAN_t2"]
    assert re.findall(r"Job \d+: refinement (\w+)-", printed) == ["SNGAN_t2"]
    beyond.snakemake("tables", config=GROUP)
    pd.testing.assert_frame_equal(pd.read_csv(beyond.results / "tables/table_5_5.csv"), recorded)


def test_what_is_of_the_presets_own_groups_is_neither_replaced_nor_pruned(beyond):
    printed = beyond.snakemake("--dry-run", config=GROUP)
    assert "Nothing to be done" in printed, "claims and summary are of the preset's own groups"
    for command in ("claims", "summary", "resolve"):
        process = beyond.surrodiff(command, "--group", "beyond")
        assert process.returncode == 1
        assert f"--group: {command} is of the groups that the preset names" in process.stdout
    assert "in 0 runs that nothing asks for" in beyond.run("surrodiff.cli", "prune").stdout


def test_the_presets_own_tables_share_its_runs_and_leave_its_tables_alone(beyond):
    before = beyond.outputs()
    planned = beyond.snakemake("--dry-run")
    shared = {"Default", "ShortDiffusion", "SNGAN"}
    assert not shared & set(re.findall(r"train (\w+)-[0-9a-f]{8}", planned))
    assert "train DeepRes1" in planned
    assert beyond.outputs() == before
