"""All samplers: from the class of a sampler's settings to what makes its reverse process."""

from surrodiff.config import samplers
from surrodiff.config.diffusion import Diffusion
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.sampling import ancestral, ddim, dpm_solver, ode, unipc

PROCESSES = {
    samplers.Ancestral: ancestral.process,
    samplers.DDIM: ddim.process,
    samplers.DPMSolver: dpm_solver.process,
    samplers.UniPC: unipc.process,
    samplers.Euler: ode.process,
    samplers.Heun: ode.process,
}


def process(settings: samplers.Sampler, diffusion: Diffusion, device, **made_from) -> ReverseProcess:
    """The reverse process of a diffusion as a sampler's settings say.

    made_from: `denoiser`, `shape`, `seed`, `stream` and `compiled`, as in ReverseProcess.
    """
    return PROCESSES[type(settings)](settings, diffusion, device, **made_from)
