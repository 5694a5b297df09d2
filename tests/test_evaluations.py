"""How often networks are evaluated: what they count themselves is what runs, costs and tables say, by every sampler."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import plan_of

from surrodiff.kinds import weights
from surrodiff.planning.runs import Run
from surrodiff.stages import sample as sample_stage
from surrodiff.stages.costs import Costs

SAMPLERS = {
    "ancestral": {"kind": "ancestral", "variance": "fixed_large"},
    "fixed_small": {"kind": "ancestral", "variance": "fixed_small"},
    "ddim": {"kind": "ddim", "eta": 0.0},
    "noisy": {"kind": "ddim", "eta": 0.7},
    "dpm_solver": {"kind": "dpm_solver"},
    "unipc": {"kind": "unipc"},
    "euler": {"kind": "euler"},
    "heun": {"kind": "heun"},
}


@pytest.fixture(scope="module")
def trained_surrogates(results, run_named, tmp_path_factory, make):
    """Results with Default and both surrogates trained."""
    own = Path(shutil.copytree(results, tmp_path_factory.mktemp("surrogates") / "test"))
    for model in ("DDPMHalf", "SNGAN"):
        make(run_named("models", model), own)
    return own


class Counting(torch.nn.Module):
    """A network that counts how many images it has been evaluated for."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network, self.count = network, 0
        self.z_dim = getattr(network, "z_dim", None)

    def forward(self, x, *t):
        self.count += len(x)
        return self.network(x, *t)


@pytest.fixture
def counted(trained_surrogates, cpu, monkeypatch):
    """What draws three images of a run; returns how often its networks are evaluated for one: first a surrogate, if
    there is one."""
    networks = []
    load = weights.load_weights

    def counting(*arguments):
        network, config = load(*arguments)
        networks.append(Counting(network))
        return networks[-1], config

    monkeypatch.setattr(weights, "load_weights", counting)

    def counted(run: Run) -> list[float]:
        networks.clear()
        sampler, _ = sample_stage.sampler_of(run.config, trained_surrogates, cpu)
        told = []
        images = sampler(torch.arange(3), told.append)
        assert torch.isfinite(images).all()
        # Default is loaded first where it takes part after a surrogate.
        counts = [network.count / 3 for network in reversed(networks)]
        assert told == [3] * round(sum(counts))
        return counts

    return counted


def planned(raw: dict, row: dict, sampler: dict):
    """The plan's row, and its samples' run, of a study of one row with a sampler."""
    raw["studies"] = {"own": {"title": "Own", "rows": [row], "columns": ["speed", "scores"]}}
    raw["presets"]["paper"]["groups"] = []
    raw["samplers"]["own"] = {"clip_x0": False} | sampler
    made = plan_of(raw)
    (found,) = made.tables["own"].rows
    return made, found, made.runs[found.runs[0].sample]


def assert_counts(made, row, sample: Run, counts: list[float], results: Path):
    """The networks' own counts are what every part says; T = 8."""
    model, surrogate = row.line.model, row.line.surrogate
    assert [count for _, count in sample.config.evaluations(made.runs)] == counts
    work = Costs(made, results).work(sample)
    assert sum(work.values()) == sum(counts) * sample.config.num_samples
    assert row.evaluations == sum(counts)
    timed = [(made.runs[timing].name, count) for timing, count in row.timings]
    assert timed == list(zip([surrogate, model] if surrogate else [model], counts, strict=False))


@pytest.mark.parametrize("handover", ["x0", "x_t"])
@pytest.mark.parametrize("name", ["Default", "DDPMHalf", "SNGAN"])
@pytest.mark.parametrize("t_mid", [0, 2, 8])
def test_a_record_says_how_often_networks_were_evaluated(name, t_mid, handover, raw, trained_surrogates, counted, make):
    surrogate = {"surrogate": name, "t_mid": t_mid / 8, "handover": handover}
    row = {"model": "Default"} if name == "Default" else surrogate
    made, row, sample = planned(raw, row, SAMPLERS["ancestral"])
    counts = counted(sample)
    assert_counts(made, row, sample, counts, trained_surrogates)
    assert make(sample, trained_surrogates)["evaluations_per_sample"] == sum(counts)


@st.composite
def rows(draw, sampler: str):
    """A row of the preset `test`, and how many timesteps, or which, its sampler takes."""
    row = {"sampler": "own"}
    row |= draw(
        st.just({"model": "Default"})
        | st.fixed_dictionaries({"surrogate": st.just("SNGAN"), "t_mid": st.sampled_from([0, 0.25, 0.5, 1])})
        | st.fixed_dictionaries(
            {
                "surrogate": st.just("DDPMHalf"),
                "t_mid": st.sampled_from([0, 0.125, 0.25, 0.5, 0.8, 1]),
                "handover": st.sampled_from(["x0", "x_t"]),
            }
        )
    )
    timesteps = draw(st.none() | st.sampled_from([1, 2, 3, 5, 8, [8], [1, 8], [2, 5, 8], [1, 4, 6]]))
    changes = {"timesteps": timesteps, "spacing": draw(st.sampled_from(["even", "quadratic", "log_snr"]))}
    if not isinstance(timesteps, list) and (row.get("surrogate") != "SNGAN" or row["t_mid"]):
        share = draw(st.none() | st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.75, 1]))
        row |= {} if share is None else {"evaluations": share}
    return row, SAMPLERS[sampler] | changes


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(max_examples=15)
@given(data=st.data())
def test_every_sampler_evaluates_as_often_as_is_said(sampler, data, raw, trained_surrogates, counted):
    made, row, sample = planned(raw, *data.draw(rows(sampler)))
    assert_counts(made, row, sample, counted(sample), trained_surrogates)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 1])
@pytest.mark.parametrize("t_mid", [None, 0.5, 1])
def test_a_share_of_evaluations_is_met_as_nearly_as_the_sampler_can(sampler, share, t_mid, raw, counted):
    """Of a diffusion by itself, and of one that takes over from a generator, which is evaluated once more."""
    row = {"model": "Default"} if t_mid is None else {"surrogate": "SNGAN", "t_mid": t_mid}
    _, row, sample = planned(raw, row | {"sampler": "own", "evaluations": share}, SAMPLERS[sampler])
    asked, most = max(1, round(8 * share)), row.t_mid or 8
    count = counted(sample)[-1]
    if sampler == "heun":
        assert count == min(asked - (asked % 2 == 0), 2 * most - 1)
    else:
        assert count == min(asked, most)
