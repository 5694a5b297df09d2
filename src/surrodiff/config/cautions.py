"""What is allowed and most likely a slip, in a preset or a study: a warning before work begins, which continues."""

from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.models import DDPM, Sampled
from surrodiff.config.presets import Classifier, Preset
from surrodiff.config.schedules import MOST_BETA
from surrodiff.config.studies import Line, Study, timestep
from surrodiff.config.training import SampledTraining, Training

MOST_SIGNAL = 0.1  # of x_0 in x_T, for x_T to pass as noise
LEAST_SIGNAL = 0.02  # of a surrogate's sample at t_mid, for it to matter
LEAST_NOISE = 1 / 127.5  # at t_mid; less is below one step of an 8-bit pixel
MOST_RATE = 0.1  # Adam moves each weight by about the learning rate a step
LEAST_WAY = 1e-4  # learning rate times steps: as far as a weight can get
INCEPTION_FEATURES = 2048


def _of_schedule(diffusion: Diffusion) -> Iterator[str]:
    signal, _ = diffusion.signal_and_noise(diffusion.T)
    if signal > MOST_SIGNAL:
        yield (
            f"diffusion: x_T keeps {signal:.2g} of x_0 (sqrt(alpha_bar_T)), and sampling starts from noise alone; "
            "raise T or beta_T"
        )
    if diffusion.rescaled_from and (cut := sum(beta >= MOST_BETA for beta in diffusion.betas())):
        yield (
            f"diffusion.rescaled_from: {cut} of {diffusion.T} betas are cut to {MOST_BETA}; "
            "the schedule fits no T as short as this"
        )


def _of_rate(training: SampledTraining | Classifier) -> Iterator[str]:
    if training.learning_rate > MOST_RATE:
        yield f"learning_rate: {training.learning_rate:g} is so large that training will most likely diverge"
    if (distance := training.learning_rate * training.steps) < LEAST_WAY:
        yield f"learning_rate: with {training.steps} steps no weight moves by more than about {distance:.1g}"


def _of_training(training: Training) -> Iterator[str]:
    if 2 * training.warmup_steps > training.steps:
        yield f"warmup_steps: {training.warmup_steps} is more than half of the {training.steps} steps"
    if 2 > training.steps * (1 - training.ema_decay):
        memory = 1 / max(1 - training.ema_decay, 2**-53)
        yield (
            f"ema_decay: {training.ema_decay} averages over about {memory:,.0f} steps, more than half of the "
            f"{training.steps}: samples keep much of the initial weights"
        )


def _of_model(model: Sampled) -> Iterator[str]:
    texts = [*_of_rate(model.training)]
    if isinstance(model, DDPM):
        yield from _of_schedule(model.diffusion)
    if isinstance(model.training, Training):
        texts += _of_training(model.training)
    yield from (f"training.{text}" for text in texts)


def _of_models(preset: Preset, lines: list[Line]) -> Iterator[str]:
    """Warnings about the rows' models and Default; about a block that several share once, with the first of them."""
    names: dict[str, list[str]] = {}
    used = {"Default", *(name for line in lines for name in (line.model, line.surrogate))}
    for name, model in preset.models.items():
        if name not in used:
            continue
        texts = [*_of_model(model)]
        if preset.data.source == "digits" and model.training.horizontal_flip:
            texts.append("training.horizontal_flip: mirrored digits are no digits")
        for text in texts:
            names.setdefault(text, []).append(name)
    for text, (first, *others) in names.items():
        yield f"models.{first}.{text}" + (f" (so in {len(others)} more models)" if others else "")


