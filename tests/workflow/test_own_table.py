"""A table of a user's own: one more file, two models, a sweep of Surrogate Diffusion; made by either tool."""

import pandas as pd
from PIL import Image
from project import trained

MODELS = {"Deep": {"network": {"num_res_blocks": 3}}, "Flat": {"network": {"num_res_blocks": 1, "dropout": 0.2}}}
STUDY = {
    "title": "Depths",
    "rows": [
        {"model": ["Deep", "Flat"], "steps": [0.5, 1]},
        {"label": "SNGAN, refined", "surrogate": "SNGAN", "t_mid": [0, 0.3]},
        {"label": "with less noise", "model": "Deep", "sampler": "small"},
    ],
    "columns": ["steps", "t_mid", "sampler", "parameters", "speed", "scores"],
    "claims": [
        {
            "claim": "the deep one is larger, and the flat one faster",
            "comparisons": [["parameters", "Deep@1", ">", "Flat@1"], ["sampling_speed", "Flat@1", ">", "Deep@1"]],
        },
        {"claim": "nothing is better than the deep one", "comparisons": [["distance", "Deep@1", "<", "others"]]},
    ],
    "figures": [{"kind": "scatter", "name": "depths_speed", "x": ["samples_per_second", "parameters_m"]}],
}


def write(project):
    for name, model in MODELS.items():
        project.change("models", name, value=model)
    project.change("samplers", "small", value={"kind": "ancestral", "variance": "fixed_small", "clip_x0": True})
    project.write_study("depths", STUDY)


def test_a_table_of_ones_own_is_one_more_file(clone):
    before, outputs = clone.made("models"), clone.outputs()
    write(clone)
    assert sorted(trained(clone.succeed("dvc", "repro"))) == ["Deep", "Flat"]
    assert clone.made("models").items() >= before.items()
    assert "Nothing to be done" in clone.snakemake("--dry-run")
    clone.assert_clean()

    table = pd.read_csv(clone.results / "tables/depths.csv")
    assert table["model"].tolist() == [
        "Deep",
        "Deep",
        "Flat",
        "Flat",
        "SNGAN, refined",
        "SNGAN, refined",
        "with less noise",
    ]
    assert table["train_steps"].tolist() == [4, 6, 4, 6, 6, 6, 6], (
        "2, 4 and 6 are kept, and the half of 6 is nearest to 4"
    )
    assert table["t_mid"].tolist()[4:6] == [0, 2], "0.3 of 8"
    assert table["sampler"].iloc[-1] == "small"
    assert table["evaluations"].tolist() == [8, 8, 8, 8, 1, 3, 8]
    assert table["fd_classifier"].gt(0).all()
    assert table["fd_classifier"].nunique() == 7
    assert table["samples_per_second"].gt(0).all()
    page = (clone.results / "tables/depths.md").read_text()
    assert "# Depths" in page
    assert "64 samples a row" in page
    claims = pd.read_csv(clone.results / "claims.csv").query("table == 'depths'")
    assert claims["claim"].tolist() == [claim["claim"] for claim in STUDY["claims"]]
    assert claims["verdict"].isin(["holds", "fails", "undecided"]).all()
    assert min(Image.open(clone.results / "figures/depths_speed.png").size) > 300
    changed = {name for name, content in clone.outputs().items() if content != outputs.get(name)}
    assert {name.rsplit(".", 1)[0] for name in changed} <= {"depths", "depths_speed", "claims", "plan"}

    # By Snakemake alone, they are the same to the last byte.
    made = clone.outputs()
    for file in (*clone.results.glob("tables/depths.*"), *clone.results.glob("figures/depths_speed.*")):
        file.unlink()
    assert trained(clone.snakemake()) == []
    assert clone.outputs() == made
