"""Orders of convergence on Gaussian pixels, whose probability-flow equation has a closed solution."""

import math

import pytest
import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import DDIM, DPMSolver, Euler, Heun, UniPC
from surrodiff.runtime.noise import Stream
from surrodiff.sampling import registry

T, MEAN, DEVIATION = 4097, 0.3, 0.4
COUNTS = [33, 65, 129, 257]  # T - 1 is a multiple of each less one
DIFFUSION = Diffusion(T=T, beta_1=1e-4, beta_T=0.02, rescaled_from=1000)
START = torch.linspace(-2.5, 2.5, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
FREE = {"clip_x0": False}
SOLVERS = {
    "ddim": (DDIM(kind="ddim", eta=0.0, **FREE), 1),
    "euler": (Euler(kind="euler", **FREE), 1),
    "heun": (Heun(kind="heun", **FREE), 2),
    "dpm_solver": (DPMSolver(kind="dpm_solver", **FREE), 2),
    "unipc": (UniPC(kind="unipc", **FREE), 2),
}


def process(settings, prediction: str = "eps"):
    """With the best network there is."""
    schedule = None

    def best(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = schedule.alpha_bar[t[0]]
        eps = (1 - a).sqrt() * (x_t - a.sqrt() * MEAN) / (a * DEVIATION**2 + 1 - a)
        x_0 = (x_t - (1 - a).sqrt() * eps) / a.sqrt()
        return {"eps": eps, "x0": x_0, "v": a.sqrt() * eps - (1 - a).sqrt() * x_0}[prediction]

    diffusion = DIFFUSION.model_copy(update={"prediction": prediction})
    made_from = {"denoiser": best, "shape": (1, 4, 4), "seed": 0, "stream": Stream.REVERSE}
    made = registry.process(settings, diffusion, None, compiled=lambda function: function, **made_from)
    schedule = made.schedule
    return made


def exact(schedule, t: int) -> torch.Tensor:
    """x_t of the solution through START at T of dx / dsigma = sigma (x - m) / (s^2 + sigma^2), where x = x_t / signal
    and the images' pixels are N(m, s^2)."""
    sigma = schedule.noise / schedule.signal
    spread = ((DEVIATION**2 + sigma[t] ** 2) / (DEVIATION**2 + sigma[T] ** 2)).sqrt()
    return schedule.signal[t] * (MEAN + (START / schedule.signal[T] - MEAN) * spread)


def errors(settings, t_start: int = T, t_stop: int = 1, counts=COUNTS, **how) -> list[float]:
    """The largest error of x_{t_stop} that begins on the solution, by the number of timesteps."""
    found = []
    for count in counts:
        made = process(settings.model_copy(update={"timesteps": count, "spacing": "quadratic"}), **how)
        t_begin, t_end = (min(made.schedule.timesteps, key=lambda t: abs(t - asked)) for asked in (t_start, t_stop))
        x = made.run(exact(made.schedule, t_begin), torch.arange(1), t_begin, t_end)
        assert x.dtype == torch.float64
        found.append((x - exact(made.schedule, t_end)).abs().max().item())
    return found


def order(found: list[float]) -> float:
    """Of what is left of an error by halving the steps."""
    return math.log2(found[-2] / found[-1])


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("name", SOLVERS)
def test_halving_the_steps_leaves_a_half_or_a_quarter_of_the_error(name, prediction):
    settings, expected = SOLVERS[name]
    found = errors(settings, prediction=prediction)
    assert order(found) == pytest.approx(expected, abs=0.1)
    assert found[-1] < (0.01 if expected == 1 else 2e-4)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(("t_start", "t_stop"), [(T // 2, 1), (T, T // 4)])
def test_a_part_of_the_way_has_the_same_order(name, t_start, t_stop):
    """As after a surrogate, and as one at lower resolution."""
    settings, expected = SOLVERS[name]
    assert order(errors(settings, t_start, t_stop)) > expected - 0.25


def test_of_few_steps_those_of_higher_order_leave_the_least_error():
    (euler, heun, dpm, unipc) = (
        errors(SOLVERS[name][0], counts=[17])[0] for name in ("euler", "heun", "dpm_solver", "unipc")
    )
    assert max(heun, unipc) < dpm < euler


@pytest.mark.parametrize("name", SOLVERS)
def test_whole_chains_end_in_the_distribution_of_the_images(name):
    """The solution maps x_T ~ N(0, 1) linearly: here its slope and its value at the images' mean."""
    settings, _ = SOLVERS[name]
    made = process(settings.model_copy(update={"timesteps": 129, "spacing": "quadratic"}))
    x_0 = made.run(START, torch.arange(1), T).flatten()
    slope = (x_0[-1] - x_0[0]) / (START.max() - START.min())
    assert slope.item() == pytest.approx(DEVIATION, rel=0.05)
    assert x_0.mean().item() == pytest.approx(MEAN, abs=0.01)
