"""Surrogates besides trained models: images that a diffusion may begin with, whoever made them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from surrodiff.config.fields import Block, Name, Revision, Share, Side, Text, as_share, check_path


class FewSteps(Block):
    """A diffusion model's own samples by a sampler with few evaluations, as a share of its T."""

    oracle: ClassVar[bool] = False

    kind: Literal["diffusion"]
    model: Name
    sampler: Name
    evaluations: Share

    @field_validator("evaluations")
    @classmethod
    def _more_than_none(cls, value):
        if not as_share(value):
            raise ValueError("must be more than 0")
        return value


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

    @field_validator("path")
    @classmethod
    def _is_path(cls, value):
        check_path(value)
        return value


Given = Upsampled | Folder  # which no network here makes
OneGiven = Annotated[Given, Field(discriminator="kind")]
Surrogate = FewSteps | Given
OneSurrogate = Annotated[Surrogate, Field(discriminator="kind")]
