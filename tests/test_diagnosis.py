"""The variance of an objective's gradient: a model with one parameter, whose moments are known, and the stage."""

import csv
from functools import partial

import pandas as pd
import pytest
import torch
from data_runs import refusal
from records import forget
from torch import nn

from surrodiff.config.diffusion import Diffusion, Objective
from surrodiff.config.samplers import grid
from surrodiff.diffusion.diagnosis import diagnose
from surrodiff.diffusion.schedule import Schedule
from surrodiff.planning.measures import DIAGNOSED, DiagnosisConfig
from surrodiff.planning.runs import Run
from surrodiff.runtime.stopping import Stopped
from surrodiff.stages import diagnosis
from surrodiff.store.runs import load_run, work_folder

SCHEDULE = Schedule(Diffusion(T=12, beta_1=0.02, beta_T=0.6), "fixed_large")
T, SHAPE, COUNT = 5, (1, 2, 3), 4


class Scaled(nn.Module):
    """eps_theta(x_t, t) = a x_t."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.a * x_t


def images() -> torch.Tensor:
    return torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(2)) * 2 - 1


def diagnosed(a: float = 0.3, seed: int = 0, repetitions: int = 8, most: int = 100, **objective) -> dict[str, float]:
    plain = {"timesteps": "uniform", "extra_timestep_batches": 0, "noises": 1, "weights": "uniform"}
    objective = Objective(**{**plain, "reduction": "mean", **objective})
    network, how = Scaled(a), {"seed": seed, "repetitions": repetitions, "most": most}
    found = diagnose(objective, SCHEDULE, network, network.parameters(), images(), T, **how)
    assert found.dtype == torch.float64
    return dict(zip(DIAGNOSED, found.tolist(), strict=True))


def moments(a: float, k: int) -> tuple[float, float, float]:
    """Variance and square of the mean of the gradient of (1/k) sum_i mean (eps_i - a x_t,i)^2, and the mean loss.

    With x_t = s x_0 + n eps each pixel's part of the gradient is -2 (eps - a x_t) x_t, a polynomial of one normal:
    c_2 eps^2 + c_1 eps + c_0, of variance 2 c_2^2 + c_1^2 and mean c_2 + c_0.
    """
    s, n = SCHEDULE.signal[T].item(), SCHEDULE.noise[T].item()
    x_0 = images().double().flatten()
    rest = 1 - a * n
    c_2, c_1, c_0 = rest * n, (rest - a * n) * s * x_0, -a * s**2 * x_0**2
    variance = 4 * (2 * c_2**2 + c_1**2).sum() / len(x_0) ** 2 / k
    mean = -2 * (c_2 + c_0).mean()
    loss = rest**2 + (a * s) ** 2 * x_0.square().mean()
    return variance.item(), mean.item() ** 2, loss.item()


@pytest.mark.parametrize("k", [1, 3])
def test_variance_square_and_loss_are_those_of_a_linear_model(k):
    found = diagnosed(noises=k, repetitions=1000)
    variance, square, loss = moments(0.3, k)
    assert found["gradient_variance"] == pytest.approx(variance, rel=0.15)
    assert found["gradient_square"] == pytest.approx(square, rel=0.1)
    assert found["loss"] == pytest.approx(loss, rel=0.03)
    assert found["effective_sample_size"] == pytest.approx(1)


def test_two_repetitions_are_without_bias():
    """Also the square of a mean gradient that is nearly 0, whose plain estimate is mostly the noise's."""
    s, n = SCHEDULE.signal[T].item(), SCHEDULE.noise[T].item()
    a = n / (n**2 + s**2 * images().square().mean().item())  # the minimum of the loss
    variance, square, _ = moments(a, 1)
    assert square < 1e-6 * variance
    found = pd.DataFrame([diagnosed(a, seed, repetitions=2) for seed in range(500)])
    error = found.std() / len(found) ** 0.5
    assert abs(found["gradient_variance"].mean() - variance) < 4 * error["gradient_variance"]
    assert abs(found["gradient_square"].mean() - square) < 4 * error["gradient_square"]
    assert error["gradient_square"] < variance / 20
    assert (found["gradient_square"] < 0).any()


