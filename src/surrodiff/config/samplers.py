"""How samples are drawn from a diffusion: one class for each kind of sampler, with what its steps depend on."""

import math
from bisect import bisect_right
from itertools import accumulate, pairwise, repeat
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.fields import MOST_TIMESTEPS, Grown
from surrodiff.config.schedules import log_alpha_bar
from surrodiff.errors import printable


def _count_or_list(value: Any) -> Any:
    is_count = type(value) is int and 1 <= value <= MOST_TIMESTEPS
    is_list = isinstance(value, list) and value and all(type(t) is int and t <= MOST_TIMESTEPS for t in value)
    if value is not None and not is_count and not is_list:
        many = f"must be how many timesteps, 1 to {MOST_TIMESTEPS:,}, or a list of them, such as [1, 500, 1000]"
        raise PydanticCustomError("timesteps", many)
    if is_list and (value[0] < 1 or any(later <= t for t, later in pairwise(value))):
        raise PydanticCustomError(
            "rising", "must be from 1 and rising, each timestep once, got {value}", {"value": printable(str(value), 60)}
        )
    return value


Spaced = Annotated[int | list[int] | None, BeforeValidator(_count_or_list)]


class Respaced(Grown):
    """A sampler that takes some of a diffusion's timesteps (section 2.2.2, equations 10 and 11).

    timesteps: how many of those up to t_start (T if not given), at most all of them, or which; all if not given.
    spacing: `even`, both ends included; `quadratic` (Song et al., 2021); `log_snr`, evenly in the logarithm of the
    signal-to-noise ratio (Lu et al., 2022).
    """

    later = ("timesteps", "spacing", "t_start")
    draws_noise: ClassVar[bool] = True

    timesteps: Spaced = None
    spacing: Literal["even", "quadratic", "log_snr"] = "even"
    t_start: Annotated[int, Field(ge=1, le=MOST_TIMESTEPS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_noise(cls, raw: Any):
        for key in ("eta", "variance") if isinstance(raw, dict) and not cls.draws_noise else ():
            if key in raw:
                raise ValueError(
                    f"{key}: of samplers that draw noise, and {raw.get('kind')} solves an equation; remove it"
                )
        return raw

    def grid(self, diffusion: Diffusion) -> tuple[int, ...]:
        """The timesteps that it takes, rising. Raises ValueError where the diffusion does not have them."""
        return grid(diffusion, self.timesteps, self.spacing, self.t_start)

    def evaluations(self, diffusion: Diffusion, t_start: int, t_stop: int = 0) -> int:
        """How often the network is evaluated for one image on the way from x_{t_start} to x_{t_stop}."""
        taken = self.grid(diffusion)
        return bisect_right(taken, t_start) - bisect_right(taken, t_stop)

    def within(self, diffusion: Diffusion, evaluations: int, t_start: int) -> "Respaced":
        """This sampler with about so many evaluations, at least one, for an image on the way from t_start to 0."""
        count = max(1, min(t_start, self._steps(evaluations)))
        if count == t_start:  # all of them, as without a number
            return self.model_copy(update={"timesteps": None, "t_start": None})
        return self.model_copy(update={"timesteps": count, "t_start": None if t_start == diffusion.T else t_start})

    def _steps(self, evaluations: int) -> int:
        return evaluations


def grid(
    diffusion: Diffusion, timesteps: int | list[int] | None, spacing: str = "even", t_start: int | None = None
) -> tuple[int, ...]:
    """Those of a diffusion's timesteps that are taken, rising, at most t_start or T. Raises ValueError where there are
    not so many."""
    last = t_start or diffusion.T
    if last > diffusion.T:
        raise ValueError(f"t_start: {last} is beyond T = {diffusion.T}")
    if timesteps is None:
        return tuple(range(1, last + 1))
    most = timesteps if isinstance(timesteps, int) else timesteps[-1]
    if most > last:
        raise ValueError(f"timesteps: {most} is beyond {'t_start' if t_start else 'T'} = {last}")
    if isinstance(timesteps, list):
        return tuple(timesteps)
    if timesteps == 1:
        return (last,)
    stride = (last - 1) / (timesteps - 1)
    # Added up, as Nichol and Dhariwal's code does, whose timesteps these therefore are.
    places = [*accumulate(repeat(stride, timesteps - 1), initial=0.0)]
    if spacing == "quadratic":
        places = [place**2 / (last - 1) for place in places]
    if spacing == "log_snr":
        places = _by_log_snr(diffusion, [place / (last - 1) for place in places], last)
    return _distinct(places, last)


def _by_log_snr(diffusion: Diffusion, shares: list[float], last: int) -> list[float]:
    """Timesteps, with fractions and counted from t = 1, that part the range of log SNR at shares of it, up to last."""
    logs = log_alpha_bar(diffusion.betas())[1 : last + 1]
    noise_to_signal = [math.log(-math.expm1(log)) - log for log in logs]
    least, most = noise_to_signal[0], noise_to_signal[-1]
    places, below = [], 0
    for share in shares:
        value = least + share * (most - least)
        while below < len(noise_to_signal) - 2 and noise_to_signal[below + 1] < value:
            below += 1
        low, high = noise_to_signal[below], noise_to_signal[below + 1]
        places.append(below + min(1.0, max(0.0, (value - low) / (high - low))))
    return places


def _distinct(places: list[float], last: int) -> tuple[int, ...]:
    """The nearest whole timesteps to places counted from t = 1, each once: where several fall on one, the next free
    ones above, up to last."""
    taken, previous = [], 0
    for number, place in enumerate(places):
        previous = min(max(1 + round(place), previous + 1), last - (len(places) - 1 - number))
        taken.append(previous)
    return tuple(taken)


class Ancestral(Respaced):
    """Algorithm 2: a step of the reverse process for each timestep.

    variance: of its noise, beta_t (`fixed_large`), that of the posterior (`fixed_small`), or what the network has
    `learned`; clip_x0: the predicted x_0 is clipped to [-1, 1] before each step's mean (the paper's code does not).
    """

    kind: Literal["ancestral"]
    variance: Literal["fixed_large", "fixed_small", "learned"]
    clip_x0: bool


class DDIM(Respaced):
    """Song et al. (2021): eta 0 draws no noise, eta 1 as much as ancestral sampling with `fixed_small`."""

    kind: Literal["ddim"]
    # Zero is one number, whatever its sign: a run's id is made from how it prints.
    eta: Annotated[float, Field(ge=0, le=1), AfterValidator(lambda value: value + 0.0)]
    clip_x0: bool


class Solver(Respaced):
    """A solver of the probability-flow equation, which draws no noise."""

    draws_noise = False

    clip_x0: bool


class DPMSolver(Solver):
    """DPM-Solver++ (2M) of Lu et al. (2022): two steps' predictions of x_0, at the first and the last step one."""

    kind: Literal["dpm_solver"]


class UniPC(Solver):
    """UniPC of order 2 (Zhao et al., 2023): DPM-Solver++ (2M), each of whose steps the next evaluation corrects."""

    kind: Literal["unipc"]


class Euler(Solver):
    """Euler's method in sigma (Karras et al., 2022)."""

    kind: Literal["euler"]


class Heun(Solver):
    """Heun's method likewise: two evaluations a step, the last one Euler's."""

    kind: Literal["heun"]

    def evaluations(self, diffusion: Diffusion, t_start: int, t_stop: int = 0) -> int:
        """As Respaced.evaluations."""
        steps = super().evaluations(diffusion, t_start, t_stop)
        return 2 * steps - (steps > 0 and t_stop == 0)

    def _steps(self, evaluations: int) -> int:
        return (evaluations + 1) // 2


Sampler = Ancestral | DDIM | DPMSolver | UniPC | Euler | Heun  # every kind of sampler
OneSampler = Annotated[Sampler, Field(discriminator="kind")]
