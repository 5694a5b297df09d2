"""The blocks of `params.yaml` that say how a model is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from surrodiff.config.fields import (
    MOST_STEPS,
    Batch,
    Block,
    FractionOrZero,
    Precision,
    Rate,
    Repetitions,
    Revision,
    Steps,
)


class SampledTraining(Block):
    """What the training of every kind of model has that draws samples."""

    steps: Steps
    snapshot_every: Steps
    batch_size: Batch
    learning_rate: Rate
    horizontal_flip: bool
    precision: Precision
    revision: Revision

    @model_validator(mode="after")
    def _check(self):
        if self.steps % self.snapshot_every:
            raise ValueError(f"snapshot_every: {self.snapshot_every} does not divide the {self.steps} steps")
        return self


class Training(SampledTraining):
    """Adam with linear warm-up, clipping of the gradient's norm and an exponential moving average of the weights."""

    warmup_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)]
    grad_clip: Rate
    ema_decay: FractionOrZero


class AdversarialTraining(SampledTraining):
    """SNGAN's training; `steps` counts generator steps, each after `discriminator_steps` of the discriminator."""

    discriminator_steps: Repetitions


class VAETraining(Training):
    """Adam on -L_k. rates: `falling` are those of Burda et al. (2016), see kinds.vae."""

    rates: Literal["constant", "falling"]
