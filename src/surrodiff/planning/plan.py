"""From parameters and studies to runs: which data, models, samples, scores and timings the rows need, and how each is
named.

This module touches no file and imports neither torch nor Snakemake.
"""

from dataclasses import dataclass, field, replace

from surrodiff.config import studies
from surrodiff.config.models import DDPM, Classifier, Generator
from surrodiff.config.presets import Preset
from surrodiff.config.studies import Figure, Line, Pairs, Study, Sweep
from surrodiff.config.whole import Params
from surrodiff.planning.measures import DiagnosisConfig, LikelihoodConfig, RefinementConfig, TimingConfig
from surrodiff.planning.runs import (
    Collected,
    ReferenceConfig,
    ScoreConfig,
    Trained,
)
from surrodiff.planning.samples import Samples, named

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
    trained. num_samples: how many images are drawn. sampler: by its name, None where no diffusion takes part. oracle:
    no model makes what it begins with, which is the training images.
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
    num_samples: int | None = None
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
class Plan(Collected):
    """All runs of a preset by id, and its tables and figures by name.

    default: Default's row after its last step, with all of its training seeds: what other rows are compared with.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, Drawing] = field(default_factory=dict)
    data: str = ""
    reference: str = ""
    default: Row = field(default_factory=lambda: Row(DEFAULT))


(DEFAULT,) = studies.Row(model="Default").lines()


class _Builder(Samples):
    """Adds the runs that a preset's rows ask for to a plan, each with what it is made from."""

    def __init__(self, preset: Preset):
        super().__init__(preset, Plan())
        self.plan.data = self.data
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

    def _scored(self, line: Line, seed: int, sampling_seed: int) -> tuple[str, str]:
        """Add a row's samples and their score, and first those with which they begin; returns the ids of both."""
        drawn = [self._sample(line, seed, sampling_seed)]
        if drawn[0].config.begun:
            drawn.insert(0, self._start(line, seed, sampling_seed))
        for run in drawn:
            sample = self.plan.add(run.name, run.config)
            score = self.plan.add(run.name, ScoreConfig(sample=sample, reference=self.plan.reference))
        return sample, score

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
        unfinished, count = step if step != model.training.steps else None, None
        if isinstance(model, Generator):
            # As many samples as the tightest bound has: a flow's has fewer than are asked for.
            samples = model.bound_sizes(settings["samples"])[-1]
            settings |= {"variance": None, "clip_x0": None, "precision": "float32", "samples": samples}
        else:
            T, settings["samples"] = model.diffusion.T, None
            if line.evaluations is not None and (some := studies.evaluations(line.evaluations, T)) < T:
                count = some
            if model.network.learned_variance:
                settings["variance"] = "learned"
        config = LikelihoodConfig(
            **settings,
            timesteps=count,
            model=Trained(run=self.model(line.model, seed), step=step),
            data=self._data(model),
        )
        return self.plan.add(named(line.model, unfinished, count and f"of_{count}", seed=seed), config)

    def diagnosis(self, line: Line, seed: int) -> str:
        step, model = self._step(line), self.preset.models[line.model]
        settings = self.preset.diagnosis.model_dump()
        settings["timesteps"] = min(settings["timesteps"], model.diffusion.T)
        trained = Trained(run=self.model(line.model, seed), step=step)
        return self.plan.add(
            named(line.model, step, seed=seed), DiagnosisConfig(**settings, model=trained, data=self.plan.data)
        )

    def _seeded(self, line: Line, seed: int, sampling_seed: int, needs: set[str]) -> Seeded:
        sample = score = likelihood = refinement = diagnosis = None
        if {"score", "refinement"} & needs:  # the job of a score makes the samples, too
            sample, score = self._scored(line, seed, sampling_seed)
        if "likelihood" in needs:
            likelihood = self.likelihood(line, seed)
        if "refinement" in needs and line.is_refined:
            refinement = self._refinement(line, sample, seed, sampling_seed)
        if "diagnosis" in needs and not line.surrogate and isinstance(self.preset.models[line.model], DDPM):
            diagnosis = self.diagnosis(line, seed)
        subject = self._subject(line)
        return Seeded(seed, subject and self.model(subject, seed), sample, score, likelihood, refinement, diagnosis)

    def _refinement(self, line: Line, refined: str, seed: int, sampling_seed: int) -> str:
        alone, _ = self._scored(_alone(line), seed, sampling_seed)
        made_from = {"reference": self.plan.reference, "data": self.plan.data}
        config = RefinementConfig(surrogate=alone, refined=refined, **made_from)
        return self.plan.add(self.plan.runs[refined].name, config)

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
        return Row(
            line=line,
            step=last_step if line.surrogate else self._step(line),
            of_steps=last_step,
            T=last.diffusion.T if isinstance(last, DDPM) else None,
            t_mid=self._t_mid(line),
            image_size=subject.image_size if subject else self.preset.data.image_size,
            evaluations=sum(count for _, count in evaluations),
            timings=timings if subject else (),
            trainings=self._trainings(line) if timings and subject else (),
            num_samples=self.preset.sampling.num_samples,
            sampler=self._sampler_name(line),
            oracle=surrogate is not None and surrogate.oracle,
            runs=runs,
        )

    def _trainings(self, line: Line) -> tuple[tuple[str, int], ...]:
        """The timing of each model that a row's images need, and how many steps of its training."""
        subject = self._subject(line)
        steps = {subject: self.preset.models[subject].training.steps} if line.surrogate else {}
        if not line.surrogate or self._t_mid(line):
            steps[line.model] = max(self._step(line), steps.get(line.model, 0))
        return tuple((self.timing(name), count) for name, count in steps.items())

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
