"""From parameters to runs: which data, models, samples, scores and timings the tables need, and how each is named.

A run's id is `<name>-<first 8 hex digits of the SHA-256 of its canonical JSON configuration>`. A sample's configuration
holds its model's id, a score's its sample's, so a changed number changes the ids of exactly what depends on it. This
module touches no file and imports neither torch nor Snakemake.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from surrodiff.config.models import DDPM
from surrodiff.config.params import Params, Preset

# SHA-256 of the files of feature networks' weights (see features).
_INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WEIGHTS_SHA256 = {
    "inception": _INCEPTION,
    "inception_clean": _INCEPTION,
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

    @cached_property
    def id(self) -> str:
        return f"{self.name}-{hashlib.sha256(canonical(self.config).encode()).hexdigest()[:8]}"


@dataclass
class Plan:
    """All runs of a preset by id, the rows of its tables, and what its figures are drawn from, by the runs' ids.

    default: Default's row after its last step, with all of its training seeds: what other rows are compared with.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    tables: dict[str, list[dict]] = field(default_factory=dict)
    figures: dict[str, dict] = field(default_factory=dict)
    data: str = ""
    reference: str = ""
    default: dict = field(default_factory=dict)

    def add(self, stage: str, name: str, config: dict) -> str:
        run = Run(stage, name, config)
        self.runs[run.id] = run
        return run.id

    def of_stage(self, stage: str) -> list[str]:
        return [run_id for run_id, run in self.runs.items() if run.stage == stage]


def timed(model: dict) -> dict:
    """The part of a model's configuration that its speed depends on."""
    left_out = ("training", "diffusion", "channels", "data", "seed")
    keep = ("batch_size", "precision", "discriminator_steps")
    training = model["training"]
    own = {key: value for key, value in model.items() if key not in left_out}
    return {**own, **{key: training[key] for key in keep if key in training}}


def sampling_precision(timed_model: dict, asked: str) -> str:
    """The precision that a model samples in, given the part of its configuration that `timed` keeps: the one asked for,
    but a generator's own, since its one evaluation is the image itself and costs little as it was trained."""
    return timed_model["precision"] if timed_model["kind"] == "sngan" else asked


def evaluations(sample: dict, plan: Plan) -> list[tuple[dict, int]]:
    """The models of a sample run's configuration, first a surrogate if it has one, and how often each is evaluated for
    one image. What samplers do is what they count themselves; this says it before there is one."""
    made, surrogate = (part and plan.runs[part["run"]].config for part in (sample["model"], sample["surrogate"]))
    if not surrogate:
        return [(made, made["diffusion"]["T"])]
    t_mid, own = sample["surrogate"]["t_mid"], 1
    if surrogate["kind"] == "ddpm":
        # One more for the estimate of x_0; x_t is handed over as it is, and at t_mid = 0 it is the sample.
        own = surrogate["diffusion"]["T"] - t_mid + (t_mid > 0 and sample["surrogate"]["handover"] == "x0")
    return [(surrogate, own)] + ([(made, t_mid)] if made else [])


def _seeded(name: str, seed: int, sampling_seed: int = 0) -> str:
    """A run's name, which tells seeds other than 0."""
    kinds = {"seed": seed, "sampling_seed": sampling_seed}
    return name + "".join(f"_{kind}{number}" for kind, number in kinds.items() if number)


