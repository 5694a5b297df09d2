"""From parameters to runs: which data, models, samples, scores and timings the tables need, and how each is named.

This module touches no file and imports neither torch nor Snakemake.
"""

from dataclasses import dataclass, field
from typing import Any

from surrodiff.config.models import DDPM, SNGAN, Classifier
from surrodiff.config.params import Params, Preset
from surrodiff.config.samplers import Ancestral
from surrodiff.planning.runs import (
    Config,
    DataConfig,
    LikelihoodConfig,
    ModelConfig,
    ReferenceConfig,
    Run,
    SampleConfig,
    ScoreConfig,
    TimingConfig,
    Trained,
)

# SHA-256 of the files of feature networks' weights (see features).
_INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WEIGHTS_SHA256 = {
    "inception": _INCEPTION,
    "inception_clean": _INCEPTION,
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}


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

    def add(self, name: str, config: Config) -> str:
        run = Run(name, config)
        self.runs[run.id] = run
        return run.id

    def of_stage(self, stage: str) -> list[str]:
        return [run_id for run_id, run in self.runs.items() if run.stage == stage]


def _seeded(name: str, seed: int, sampling_seed: int = 0) -> str:
    """A run's name, which tells seeds other than 0."""
    kinds = {"seed": seed, "sampling_seed": sampling_seed}
    return name + "".join(f"_{kind}{number}" for kind, number in kinds.items() if number)


class _Builder:
    """Adds the runs that a preset asks for to a plan, each with what it is made from."""

    def __init__(self, preset: Preset):
        self.preset, self.plan = preset, Plan()
        self.plan.data = self.plan.add(preset.data.source, DataConfig(**preset.data.model_dump()))
        scoring = preset.scoring.model_dump()
        own, network = scoring.pop("classifier"), scoring.pop("features")
        features = {"network": network, "precision": scoring.pop("precision"), "run": None}
        if network == "classifier":
            width, seed = own.pop("channels"), own.pop("seed")
            model = Classifier(kind="classifier", image_size=preset.data.image_size, width=width, training=own)
            features["run"] = self._model("classifier", model, seed)
        features["sha256"] = WEIGHTS_SHA256.get(network)
        reference = ReferenceConfig(features=features, data=self.plan.data, **scoring)
        self.plan.reference = self.plan.add(network, reference)

    def _model(self, name: str, model: DDPM | SNGAN | Classifier, seed: int) -> str:
        made = ModelConfig(model=model, channels=self.preset.data.channels, data=self.plan.data, seed=seed)
        return self.plan.add(name, made)

    def model(self, name: str, seed: int) -> str:
        return self._model(_seeded(name, seed), self.preset.models[name], seed)

    def sample(self, name: str, step: int, t_mid: int | None, seed: int, sampling_seed: int) -> str:
        asked = self.preset.sampling
        sampler = Ancestral(kind="ancestral", variance=asked.variance, clip_x0=asked.clip_x0)
        own = {"num_samples": asked.num_samples, "precision": asked.precision, "revision": asked.revision}
        made, surrogate = {"run": self.model(name, seed), "step": step}, None
        tag = step
        if t_mid is not None:
            tag = f"t{t_mid}"
            handover = self.preset.surrogate.handover if self.preset.models[name].kind == "ddpm" else None
            made, surrogate = None, {**made, "t_mid": t_mid, "handover": handover}
            if t_mid > 0:  # at t_mid = 0 the surrogate's samples are the result, whatever Default is
                steps = self.preset.models["Default"].training.steps
                made = {"run": self.model("Default", seed), "step": steps}
        config = SampleConfig(sampler=sampler, seed=sampling_seed, model=made, surrogate=surrogate, **own)
        return self.plan.add(_seeded(f"{name}_{tag}", seed, sampling_seed), config)

    def score(self, name: str, step: int, t_mid: int | None, seed: int, sampling_seed: int) -> dict[str, Any]:
        """A model's run, its training seed, and the score of its samples, for one pair of seeds."""
        sample = self.sample(name, step, t_mid, seed, sampling_seed)
        config = ScoreConfig(sample=sample, reference=self.plan.reference)
        score = self.plan.add(self.plan.runs[sample].name, config)
        return {"run": self.model(name, seed), "seed": seed, "score": score}

    def timing(self, name: str) -> str:
        config = TimingConfig(
            **self.preset.timing.model_dump(),
            model=self.preset.models[name].timed(),
            baseline=self.preset.models["Default"].timed(),
            channels=self.preset.data.channels,
            sampling_precision=self.preset.sampling.precision,
        )
        return self.plan.add(name, config)

    def likelihood(self, name: str, seed: int) -> dict[str, Any]:
        """A model's run, its training seed, and its likelihood's run, after all of its steps."""
        run, step = self.model(name, seed), self.preset.models[name].training.steps
        own = {**self.preset.likelihood.model_dump(), "variance": self.preset.sampling.variance}
        config = LikelihoodConfig(model=Trained(run=run, step=step), data=self.plan.data, **own)
        return {"run": run, "seed": seed, "likelihood": self.plan.add(_seeded(name, seed), config)}

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
            sample = self.plan.runs[self.plan.runs[runs[0]["score"]].config.sample].config
            own, *after = (count for _, count in sample.evaluations(self.plan.runs))
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
        r["t_mid"]: {"score": score, "sample": plan.runs[score].config.sample}
        for r in plan.tables["table_4_5"]
        if preset.models[r["model"]].kind == "sngan"
        for score in [r["runs"][0]["score"]]
    }
    later = sorted(t_mid for t_mid in images if t_mid)
    if 0 in images and later:
        found = {"surrogate": images[0], "refined": images[later[0]], "t_mid": later[0]}
        plan.figures["figure_4_4"] = {**found, "T": preset.models["Default"].diffusion.T}
    return plan
