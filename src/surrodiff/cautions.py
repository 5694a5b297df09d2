"""What a preset says that is allowed and most likely a slip: told before work begins, which goes on all the same."""

import math
from collections.abc import Iterator

from surrodiff.model_params import DDPM, SNGAN, Diffusion
from surrodiff.preset_params import Preset

MOST_SIGNAL = 0.1  # of x_0 in x_T, for x_T to pass as noise
LEAST_SIGNAL = 0.02  # of a surrogate's sample at t_mid, for it to matter
LEAST_NOISE = 1 / 127.5  # at t_mid; less is below one step of an 8-bit pixel
MOST_RATE = 0.1  # Adam moves each weight by about the learning rate a step
LEAST_WAY = 1e-4  # learning rate times steps: as far as a weight can get
INCEPTION_FEATURES = 2048


def _signal_and_noise(diffusion: Diffusion, t: int) -> tuple[float, float]:
    """The factors of x_0 and of the noise in x_t: sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)."""
    slope = (diffusion.beta_T - diffusion.beta_1) / (diffusion.T - 1)
    log = math.fsum(math.log1p(-(diffusion.beta_1 + slope * step)) for step in range(t))
    return math.exp(log / 2), math.sqrt(-math.expm1(log))


def _of_schedule(diffusion: Diffusion) -> Iterator[str]:
    signal, _ = _signal_and_noise(diffusion, diffusion.T)
    if signal > MOST_SIGNAL:
        yield (
            f"diffusion: x_T keeps {signal:.2g} of x_0 (sqrt(alpha_bar_T)), and sampling starts from noise alone; "
            "raise T or beta_T"
        )


def _of_training(model: DDPM | SNGAN) -> Iterator[str]:
    training = model.training
    if training.learning_rate > MOST_RATE:
        yield f"training.learning_rate: {training.learning_rate:g} is so large that training will most likely diverge"
    if (way := training.learning_rate * training.steps) < LEAST_WAY:
        yield f"training.learning_rate: with {training.steps} steps no weight moves by more than about {way:.1g}"
    if isinstance(model, SNGAN):
        return
    if 2 * training.warmup_steps > training.steps:
        yield f"training.warmup_steps: {training.warmup_steps} is more than half of the {training.steps} steps"
    if 2 > training.steps * (1 - training.ema_decay):
        memory = 1 / max(1 - training.ema_decay, 2**-53)
        yield (
            f"training.ema_decay: {training.ema_decay} averages over about {memory:,.0f} steps, more than half of the "
            f"{training.steps}: samples keep much of the initial weights"
        )


def _of_model(model: DDPM | SNGAN) -> Iterator[str]:
    if isinstance(model, DDPM):
        yield from _of_schedule(model.diffusion)
    yield from _of_training(model)


def _of_models(preset: Preset) -> Iterator[str]:
    """A warning about a block that several models share is told once, with the first of them."""
    names: dict[str, list[str]] = {}
    for name, model in preset.models.items():
        for text in _of_model(model):
            names.setdefault(text, []).append(name)
    for text, (first, *others) in names.items():
        yield f"models.{first}.{text}" + (f" (so in {len(others)} more models)" if others else "")


def _of_t_mid(preset: Preset) -> Iterator[str]:
    diffusion = preset.models["Default"].diffusion
    for t_mid in filter(None, preset.surrogate.t_mid):
        signal, noise = _signal_and_noise(diffusion, t_mid)
        if noise < LEAST_NOISE:
            yield (
                f"surrogate.t_mid: at {t_mid} of T = {diffusion.T} the noise is {noise:.1g}, which no pixel shows: "
                "the row is t_mid = 0 again"
            )
        if signal < LEAST_SIGNAL:
            yield (
                f"surrogate.t_mid: at {t_mid} of T = {diffusion.T} only {signal:.1g} of the surrogate's sample is "
                "left: the row is Default's again"
            )


def of_preset(preset: Preset) -> list[str]:
    """Warnings, each with its key relative to the preset."""
    found = [*_of_models(preset), *_of_t_mid(preset)]
    scoring, samples = preset.scoring, preset.sampling.num_samples
    if scoring.features.startswith("inception") and samples < INCEPTION_FEATURES:
        found.append(
            f"sampling.num_samples: {samples} is fewer than the {INCEPTION_FEATURES} features of `{scoring.features}`, "
            "so the Frechet distance is mostly its own bias"
        )
    if preset.data.source == "digits":
        found += [
            f"models.{name}.training.horizontal_flip: mirrored digits are no digits"
            for name, model in preset.models.items()
            if model.training.horizontal_flip
        ]
    return found
