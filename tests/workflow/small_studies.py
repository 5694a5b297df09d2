"""Studies of few rows, with every kind of column, claim and figure among them."""

_SCORED = ["scores"]


def one_model() -> dict[str, dict]:
    """The paper's tables with Default alone."""
    return {
        f"table_4_{n}": {"title": f"Table 4.{n}", "rows": [{"model": "Default"}], "columns": _SCORED} for n in (1, 2)
    }


def several() -> dict[str, dict]:
    """Default, two variants, and both surrogates."""
    surrogates = [{"surrogate": name, "t_mid": [0, 0.25]} for name in ("DDPMHalf", "SNGAN")]
    return one_model() | {
        "table_4_4": {
            "title": "Table 4.4",
            "rows": [{"model": ["Default", "ShortDiffusion", "IWDiffImportanceSampling"]}],
            "columns": ["speed", *_SCORED],
        },
        "table_4_5": {"title": "Table 4.5", "rows": [*surrogates, {"model": "Default"}], "columns": _SCORED},
        "likelihood": {"title": "Likelihood", "rows": [{"model": ["Default", "DDPMHalf"]}], "columns": ["likelihood"]},
    }


def all_columns() -> dict[str, dict]:
    """Seven tables, three figures and claims."""
    paper = "Baryshnikov (2022)"
    return {
        "table_4_1": {
            "title": "Table 4.1",
            "source": paper,
            "rows": [{"model": "Default", "steps": [1], "paper": {"train_steps": 150000, "fid": 4.93}}],
            "columns": ["steps", "T", "scores"],
        },
        "table_4_2": {
            "title": "Table 4.2",
            "rows": [{"model": "ShortDiffusion", "steps": [1]}],
            "columns": ["steps", "T", "scores"],
            "claims": [
                {"claim": "it is worse", "comparisons": [["distance", "ShortDiffusion@1", ">", "Default"]]},
            ],
        },
        "table_4_3": {
            "title": "Table 4.3",
            "source": paper,
            "subject": "architecture",
            "rows": [{"model": ["Default", "DeepRes1"], "paper": {"fid": [4.93, 5.90], "train_hours": [20.66, 18.50]}}],
            "columns": ["network", "parameters", "speed", "train_hours", "train_time", "scores"],
            "claims": [
                {
                    "claim": "the smaller one is faster",
                    "comparisons": [
                        ["sampling_speed", "DeepRes1", ">", "others"],
                        ["parameters", "DeepRes1", "<", "Default"],
                    ],
                },
            ],
            "figures": [
                {"kind": "scatter", "name": "figure_4_2", "x": ["parameters_m", "train_hours"], "fit": "standard"},
            ],
        },
        "table_4_4": {
            "title": "Table 4.4",
            "rows": [{"model": ["Default", "IWDiff"], "label": ["DDPM", "IWDiff"]}],
            "columns": ["train_time", "loss_variance", "scores"],
            "figures": [{"kind": "curves", "name": "figure_4_3"}],
        },
        "table_4_5": {
            "title": "Table 4.5",
            "subject": "surrogate",
            "rows": [{"surrogate": "SNGAN", "t_mid": [0, 0.25]}, {"model": "Default"}],
            "columns": ["image_size", "t_mid", "T", "sampler", "speed", "scores"],
            "figures": [{"kind": "pairs", "name": "figure_4_4", "row": "SNGAN@0.25"}],
        },
        "calibration": {
            "title": "Calibration",
            "subject": "images",
            "rows": [{"images": "real"}, {"model": "Default", "seeds": "calibration"}],
            "columns": ["images", "scores"],
        },
        "likelihood": {
            "title": "Likelihood",
            "rows": [{"model": ["Default", "ShortDiffusion", "DeepRes1", "IWDiff"]}],
            "columns": ["image_size", "T", "likelihood"],
        },
    }
