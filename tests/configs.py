"""Configurations with some of their numbers changed."""

from surrodiff.config.documents import merged
from surrodiff.planning.runs import Made, ModelConfig, Run


def changed(config: Made, **changes) -> Made:
    """A configuration with changes; blocks within it are changed in part."""
    return type(config).model_validate(merged(config.json_value(), changes))


CLASSIFIER = {"steps": 3, "batch_size": 2, "learning_rate": 0.5, "revision": 1}
MODEL = {"kind": "classifier", "image_size": 8, "width": 4, "training": CLASSIFIER}
# A run for what does not depend on what a run is made from.
RUN = Run("Mine", ModelConfig.model_validate({"model": MODEL, "channels": 1, "data": "digits-01234567", "seed": 0}))