def _of_t_mid(preset: Preset, lines: list[Line]) -> Iterator[str]:
    """Warnings about the timesteps at which the rows' diffusions take over."""
    takeovers = {(line.model, line.t_mid) for line in lines if line.surrogate}
    for name, share in sorted(takeovers, key=str):
        diffusion = preset.models[name].diffusion
        t_mid = timestep(share, diffusion.T)
        signal, noise = diffusion.signal_and_noise(t_mid)
        where = f"models.{name}.diffusion: at t_mid {t_mid} of T = {diffusion.T}"
        if t_mid and noise < LEAST_NOISE:
            yield f"{where} the noise is {noise:.1g}, which no pixel shows: the row is t_mid = 0 again"
        if t_mid and signal < LEAST_SIGNAL:
            yield f"{where} only {signal:.1g} of the surrogate's sample is left: the row is {name}'s again"


def _of_samplers(preset: Preset, lines: list[Line]) -> Iterator[str]:
    """Warnings about samplers that begin from noise at a timestep where much of x_0 should be left."""
    begun = {(line.sampler, line.model) for line in lines if line.model and not line.surrogate}
    for name, model in sorted(begun):
        sampler, diffusion = preset.samplers[name], getattr(preset.models[model], "diffusion", None)
        if diffusion and (sampler.t_start or isinstance(sampler.timesteps, list)):
            last = sampler.grid(diffusion)[-1]
            signal, _ = diffusion.signal_and_noise(last)
            if signal > max(MOST_SIGNAL, diffusion.signal_and_noise(diffusion.T)[0]):
                yield (
                    f"samplers.{name}: begins from noise alone at t = {last} of {model}, where x_t keeps {signal:.2g} "
                    "of x_0; end its timesteps near T"
                )


def _of_execution(preset: Preset) -> Iterator[str]:
    name, model = min(preset.models.items(), key=lambda item: item[1].training.steps)
    consequences = {"checkpoint_every": "an interruption loses all of it", "log_every": "its losses make no curve"}
    for key, consequence in consequences.items():
        interval = getattr(preset.execution, key)
        if interval > model.training.steps:
            yield f"execution.{key}: {interval} is beyond the {model.training.steps} steps of {name}: {consequence}"


def _of_data(preset: Preset) -> Iterator[str]:
    scoring, samples = preset.scoring, preset.sampling.num_samples
    if scoring.features.startswith("inception") and samples < INCEPTION_FEATURES:
        yield (
            f"sampling.num_samples: {samples} is fewer than the {INCEPTION_FEATURES} features of `{scoring.features}`, "
            "so the Frechet distance is mostly its own bias"
        )
    if scoring.features == "classifier":
        yield from (f"scoring.classifier.{text}" for text in _of_rate(scoring.classifier))


def of_groups(studies: Mapping[str, Study], presets: Mapping[str, Preset]) -> dict[str, str]:
    """By the study's name, a warning about its group if no preset names that and no other study has it."""
    named = list(dict.fromkeys(group for preset in presets.values() for group in preset.groups))
    sizes = Counter(study.group for study in studies.values())
    return {
        name: f"group: no preset's `groups` name {study.group!r}, so none makes this study; they name "
        f"{', '.join(named) or 'none'}"
        for name, study in studies.items()
        if study.group and study.group not in named and sizes[study.group] == 1
    }


def of_study_seeds(named: Mapping, studies: Mapping) -> Iterator[str]:
    """Warnings about names in `seeds.studies` that no study has and that are nearly one's."""
    for name in named:
        if name not in studies and (nearest := get_close_matches(name, studies, n=1)):
            yield f"seeds.studies.{name}: there is no such study; did you mean {nearest[0]}?"


def of_own_models(own: Mapping, shared: Mapping, used: set[str | None]) -> Iterator[str]:
    """Warnings about names in a preset's own `models` that neither the document's `models` have nor a study uses."""
    for name in own:
        if name not in shared and name not in used:
            nearest = get_close_matches(name, shared, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            yield f"models.{name}: neither among the `models` of all presets nor in a study{hint}"


def of_preset(preset: Preset, lines: list[Line]) -> list[str]:
    """Warnings, each with its key relative to the preset; lines: the rows that it makes."""
    return [
        *_of_models(preset, lines),
        *_of_t_mid(preset, lines),
        *_of_samplers(preset, lines),
        *_of_data(preset),
        *_of_execution(preset),
    ]
