"""From parameters and studies to runs: which data, models, samples, scores and timings the rows need, and how each is
named.

This module touches no file and imports neither torch nor Snakemake.
"""

from dataclasses import dataclass, field, replace

from surrodiff.config import studies
from surrodiff.config.diffusion import Diffusion
from surrodiff.config.models import DDPM, Classifier, Generator, Model
from surrodiff.config.presets import Preset
from surrodiff.config.samplers import Sampler
from surrodiff.config.studies import Figure, Line, Pairs, Study, Sweep
from surrodiff.config.surrogates import FewSteps
from surrodiff.config.whole import Params
from surrodiff.planning.runs import (
    Begun,
    Config,
    DataConfig,
    DiagnosisConfig,
    Given,
    LikelihoodConfig,
    ModelConfig,
    ReferenceConfig,
    RefinementConfig,
    Run,
    SampleConfig,
    ScoreConfig,
    Surrogate,
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


@dataclass(frozen=True)
class Seeded:
    """The runs of a row for one training and one sampling seed, by their ids; None where the row needs none.

    seed: the training's; model: the run of the model that the row is about, None of images that none made. diagnosis:
    of the first seed alone.
    """

    seed: int
    model: str | None
    sample: str | None = None
    score: str | None = None
    likelihood: str | None = None
    refinement: str | None = None
    diagnosis: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table, with what its shares come to in a preset.

    step: of its model's training, after which it is sampled, and of_steps its last; T: of the diffusion that makes its
    images, None of a generator alone; t_mid: the timestep at which that takes over from a surrogate. timings: of each
    network that makes an image the timing's run and how often it is evaluated, first the row's own model's; none where
    others made the images that it begins with. trainings: of each model the timing's run, and for how many steps it was
    trained. sampler: by its name, None where no diffusion takes part. oracle: no model makes what it begins with, which
    is the training images.
    runs: none of a row that only quotes a paper, or of the real images.
    """

    line: Line
    step: int | None = None
    of_steps: int | None = None
    T: int | None = None
    t_mid: int | None = None
    image_size: int | None = None
    evaluations: int | None = None
    timings: tuple[tuple[str, int], ...] = ()
    trainings: tuple[tuple[str, int], ...] = ()
    sampler: str | None = None
    oracle: bool = False
    runs: tuple[Seeded, ...] = ()

    @property
    def label(self) -> str:
        """Its first cell."""
        return self.line.label + " (oracle: training images)" * self.oracle

    @property
    def seeds(self) -> list[int]:
        """Its training seeds."""
        return list(dict.fromkeys(run.seed for run in self.runs))


@dataclass(frozen=True)
class Table:
    """A study with its rows."""

    study: Study
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Drawing:
    """A figure of a study. shown: the rows whose samples it shows, the surrogate alone and then what is made of it."""

    figure: Figure
    table: str
    shown: tuple[Row, ...] = ()


@dataclass
class Plan:
    """All runs of a preset by id, and its tables and figures by name.

    default: Default's row after its last step, with all of its training seeds: what other rows are compared with.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, Drawing] = field(default_factory=dict)
    data: str = ""
    reference: str = ""
    default: Row = field(default_factory=lambda: Row(DEFAULT))

    def add(self, name: str, config: Config) -> str:
        run = Run(name, config)
        self.runs[run.id] = run
        return run.id

    def of_stage(self, stage: str) -> list[str]:
        return [run_id for run_id, run in self.runs.items() if run.stage == stage]


(DEFAULT,) = studies.Row(model="Default").lines()


def _named(*parts: str | int | None, seed: int = 0, sampling_seed: int = 0) -> str:
    """A run's name, which tells what is not as usual, and seeds other than 0."""
    kinds = {"seed": seed, "sampling_seed": sampling_seed}
    own = [str(part) for part in parts if part not in (None, "")]
    return "_".join(own) + "".join(f"_{kind}{number}" for kind, number in kinds.items() if number)


class _Builder:
    """Adds the runs that a preset's rows ask for to a plan, each with what it is made from."""

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

    def _model(self, name: str, model: Model, seed: int) -> str:
        made = ModelConfig(model=model, channels=self.preset.data.channels, data=self.plan.data, seed=seed)
        return self.plan.add(name, made)

    def model(self, name: str, seed: int) -> str:
        return self._model(_named(name, seed=seed), self.preset.models[name], seed)

    def _subject(self, line: Line) -> str | None:
        """The name of the model that a row is about; None where no model made its images."""
        surrogate = self.preset.surrogates.get(line.surrogate)
        if surrogate is None:
            return line.subject
        return surrogate.model if isinstance(surrogate, FewSteps) else None

    def _step(self, line: Line) -> int:
        """The step after which the row's `model` is taken."""
        return studies.snapshot(line.steps, self.preset.models[line.model].training)

    def _t_mid(self, line: Line) -> int | None:
        """The timestep at which the row's diffusion takes over: of those that its sampler takes the nearest."""
        if not line.surrogate:
            return None
        t_mid = studies.timestep(line.t_mid, self._diffusion(line).T)
        if t_mid in (0, self._diffusion(line).T):
            return t_mid
        return min(self._sampler(line).grid(self._diffusion(line)), key=lambda t: abs(t - t_mid))

    def _sampler_name(self, line: Line) -> str | None:
        """What draws a row's samples, by its name in `samplers`; None where no diffusion takes part."""
        surrogate = self.preset.surrogates.get(line.surrogate)
        if self._t_mid(line) or isinstance(self.preset.models.get(line.subject), DDPM):
            return line.sampler
        return surrogate.sampler if isinstance(surrogate, FewSteps) else None

    def _diffusion(self, line: Line) -> Diffusion:
        """Of the row's `model`; of its surrogate, where that is as long."""
        return self.preset.models[line.model].diffusion

    def _sampler(self, line: Line) -> Sampler:
        """The row's sampler, with as many timesteps as its `evaluations` ask for."""
        sampler = self.preset.samplers[line.sampler]
        if line.evaluations is None:
            return sampler
        diffusion = self._diffusion(line)
        # Of a diffusion at lower resolution as well; a generator leaves all to the one that takes over.
        begins_at_t_mid = line.surrogate and not isinstance(self.preset.models.get(line.surrogate), DDPM)
        t_start = (begins_at_t_mid and studies.timestep(line.t_mid, diffusion.T)) or diffusion.T
        return sampler.within(diffusion, studies.evaluations(line.evaluations, diffusion.T), t_start)

    def _sample(self, line: Line, seed: int, sampling_seed: int) -> Run[SampleConfig]:
        """The samples of a row for one pair of seeds; adds the models that draw them."""
        if line.surrogate in self.preset.surrogates and not self._t_mid(line):
            return self._start(line, seed, sampling_seed)
        models, t_mid, step = self.preset.models, self._t_mid(line), self._step(line)
        unfinished = step if step != models[line.model].training.steps else None
        diffusion, surrogate, begun = None, None, None
        if line.surrogate in self.preset.surrogates:
            start, _ = self._scored(self._start(line, seed, sampling_seed))
            begun = Begun(samples=start, t_mid=t_mid)
            diffusion = Trained(run=self.model(line.model, seed), step=step)
            parts = [line.surrogate, f"t{t_mid}", None if line.model == "Default" else line.model, unfinished]
        elif line.surrogate:
            other = models[line.surrogate]
            handover = (line.handover if t_mid else "x0") if isinstance(other, DDPM) else None
            run = self.model(line.surrogate, seed)
            surrogate = Surrogate(run=run, step=other.training.steps, t_mid=t_mid, handover=handover)
            parts = [line.surrogate, f"t{t_mid}"]
            if t_mid:  # else the surrogate's samples are the result, whatever would take over
                diffusion = Trained(run=self.model(line.model, seed), step=step)
                parts += [None if line.model == "Default" else line.model, unfinished]
                parts += [handover] if handover == "x_t" else []
        elif isinstance(models[line.model], Generator):
            surrogate = Surrogate(run=self.model(line.model, seed), step=step, t_mid=0, handover=None)
            parts = [line.model, "t0", unfinished]
        else:
            diffusion = Trained(run=self.model(line.model, seed), step=step)
            parts = [line.model, step]
        diffuses = diffusion or isinstance(models[line.subject], DDPM)  # of a surrogate alone at t_mid = 0
        sampler = self._sampler(line) if diffuses else None
        if diffuses and (line.sampler != "ancestral" or (line.evaluations is not None and sampler.timesteps)):
            parts.append(line.sampler)
        if diffuses and line.evaluations is not None:
            parts.append(sampler.timesteps)
        config = SampleConfig(
            **self.preset.sampling.model_dump(),
            sampler=sampler,
            seed=sampling_seed,
            model=diffusion,
            surrogate=surrogate,
            begun=begun,
        )
        return Run(_named(*parts, seed=seed, sampling_seed=sampling_seed), config)

    def _start(self, line: Line, seed: int, sampling_seed: int) -> Run[SampleConfig]:
        """The samples with which a surrogate that is no model begins."""
        surrogate = self.preset.surrogates[line.surrogate]
        if isinstance(surrogate, FewSteps):
            own = {key: getattr(surrogate, key) for key in ("model", "sampler", "evaluations")}
            (few,) = studies.Row(**own).lines()
            return self._sample(few, seed, sampling_seed)
        config = SampleConfig(
            **self.preset.sampling.model_dump() | {"precision": "float32"},
            sampler=None,
            seed=sampling_seed,
            model=None,
            surrogate=None,
            given=Given(source=surrogate, data=self.plan.data),
        )
        return Run(_named(line.surrogate, sampling_seed=sampling_seed), config)

    def _scored(self, drawn: Run[SampleConfig]) -> tuple[str, str]:
        """Add samples and their score; returns the ids of both."""
        sample = self.plan.add(drawn.name, drawn.config)
        return sample, self.plan.add(drawn.name, ScoreConfig(sample=sample, reference=self.plan.reference))

    def timing(self, name: str) -> str:
        config = TimingConfig(
            **self.preset.timing.model_dump(),
            model=self.preset.models[name].timed(),
            baseline=self.preset.models["Default"].timed(),
            channels=self.preset.data.channels,
            sampling_precision=self.preset.sampling.precision,
        )
        return self.plan.add(name, config)

    def likelihood(self, line: Line, seed: int) -> str:
        step, model, settings = self._step(line), self.preset.models[line.model], self.preset.likelihood.model_dump()
        unfinished = step if step != model.training.steps else None
        T, count = model.diffusion.T, None
        if line.evaluations is not None and (some := studies.evaluations(line.evaluations, T)) < T:
            count = some
        if model.network.learned_variance:
            settings["variance"] = "learned"
        config = LikelihoodConfig(
            **settings,
            timesteps=count,
            model=Trained(run=self.model(line.model, seed), step=step),
            data=self.plan.data,
        )
        return self.plan.add(_named(line.model, unfinished, count and f"of_{count}", seed=seed), config)

    def diagnosis(self, line: Line, seed: int) -> str:
        step, model = self._step(line), self.preset.models[line.model]
        settings = self.preset.diagnosis.model_dump()
        settings["timesteps"] = min(settings["timesteps"], model.diffusion.T)
        trained = Trained(run=self.model(line.model, seed), step=step)
        return self.plan.add(
            _named(line.model, step, seed=seed), DiagnosisConfig(**settings, model=trained, data=self.plan.data)
        )

    def _seeded(self, line: Line, seed: int, sampling_seed: int, needs: set[str]) -> Seeded:
        sample = score = likelihood = refinement = diagnosis = None
        if {"score", "refinement"} & needs:  # the job of a score makes the samples, too
            sample, score = self._scored(self._sample(line, seed, sampling_seed))
        if "likelihood" in needs:
            likelihood = self.likelihood(line, seed)
        if "refinement" in needs and line.is_refined:
            refinement = self._refinement(line, sample, seed, sampling_seed)
        if "diagnosis" in needs and not line.surrogate and isinstance(self.preset.models[line.model], DDPM):
            diagnosis = self.diagnosis(line, seed)
        subject = self._subject(line)
        return Seeded(seed, subject and self.model(subject, seed), sample, score, likelihood, refinement, diagnosis)

    def _refinement(self, line: Line, refined: str, seed: int, sampling_seed: int) -> str:
        alone, _ = self._scored(self._sample(_alone(line), seed, sampling_seed))
        made_from = {"reference": self.plan.reference, "data": self.plan.data}
        config = RefinementConfig(surrogate=alone, refined=refined, **made_from)
        return self.plan.add(self.plan.runs[refined].name, config)

    def _evaluations(self, line: Line, seed: int) -> list[tuple[str, int]]:
        """The models that make an image of a row, by name, the surrogate first, and how often each is evaluated."""
        surrogate = self.preset.surrogates.get(line.surrogate)
        counts = [count for _, count in self._sample(line, seed, 0).config.evaluations(self.plan.runs)]
        if surrogate is None:
            names = [line.surrogate, line.model] if line.surrogate else [line.model]
            return list(zip(names, counts, strict=False))
        few = isinstance(surrogate, FewSteps)
        own = [(surrogate.model, self._sampled(self._start(line, seed, 0)))] if few else []
        return [*own, *((line.model, count) for count in counts if self._t_mid(line))]

    def _sampled(self, drawn: Run[SampleConfig]) -> int:
        """How often networks are evaluated for one of such samples."""
        return sum(count for _, count in drawn.config.evaluations(self.plan.runs))

    def row(self, line: Line, needs: set[str], seeds: list[int]) -> Row:
        """A line's row for the given training seeds; needs: the kinds of runs (see studies.Study.needs)."""
        if line.subject is None:
            return Row(line)
        name = self._subject(line)
        subject, last = name and self.preset.models[name], self.preset.models[line.model]
        surrogate = self.preset.surrogates.get(line.surrogate)
        sampling = self.preset.seeds.sampling if {"score", "refinement"} & needs else [0]
        pairs = [(seed, own) for seed in seeds for own in sampling]
        runs = tuple(
            self._seeded(line, *pair, needs if number == 0 else needs - {"diagnosis"})
            for number, pair in enumerate(pairs)
        )
        evaluations = self._evaluations(line, seeds[0])
        timings = tuple((self.timing(model), count) for model, count in evaluations) if "timing" in needs else ()
        last_step = subject and subject.training.steps
        steps = {model: self.preset.models[model].training.steps for model, _ in evaluations}
        steps |= {line.model: self._step(line)} if line.model in steps else {}
        return Row(
            line=line,
            step=last_step if line.surrogate else self._step(line),
            of_steps=last_step,
            T=last.diffusion.T if isinstance(last, DDPM) else None,
            t_mid=self._t_mid(line),
            image_size=subject.image_size if subject else self.preset.data.image_size,
            evaluations=sum(count for _, count in evaluations),
            timings=timings if subject else (),
            trainings=tuple((self.timing(name), count) for name, count in steps.items()) if timings and subject else (),
            sampler=self._sampler_name(line),
            oracle=surrogate is not None and surrogate.oracle,
            runs=runs,
        )

    def rows(self, line: Line, needs: set[str], training: list[int]) -> list[Row]:
        """The rows of a line: one over the training seeds, or one for each seed of the calibration. Default's last has
        the calibration's seeds as well: every other row is compared with their mean."""
        calibration = self.preset.seeds.calibration
        if line.seeds == "calibration":
            return [self.row(line, needs, [seed]) for seed in calibration]
        more = calibration if self.is_default(line) and "score" in needs else []
        return [self.row(line, needs, list(dict.fromkeys([*training, *more])))]

    def is_default(self, line: Line) -> bool:
        """Whether a row shows Default's samples after its last step."""
        shares = {studies.as_share(line.steps), studies.as_share(line.evaluations or 1)}
        whole = line.subject == "Default" and shares == {1}
        return whole and line.surrogate is None and line.sampler == "ancestral"


def _alone(line: Line) -> Line:
    """The row of a refined row's surrogate alone, its samples drawn likewise."""
    return replace(line, t_mid=0)


def _shown(builder: _Builder, figure: Figure, rows: list[Row]) -> tuple[Row, ...]:
    """The rows whose samples a figure shows."""
    match figure:
        case Pairs():
            refined = [next(row for row in rows if row.line.name == figure.row)]
        case Sweep():
            of_surrogate = [row for row in rows if row.line.is_refined and row.line.surrogate == figure.surrogate]
            refined = sorted(of_surrogate, key=lambda row: row.t_mid)
        case _:
            return ()
    first = refined[0]
    return (builder.row(_alone(first.line), {"score"}, first.seeds[:1]), *refined)


def build(params: Params) -> Plan:
    """Resolve the selected preset and its studies into runs, tables and figures (see Plan)."""
    preset = params.selected
    builder = _Builder(preset)
    plan = builder.plan
    if any(study.compares() for study in params.made(preset).values()):
        (plan.default,) = builder.rows(DEFAULT, {"score", "timing"}, preset.seeds.training)
    for name, study in params.made(preset).items():
        needs = study.needs()
        training = preset.seeds.of_study(name)
        rows = [row for line in params.lines(study) for row in builder.rows(line, needs, training)]
        plan.tables[name] = Table(study, tuple(rows))
        for figure in study.figures:
            plan.figures[figure.name] = Drawing(figure, name, _shown(builder, figure, rows))
    # What a paper prints of Default holds wherever Default is compared with.
    same = (row for table in plan.tables.values() for row in table.rows if row.line.paper and not row.line.seeds)
    if found := next((row for row in same if builder.is_default(row.line)), None):
        plan.default = replace(plan.default, line=replace(DEFAULT, paper=found.line.paper))
    return plan
