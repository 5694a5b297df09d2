"""Ancestral sampling (Algorithm 2): the reverse process as it was trained, or a respaced one (section 2.2.2)."""

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import Ancestral
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule


def process(settings: Ancestral, diffusion: Diffusion, device, **made_from) -> ReverseProcess:
    """The process whose steps are Algorithm 2's; `made_from` are the fields of ReverseProcess that say of what."""
    schedule = Schedule(diffusion, settings.variance, device, settings.grid(diffusion))
    return ReverseProcess(schedule=schedule, clip_x0=settings.clip_x0, **made_from)
