"""Studies of few rows, with every kind of column, claim and figure among them."""

PAPER = "Baryshnikov (2022)"


def one_model() -> dict[str, dict]:
    """Everything of Default alone; so there are no pairs to draw."""
    return _studies("Default", ["Default"], ["Default"], [])


def several() -> dict[str, dict]:
    """Default, two variants and both surrogates."""
    return _studies("ShortDiffusion", ["Default"], ["Default", "IWDiffImportanceSampling"], ["DDPMHalf", "SNGAN"])


def all_columns() -> dict[str, dict]:
    """Seven tables, three figures and claims."""
    return _studies("ShortDiffusion", ["Default", "DeepRes1"], ["Default", "IWDiff"], ["SNGAN"])


def _studies(short: str, architectures: list[str], objectives: list[str], surrogates: list[str]) -> dict[str, dict]:
    last = architectures[-1]
    return {
        "table_4_1": {
            "title": "Table 4.1",
            "source": PAPER,
            "rows": [{"model": "Default", "steps": [1], "paper": {"train_steps": 150000, "fid": 4.93}}],
            "columns": ["steps", "T", "scores"],
        },
        "table_4_2": {
            "title": "Table 4.2",
            "rows": [{"model": short, "steps": [1]}],
            "columns": ["steps", "T", "scores"],
            "claims": [{"claim": "it is worse", "comparisons": [["distance", f"{short}@1", ">", "Default"]]}],
        },
        "table_4_3": {
            "title": "Table 4.3",
            "source": PAPER,
            "subject": "architecture",
            "rows": [{"model": model, "paper": {"fid": 4.93, "train_hours": 20.66}} for model in architectures],
            "columns": ["network", "parameters", "speed", "train_hours", "train_time", "scores"],
            "claims": [
                {
                    "claim": "the last one is the fastest",
                    "comparisons": [["sampling_speed", last, ">", "others"], ["parameters", last, "<", "Default"]],
                },
            ],
            "figures": [
                {"kind": "scatter", "name": "figure_4_2", "x": ["parameters_m", "train_hours"], "fit": "standard"},
            ],
        },
        "table_4_4": {
            "title": "Table 4.4",
            "rows": [{"model": objectives}],
            "columns": ["train_time", "loss_variance", "scores"],
            "figures": [{"kind": "curves", "name": "figure_4_3"}],
        },
        "table_4_5": {
            "title": "Table 4.5",
            "subject": "surrogate",
            "rows": [*({"surrogate": name, "t_mid": [0, 0.25]} for name in surrogates), {"model": "Default"}],
            "columns": ["image_size", "t_mid", "T", "sampler", "speed", "scores"],
            "figures": [
                {"kind": "pairs", "name": "figure_4_4", "row": f"{name}@0.25"} for name in surrogates if name == "SNGAN"
            ],
        },
        "calibration": {
            "title": "Calibration",
            "subject": "images",
            "rows": [{"images": "real"}, {"model": "Default", "seeds": "calibration"}],
            "columns": ["images", "scores"],
        },
        "likelihood": {
            "title": "Likelihood",
            "rows": [{"model": list(dict.fromkeys([*architectures, *objectives, short]))}],
            "columns": ["image_size", "T", "likelihood"],
        },
    }