class _Builder:
    """Adds the runs that a preset asks for to a plan, each with what it is made from."""

    def __init__(self, preset: Preset):
        self.preset, self.plan = preset, Plan()
        self.plan.data = self.plan.add("data", preset.data.source, preset.data.configuration())
        scoring = preset.scoring.model_dump()
        features = {"network": scoring.pop("features"), "precision": scoring.pop("precision")}
        classifier = scoring.pop("classifier")
        if features["network"] == "classifier":
            classifier |= {"kind": "classifier", "channels_in": preset.data.channels, "data": self.plan.data}
            classifier |= {"image_size": preset.data.image_size}
            features["run"] = self.plan.add("models", "classifier", classifier)
        else:
            features["sha256"] = WEIGHTS_SHA256[features["network"]]
        reference = {**scoring, "features": features, "data": self.plan.data}
        self.plan.reference = self.plan.add("references", features["network"], reference)

    def model(self, name: str, seed: int) -> str:
        own = {"channels": self.preset.data.channels, "data": self.plan.data, "seed": seed}
        return self.plan.add("models", _seeded(name, seed), {**self.preset.models[name].model_dump(), **own})

    def sample(self, name: str, step: int, t_mid: int | None, seed: int, sampling_seed: int) -> str:
        config = {**self.preset.sampling.model_dump(), "seed": sampling_seed, "model": None, "surrogate": None}
        if t_mid is None:
            config["model"] = {"run": self.model(name, seed), "step": step}
            return self.plan.add("samples", _seeded(f"{name}_{step}", seed, sampling_seed), config)
        config["surrogate"] = {"run": self.model(name, seed), "step": step, "t_mid": t_mid}
        if self.preset.models[name].kind == "ddpm":
            config["surrogate"]["handover"] = self.preset.surrogate.handover
        if t_mid > 0:  # at t_mid = 0 the surrogate's samples are the result, whatever Default is
            steps = self.preset.models["Default"].training.steps
            config["model"] = {"run": self.model("Default", seed), "step": steps}
        return self.plan.add("samples", _seeded(f"{name}_t{t_mid}", seed, sampling_seed), config)

    def score(self, name: str, step: int, t_mid: int | None, seed: int, sampling_seed: int) -> dict[str, Any]:
        """A model's run, its training seed, and the score of its samples, for one pair of seeds."""
        sample = self.sample(name, step, t_mid, seed, sampling_seed)
        config = {"sample": sample, "reference": self.plan.reference}
        score = self.plan.add("scores", self.plan.runs[sample].name, config)
        return {"run": self.model(name, seed), "seed": seed, "score": score}

    def timing(self, name: str) -> str:
        config = {
            **self.preset.timing.model_dump(),
            "model": timed(self.preset.models[name].model_dump()),
            "baseline": timed(self.preset.models["Default"].model_dump()),
            "channels": self.preset.data.channels,
            "sampling_precision": self.preset.sampling.precision,
        }
        return self.plan.add("timings", name, config)

    def likelihood(self, name: str, seed: int) -> dict[str, Any]:
        """A model's run, its training seed, and its likelihood's run, after all of its steps."""
        run = self.model(name, seed)
        config = {**self.preset.likelihood.model_dump(), "variance": self.preset.sampling.variance}
        config["model"] = {"run": run, "step": self.preset.models[name].training.steps}
        return {"run": run, "seed": seed, "likelihood": self.plan.add("likelihoods", _seeded(name, seed), config)}

    def row(self, name: str, step: int | None = None, *, timed: bool = False, **more) -> dict:
        """A table's row: a model after a step (None: the last), or a surrogate with t_mid, for every pair of seeds.

        Default after its last step has the calibration's seeds as well: every other row is compared with their mean.
        """
        model, default, seeds = self.preset.models[name], self.preset.models["Default"], self.preset.seeds
        step = step or model.training.steps
        is_default = name == "Default" and step == model.training.steps and more.get("t_mid") is None
        training = list(dict.fromkeys([*seeds.training, *(seeds.calibration if is_default else [])]))
        runs = [
            self.score(name, step, more.get("t_mid"), seed, sampling_seed)
            for seed in more.pop("training_seeds", training)
            for sampling_seed in seeds.sampling
        ]
        if timed:
            more |= {"timing": self.timing(name), "default_timing": self.timing("Default")}
            more["default_T"] = default.diffusion.T
            sample = self.plan.runs[self.plan.runs[runs[0]["score"]].config["sample"]].config
            own, *after = (count for _, count in evaluations(sample, self.plan))
            more |= {"evaluations": own, "default_evaluations": sum(after)}
        made = {"model": name, "step": step, "of_steps": model.training.steps, "runs": runs, **more}
        return made | ({"T": model.diffusion.T} if isinstance(model, DDPM) else {})


def build(params: Params) -> Plan:
    """Resolve the selected preset into runs and table rows (see Plan)."""
    preset, names = params.selected, params.tables
    builder = _Builder(preset)
    plan, row = builder.plan, builder.row
    plan.default = row("Default")
    for table in ("table_4_1", "table_4_2"):
        plan.tables[table] = [row(name, step) for name in getattr(names, table) for step in preset.evaluated_steps]
    for table in ("table_4_3", "table_4_4"):
        plan.tables[table] = [row(name, timed=True) for name in getattr(names, table)]
    plan.tables["table_4_5"] = [
        row(name, timed=True, t_mid=t_mid)
        for name in names.table_4_5
        for t_mid in ([None] if name == "Default" else preset.surrogate.t_mid)
    ]
    plan.tables["calibration"] = [row("Default", seed=seed, training_seeds=[seed]) for seed in preset.seeds.calibration]
    ours = dict.fromkeys(r["model"] for rows in plan.tables.values() for r in rows)
    plan.tables["likelihood"] = [
        {
            "model": name,
            "step": model.training.steps,
            "of_steps": model.training.steps,
            "T": model.diffusion.T,
            "image_size": model.image_size,
            "runs": [builder.likelihood(name, seed) for seed in preset.seeds.training],
        }
        for name in ours
        for model in [preset.models[name]]
        if isinstance(model, DDPM)
    ]
    plan.figures["figure_4_2"] = {"rows": plan.tables["table_4_3"], "default": plan.default}
    # One training of each model is drawn: the first seed's.
    plan.figures["figure_4_3"] = {
        "rows": [
            {"model": r["model"], "of_steps": r["of_steps"], "runs": [{"run": r["runs"][0]["run"]}]}
            for r in plan.tables["table_4_4"]
        ]
    }
    images = {
        r["t_mid"]: {"score": score, "sample": plan.runs[score].config["sample"]}
        for r in plan.tables["table_4_5"]
        if preset.models[r["model"]].kind == "sngan"
        for score in [r["runs"][0]["score"]]
    }
    later = sorted(t_mid for t_mid in images if t_mid)
    if 0 in images and later:
        found = {"surrogate": images[0], "refined": images[later[0]], "t_mid": later[0]}
        plan.figures["figure_4_4"] = {**found, "T": preset.models["Default"].diffusion.T}
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
        case "likelihoods":
            return [("data", plan.data), ("models", config["model"]["run"])]
        case "samples":
            return [("models", part["run"]) for part in (config["model"], config["surrogate"]) if part]
        case "scores":
            return [*needs(plan, config["sample"]), ("references", config["reference"])]
        case _:
            return []
