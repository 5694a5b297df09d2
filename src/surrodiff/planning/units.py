"""Units of work: pieces that take equally long wherever they occur on a machine, from which costs are added up.

A unit is hashable, and `text` is its one JSON text, from which `parse` makes it again.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from surrodiff.config.fields import Block, Precision
from surrodiff.config.models import Classifier, OneModel, OneSampled


class _Unit(Block):
    @property
    def text(self) -> str:
        return self.model_dump_json()

    def __hash__(self) -> int:  # of what pydantic compares; a network's lists have no hash
        return hash(self.text)


class TrainStep(_Unit):
    """A training step of a model as its `timed` gives it. channels: of the images."""

    unit: Literal["train_step"] = "train_step"
    model: OneModel
    channels: Literal[1, 3]


class Evaluation(_Unit):
    """An evaluation of a network in sampling, for one image: of a model as its `evaluated` gives it, in the precision
    that it is asked to sample in."""

    unit: Literal["evaluation"] = "evaluation"
    model: OneSampled
    channels: Literal[1, 3]
    precision: Precision


class Features(Block):
    """The network whose features score images. sha256: of its weights; run: of the classifier, if that is it."""

    network: Literal["classifier", "efficientnet_lite0", "inception", "inception_clean"]
    precision: Literal["float32", "bfloat16"]
    sha256: str | None
    run: str | None


class ImageScore(_Unit):
    """The score of one image. classifier: as its `evaluated` gives it, where its features are used."""

    unit: Literal["score"] = "score"
    features: Features
    channels: Literal[1, 3]
    image_size: int
    classifier: Classifier | None


Unit = TrainStep | Evaluation | ImageScore
_ANY = TypeAdapter(Annotated[Unit, Field(discriminator="unit")])


def parse(text: str) -> Unit:
    """The unit of a text; raises ValueError for what is none of ours."""
    return _ANY.validate_json(text)
