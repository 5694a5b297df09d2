"""What draws a row's samples in a preset: its models, its sampler, and what its shares come to."""

from surrodiff.config import studies
from surrodiff.config.diffusion import Diffusion
from surrodiff.config.models import DDPM, Generator, Model
from surrodiff.config.presets import Data, Preset
from surrodiff.config.samplers import Sampler
from surrodiff.config.studies import Line
from surrodiff.config.surrogates import FewSteps
from surrodiff.planning.runs import (
    Begun,
    Collected,
    DataConfig,
    Given,
    ModelConfig,
    Run,
    SampleConfig,
    Surrogate,
    Trained,
)


def named(*parts: str | int | None, seed: int = 0, sampling_seed: int = 0) -> str:
    """A run's name, which tells what is not as usual, and seeds other than 0."""
    kinds = {"seed": seed, "sampling_seed": sampling_seed}
    own = [str(part) for part in parts if part not in (None, "")]
    return "_".join(own) + "".join(f"_{kind}{number}" for kind, number in kinds.items() if number)


def _data_config(data: Data) -> DataConfig:
    return DataConfig(**data.model_dump())


class Samples:
    """Resolves how rows of a preset are sampled, and adds the data and the models that this takes to a collection of
    runs. data: the run of the preset's data."""

    def __init__(self, preset: Preset, plan: Collected):
        self.preset, self.plan = preset, plan
        self.data = plan.add(preset.data.source, _data_config(preset.data))

    def _data(self, model: Model) -> str:
        """The run of the images that a model is trained on."""
        name = getattr(model, "data", None)
        return self.data if name is None else self.plan.add(name, _data_config(self.preset.datasets[name]))

    def _model(self, name: str, model: Model, seed: int) -> str:
        data = self._data(model)
        if isinstance(model, Generator):
            model = model.model_copy(update={"data": None})  # whose run is named
        made = ModelConfig(model=model, channels=self.plan.runs[data].config.channels, data=data, seed=seed)
        return self.plan.add(name, made)

    def model(self, name: str, seed: int) -> str:
        return self._model(named(name, seed=seed), self.preset.models[name], seed)

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
            start = self._start(line, seed, sampling_seed)
            begun = Begun(samples=start.id, t_mid=t_mid)
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
        return Run(named(*parts, seed=seed, sampling_seed=sampling_seed), config)

    def _start(self, line: Line, seed: int, sampling_seed: int) -> Run[SampleConfig]:
        """The samples with which a surrogate that is no model begins."""
        surrogate = self.preset.surrogates[line.surrogate]
        if isinstance(surrogate, FewSteps):
            return self._sample(surrogate.line(), seed, sampling_seed)
        config = SampleConfig(
            **self.preset.sampling.model_dump() | {"precision": "float32"},
            sampler=None,
            seed=sampling_seed,
            model=None,
            surrogate=None,
            given=Given(source=surrogate, data=self.data),
        )
        return Run(named(line.surrogate, sampling_seed=sampling_seed), config)

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
