"""A group of studies that the preset does not make by default, by the real workflow at the test preset."""

import re

import pandas as pd
import pytest

GROUP = ("groups=beyond",)


@pytest.fixture(scope="module")
def beyond(project):
    """The project with all runs of the group made in one process, and then its tables by the workflow."""
    stages = ("data", "models", "references", "samples", "scores", "likelihoods", "timings")
    process = project.surrodiff("make", *stages, "--group", "beyond")
    assert process.returncode == 0, process.stdout
    assert not re.findall(
        r"Job \d+: (?:train|sample|likelihood|time|data|reference)", project.snakemake("tables", config=GROUP)
    )
    return project


def test_its_tables_and_figures_are_made_and_nothing_else(beyond):
    names = {path.name for path in (beyond.results / "tables").glob("*.csv")}
    assert names == {"table_5_1.csv", "table_5_2.csv", "table_5_3.csv", "parameterisations.csv"}
    figures = {path.stem for path in (beyond.results / "figures").glob("*.svg")}
    assert figures == {"figure_5_2", "figure_5_3_terms", "figure_5_3_variance", "figure_5_3_evaluations"}
    assert not (beyond.results / "claims.csv").exists()
    samplers = pd.read_csv(beyond.results / "tables/table_5_2.csv")
    assert samplers["fd_classifier"].gt(0).all()
    assert samplers.loc[samplers["sampler_of_default"] == "DDIM", "evaluations"].tolist() == [1, 1, 1, 1, 2, 8]
    improved = pd.read_csv(beyond.results / "tables/table_5_3.csv")
    assert improved["bits_per_dim"].dropna().between(2, 30).all()
    assert "Nothing to be done" in beyond.snakemake("tables", config=GROUP)


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
