"""Which timesteps a sampler takes, and how many evaluations that makes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import DDIM, Ancestral, DPMSolver, Euler, Heun, UniPC
from surrodiff.diffusion.schedule import Schedule

FREE = {"clip_x0": False}
SAMPLERS = {
    "ancestral": Ancestral(kind="ancestral", variance="fixed_large", **FREE),
    "ddim": DDIM(kind="ddim", eta=0.0, **FREE),
    "dpm_solver": DPMSolver(kind="dpm_solver", **FREE),
    "unipc": UniPC(kind="unipc", **FREE),
    "euler": Euler(kind="euler", **FREE),
    "heun": Heun(kind="heun", **FREE),
}
SPACINGS = ["even", "quadratic", "log_snr"]
SCHEDULES = ["linear", "cosine", "sigmoid", "karras"]


def diffusion_of(T: int, schedule: str = "linear") -> Diffusion:
    ends = {"beta_1": 0.1 / T, "beta_T": min(0.9, 20 / T)}
    return Diffusion(T=T, schedule=schedule, **(ends if schedule == "linear" else {}))


@st.composite
def chains(draw):
    """A diffusion, where a chain begins, and a number of timesteps up to there."""
    diffusion = diffusion_of(draw(st.integers(2, 200)), draw(st.sampled_from(SCHEDULES)))
    t_start = draw(st.just(diffusion.T) | st.integers(1, diffusion.T))
    return diffusion, t_start, draw(st.integers(1, t_start))


def ddim(count, spacing: str = "even", t_start: int | None = None) -> DDIM:
    return DDIM(kind="ddim", eta=0, clip_x0=False, timesteps=count, spacing=spacing, t_start=t_start)


def improved_diffusion(T: int, count: int) -> list[int]:
    """Nichol and Dhariwal's (2021) code for one section, here with the paper's numbers of timesteps."""
    fractional = 1 if count <= 1 else (T - 1) / (count - 1)
    at, taken = 0.0, []
    for _ in range(count):
        taken.append(1 + round(at))
        at += fractional
    return taken


@pytest.mark.parametrize("spacing", SPACINGS)
@settings(max_examples=150)
@given(chain=chains())
def test_any_count_gives_as_many_timesteps_that_rise_from_1_to_the_last(spacing, chain):
    diffusion, t_start, count = chain
    taken = ddim(count, spacing, t_start).grid(diffusion)
    assert len(set(taken)) == len(taken) == count
    assert list(taken) == sorted(taken)
    assert taken[-1] == t_start
    assert taken[0] == (1 if count > 1 else t_start)
    assert all(type(t) is int for t in taken)


@given(T=st.integers(2, 5000), data=st.data())
def test_even_timesteps_are_those_of_improved_diffusion(T, data):
    count = data.draw(st.integers(2, T))
    assert list(ddim(count).grid(diffusion_of(T))) == improved_diffusion(T, count)


@pytest.mark.parametrize("T", [1000, 4000])
@pytest.mark.parametrize("count", [25, 50, 100, 200, 400])
def test_even_timesteps_are_those_of_improved_diffusion_at_its_published_numbers(T, count):
    assert list(ddim(count).grid(diffusion_of(T))) == improved_diffusion(T, count)


def test_quadratic_timesteps_are_squares():
    assert ddim(11, "quadratic").grid(diffusion_of(101)) == tuple(1 + k**2 for k in range(11))
    # Where squares are nearer than timesteps, those are taken one by one.
    assert ddim(6, "quadratic").grid(diffusion_of(10)) == (1, 2, 3, 4, 7, 10)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_timesteps_by_log_snr_part_it_evenly(schedule):
    diffusion = diffusion_of(1000, schedule)
    made = Schedule(diffusion)
    log_snr = torch.log(made.signal / made.noise)
    taken = list(ddim(8, "log_snr").grid(diffusion))
    wanted = torch.linspace(float(log_snr[1]), float(log_snr[1000]), 8, dtype=torch.float64)
    for t, value in zip(taken[1:-1], wanted[1:-1].tolist(), strict=True):
        # No other timestep is nearer, but for one that is half a timestep off by the straight line between two.
        distances = (log_snr[1:] - value).abs()
        assert t - 1 in distances.argsort()[:2].tolist()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_list_is_taken_as_it_is_written_whatever_the_spacing(spacing):
    assert ddim([2, 3, 7], spacing).grid(diffusion_of(8)) == (2, 3, 7)


def steps_of(kind: str, taken: list[int], t_start: int, t_stop: int) -> int:
    """Counted one by one: Heun's method evaluates at the end of each step as well, unless that is the image."""
    count = 0
    for t, end in zip(taken[::-1], [*taken[-2::-1], 0], strict=True):
        if t_stop < t <= t_start:
            count += 1 + (kind == "heun" and end > 0)
    return count


