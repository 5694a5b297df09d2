"""The keys of `diffusion` and `objective` that came later: what is refused, and what a run's id depends on."""

import copy

import pytest
from test_params import DEFAULT, TEST, put, refusal

from surrodiff.config import params
from surrodiff.config.diffusion import Diffusion
from surrodiff.planning import plan

DEEP = f"{TEST}.models.DeepRes1"


@pytest.mark.parametrize(
    ("changes", "names", "says"),
    [
        ({"network.learned_variance": True}, "objective.loss", "simple trains no variance"),
        ({"objective.loss": "hybrid"}, "objective.loss", "write network.learned_variance: true"),
        ({"objective.loss": "l1"}, "objective.loss", "'hybrid' or 'vlb', got 'l1'"),
        ({"objective.weighting": "snr"}, "objective.weighting", "'min_snr' or 'vlb', got 'snr'"),
        ({"objective.loss": "vlb", "objective.weighting": "min_snr"}, "objective.weighting", "has none"),
        ({"objective.loss": "vlb", "objective.weighting": "vlb"}, "objective.weighting", "has none"),
        ({"objective.loss": "vlb", "objective.timesteps": "lognormal"}, "objective.timesteps", "no bound"),
        (
            {"objective.timesteps": "lognormal", "objective.extra_timestep_batches": 1},
            "objective.extra_timestep_batches",
            "only `timesteps: importance`",
        ),
        ({"diffusion.beta_1": None}, "diffusion.beta_1", "missing; a linear schedule has both ends"),
        ({"diffusion.beta_T": None}, "diffusion.beta_T", "missing; a linear schedule has both ends"),
        ({"diffusion.schedule": "cosin"}, "diffusion.schedule", "'cosine', 'sigmoid' or 'karras', got 'cosin'"),
        ({"diffusion.schedule": 3}, "diffusion.schedule", "got 3"),
        ({"diffusion.schedule": ["cosine"]}, "diffusion.schedule", "'cosine'"),
        ({"diffusion.schedule": "cosine", "diffusion.beta_1": "x"}, "diffusion.beta_1", "got 'x'"),
        ({"diffusion.schedule": "karras", "diffusion.offset": 1}, "diffusion.offset", "unknown key"),
        ({"diffusion.rescaled_from": 1}, "diffusion.rescaled_from", "got 1"),
        ({"diffusion.rescaled_from": "all"}, "diffusion.rescaled_from", "a whole number"),
        ({"diffusion.prediction": "noise"}, "diffusion.prediction", "'v' or 'edm', got 'noise'"),
        ({"network.learned_variance": 1}, "network.learned_variance", "true or false"),
    ],
)
@pytest.mark.parametrize("block", [DEFAULT, DEEP, "models.DeepRes1"])
def test_what_does_not_belong_together_is_refused_with_its_key(raw, block, changes, names, says):
    for key, value in changes.items():
        put(raw, f"{block}.{key}", value)
    message = refusal(raw)
    assert message.startswith(f"{block}.{names}: ")
    assert says in message


def model_id(raw: dict) -> str:
    runs = plan.build(params.parse(copy.deepcopy(raw))).runs.values()
    return next(run.id for run in runs if (run.stage, run.name) == ("models", "DeepRes1"))


@pytest.mark.parametrize("schedule", ["cosine", "sigmoid", "karras"])
def test_an_id_depends_on_no_end_that_its_schedule_has_not(raw, schedule):
    put(raw, f"{DEEP}.diffusion.schedule", schedule)
    plain = model_id(raw)
    for key, value in (("beta_1", 0.02), ("beta_T", 0.5), ("rescaled_from", 100), ("beta_1", None)):
        put(raw, f"{DEEP}.diffusion.{key}", value)
        assert model_id(raw) == plain
    put(raw, f"{DEEP}.diffusion.T", 9)
    assert model_id(raw) != plain


def test_keys_at_their_defaults_change_no_id(raw):
    before = plan.build(params.parse(raw)).runs.keys()
    defaults = {
        "diffusion.schedule": "linear",
        "diffusion.rescaled_from": None,
        "diffusion.prediction": "eps",
        "objective.loss": "simple",
        "objective.weighting": "simple",
        "network.learned_variance": False,
    }
    for key, value in defaults.items():
        put(raw, f"{DEFAULT}.{key}", value)
        put(raw, f"models.Default.{key}", value)
    assert plan.build(params.parse(raw)).runs.keys() == before


def test_every_key_at_another_value_changes_the_id(raw):
    ids = [model_id(raw)]
    for changes in (
        {"diffusion.schedule": "cosine"},
        {"diffusion.schedule": "karras"},
        {"diffusion.rescaled_from": 20},
        {"diffusion.prediction": "v"},
        {"objective.loss": "vlb"},
        {"objective.weighting": "min_snr"},
        {"objective.timesteps": "lognormal"},
        {"network.learned_variance": True, "objective.loss": "hybrid"},
        {"network.learned_variance": True, "objective.loss": "vlb"},
    ):
        changed = copy.deepcopy(raw)
        for key, value in changes.items():
            put(changed, f"{DEEP}.{key}", value)
        ids.append(model_id(changed))
    assert len(set(ids)) == len(ids)


def test_a_configuration_survives_being_written():
    for diffusion in (
        Diffusion(T=8, beta_1=0.01, beta_T=0.6, rescaled_from=20, prediction="v"),
        Diffusion(T=8, schedule="cosine", beta_1=0.01, beta_T=0.6),
        Diffusion(T=8, schedule="karras", prediction="edm"),
    ):
        written = diffusion.model_dump()
        assert Diffusion.model_validate(written) == diffusion
        assert Diffusion.model_validate(diffusion) == diffusion
        assert ("beta_1" in written) == (diffusion.schedule == "linear")


def test_diffusions_make_the_same_noise_whatever_they_predict():
    cosine = Diffusion(T=8, schedule="cosine")
    assert cosine.noises_like(Diffusion(T=8, schedule="cosine", prediction="v", beta_1=0.5))
    assert not cosine.noises_like(Diffusion(T=9, schedule="cosine"))
    linear = Diffusion(T=8, beta_1=0.01, beta_T=0.5)
    assert linear.noises_like(Diffusion(T=8, beta_1=0.01, beta_T=0.5, rescaled_from=8))
    assert not linear.noises_like(cosine)
