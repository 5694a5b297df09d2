"""Surrogates besides trained models: images that a diffusion may begin with, whoever made them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from surrodiff.config.fields import Block, Name, Revision, Share, Side, Text, as_share, check_path
from surrodiff.config.studies import Line, Row


class FewSteps(Block):
    """A diffusion model's own samples by a sampler with few evaluations, as a share of its T."""

    oracle: ClassVar[bool] = False

    kind: Literal["few_steps"]
    model: Name
    sampler: Name
    evaluations: Share

    def line(self) -> Line:
        """The row of its samples by themselves."""
        (line,) = Row(model=self.model, sampler=self.sampler, evaluations=self.evaluations).lines()
        return line

    @model_validator(mode="after")
    def _check(self):
        if not as_share(self.evaluations):
            raise ValueError("evaluations: must be more than 0")
        return self


class Upsampled(Block):
    """The training images, resized to image_size and back. oracle: no generator has them, so that its rows are a bound
    on what a surrogate of so few pixels can give, and never the best ones."""

    oracle: ClassVar[bool] = True

    kind: Literal["upsampled"]
    image_size: Side


class Folder(Block):
    """The images of a folder, made by any program. padding, fingerprint: as of presets.Data; revision: raise it to have
    the images read anew."""

    oracle: ClassVar[bool] = False

    kind: Literal["folder"]
    path: Text
    padding: Literal["crop", "pad"] = "crop"
    revision: Revision = 1
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None

    @model_validator(mode="after")
    def _check(self):
        check_path(self.path)
        return self


Given = Upsampled | Folder  # which no network here makes
OneGiven = Annotated[Given, Field(discriminator="kind")]
Surrogate = FewSteps | Given
OneSurrogate = Annotated[Surrogate, Field(discriminator="kind")]