@pytest.mark.parametrize("kind", SAMPLERS)
@given(chain=chains(), data=st.data())
def test_evaluations_are_those_of_each_step(kind, chain, data):
    diffusion, _, count = chain
    sampler = SAMPLERS[kind].model_copy(update={"timesteps": count})
    taken = list(sampler.grid(diffusion))
    ends = st.sampled_from([0, *taken, diffusion.T])
    t_start, t_stop = sorted([data.draw(ends), data.draw(ends)], reverse=True)
    assert sampler.evaluations(diffusion, t_start, t_stop) == steps_of(kind, taken, t_start, t_stop)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("spacing", SPACINGS)
@settings(max_examples=60)
@given(chain=chains(), asked=st.integers(1, 250))
def test_within_a_number_of_evaluations_a_sampler_takes_as_many_as_it_can(kind, spacing, chain, asked):
    diffusion, t_start, _ = chain
    sampler = SAMPLERS[kind].model_copy(update={"spacing": spacing, "timesteps": 1})
    found = sampler.within(diffusion, asked, t_start)
    every = [sampler.model_copy(update={"timesteps": n, "t_start": t_start}) for n in range(1, t_start + 1)]
    counts = [one.evaluations(diffusion, t_start) for one in every]
    assert t_start in found.grid(diffusion)
    count = found.evaluations(diffusion, t_start)
    assert abs(count - asked) == min(abs(n - asked) for n in counts)
    assert count <= max(1, asked)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("t_start", [1, 5, 8])
def test_all_timesteps_by_a_number_are_the_same_as_by_none(kind, t_start):
    sampler = SAMPLERS[kind]
    for own in (sampler, sampler.model_copy(update={"timesteps": 3})):
        assert own.within(diffusion_of(8), 2 * t_start, t_start) == sampler


def test_what_was_before_has_the_same_text_and_what_is_new_another():
    plain = {"kind": "ddim", "eta": 0.0, "clip_x0": False}
    assert ddim(None).model_dump(mode="json") == plain
    assert ddim(4, "quadratic").model_dump(mode="json") == plain | {"timesteps": 4, "spacing": "quadratic"}
    assert ddim(4, t_start=5).model_dump(mode="json") == plain | {"timesteps": 4, "t_start": 5}
    negative = DDIM(kind="ddim", eta=-0.0, clip_x0=False)
    assert math.copysign(1, negative.eta) == 1
    assert DDIM(kind="ddim", eta=0, clip_x0=False).model_dump_json() == negative.model_dump_json()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_longest_diffusion_is_spaced_in_no_time(spacing):
    diffusion = Diffusion(T=100_000, beta_1=1e-6, beta_T=2e-4)
    taken = ddim(1000, spacing).grid(diffusion)
    assert (taken[0], taken[-1], len(taken)) == (1, 100_000, 1000)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"timesteps": 9}, "timesteps: 9 is beyond T = 8"),
        ({"timesteps": [1, 9]}, "timesteps: 9 is beyond T = 8"),
        ({"timesteps": 6, "t_start": 5}, "timesteps: 6 is beyond t_start = 5"),
        ({"t_start": 9}, "t_start: 9 is beyond T = 8"),
    ],
)
def test_timesteps_that_a_diffusion_does_not_have_are_told(changes, says):
    with pytest.raises(ValueError, match=says):
        ddim(None).model_copy(update=changes).grid(diffusion_of(8))