@pytest.mark.parametrize("weights", ["importance", "iwae"])
def test_numbers_do_not_depend_on_how_the_batch_is_split(weights):
    whole = diagnosed(noises=3, weights=weights, reduction="sum")
    assert 1 / 3 < whole["effective_sample_size"] < 0.95
    for most in (1, 2, 3, 5, 7, 12):
        assert diagnosed(noises=3, weights=weights, reduction="sum", most=most) == pytest.approx(whole, rel=1e-4)


def run_of(run_named, model: str = "IWDiff", **changes) -> Run[DiagnosisConfig]:
    trained = {"run": run_named("models", model).id, "step": 6}
    settings = {"num_images": 5, "repetitions": 3, "timesteps": 4, "seed": 1, "revision": 1} | changes
    return Run(model, DiagnosisConfig(**settings, model=trained, data=run_named("data", "digits").id))


def rows_of(results, run: Run) -> list[dict[str, str]]:
    with open(results / "diagnoses" / run.id / "timesteps.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_stage_writes_each_timestep_and_resumes_after_the_last(own_results, run_named, make, monkeypatch):
    make(run_named("models", "IWDiff"), own_results)
    run = run_of(run_named)
    record = make(run, own_results)
    whole = rows_of(own_results, run)
    assert [int(row["t"]) for row in whole] == list(grid(Diffusion(T=8, beta_1=0.01, beta_T=0.6), 4)) == [1, 3, 6, 8]
    assert (record["noises"], record["timesteps"], record["diagnosed_now"]) == (2, 4, 4)
    assert all(0.5 <= float(row["effective_sample_size"]) <= 1 and float(row["loss"]) > 0 for row in whole)
    forget(own_results, "diagnoses", run.id)
    seen = []

    def killed(*arguments, **options):
        if len(seen) == 2:
            raise Stopped(15)
        seen.append(arguments)
        return real(*arguments, **options)

    real = diagnosis.diagnose
    monkeypatch.setattr(diagnosis, "diagnose", killed)
    with pytest.raises(Stopped, match="2 of 4 timesteps are kept"):
        make(run, own_results)
    part = work_folder(own_results, "diagnoses", run.id) / "timesteps-0.part"
    assert part.stat().st_size == 2 * (16 + run.config.rows({}).row_bytes)
    monkeypatch.setattr(diagnosis, "diagnose", real)
    assert make(run, own_results)["diagnosed_now"] == 2
    assert rows_of(own_results, run) == whole
    assert load_run(own_results, "diagnoses", run.id)[1] == run.config


def test_micro_batches_change_nothing_but_rounding(own_results, run_named, make):
    make(run_named("models", "IWDiff"), own_results)
    run, found = run_of(run_named), []
    for micro_batch in (None, 1, 4):
        make(run, own_results, micro_batch=micro_batch)
        found.append(pd.DataFrame(rows_of(own_results, run)).astype(float).to_numpy())
        forget(own_results, "diagnoses", run.id)
    for split in found[1:]:
        assert split == pytest.approx(found[0], rel=1e-3, abs=1e-6)


def test_more_images_than_there_are_to_train_on_are_refused(results, run_named, make, own_results):
    run = run_of(run_named, "Default", num_images=5000)
    message = refusal(make, run, own_results)
    assert message == "diagnosis.num_images: 5000 is more than the 1437 training images"


def test_a_gradient_that_is_not_finite_is_told(own_results, run_named, make, monkeypatch):
    monkeypatch.setattr(diagnosis, "diagnose", lambda *a, **k: torch.full((4,), torch.nan, dtype=torch.float64))
    message = refusal(partial(make), run_of(run_named, "Default"), own_results)
    assert "the gradient at t = 1 is not finite" in message
