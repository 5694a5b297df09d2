"""Training steps: what they see, how they update, and that a step depends on its number alone."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from configs import changed
from hypothesis import given, settings

from surrodiff.config import params
from surrodiff.data.pixels import to_float
from surrodiff.kinds.batches import Batches
from surrodiff.kinds.classifier import ClassifierTrainer
from surrodiff.kinds.ddpm import DiffusionTrainer
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.sngan import AdversarialTrainer
from surrodiff.planning import plan
from surrodiff.runtime.noise import Stream

CPU = torch.device("cpu")
PLAN = plan.build(params.load(Path(__file__).parents[1] / "params.yaml", preset="test", groups=["paper", "beyond"]))
EXECUTION = params.load(Path(__file__).parents[1] / "params.yaml", preset="test").selected.execution
CONFIGS = {run.name: run.config for run in PLAN.runs.values() if run.stage == "models"}


def pictures(count: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % 3


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i is i everywhere, its label is i."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4), torch.arange(count)


def batches(count: int, flip: bool = False, seed: int = 0) -> Batches:
    return Batches(*numbered(count), image_size=4, flip=flip, seed=seed, device=CPU)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), size=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_every_epoch_holds_every_image_once(count, size, seed):
    made = batches(count, seed=seed)
    wanted = 3 * count
    numbers = -(-wanted // size)
    parts = [made.indices(number, size) for number in range(numbers)]
    assert all(len(part) == size for part in parts)
    sequence = torch.cat(parts)[:wanted].tolist()
    for epoch in range(3):
        assert sorted(sequence[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(8)), size=st.integers(1, 25))
def test_a_batch_depends_on_its_number_alone(order, size):
    in_order, jumping = batches(10), batches(10)
    expected = [in_order.indices(number, size) for number in range(8)]
    for number in order:
        assert torch.equal(jumping.indices(number, size), expected[number])


def test_batches_hold_the_images_and_labels_of_their_indices():
    made = batches(11)
    for number in range(4):
        x_0, labels = made.get(number, 5)
        assert torch.equal(labels, made.indices(number, 5))
        assert x_0.dtype == torch.float32
        assert torch.equal(x_0, to_float(numbered(11)[0][labels]))


def test_epochs_and_seeds_have_different_orders():
    orders = [batches(50, seed=seed).indices(number, 50).tolist() for seed in (0, 1) for number in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_about_half_of_the_images_are_flipped():
    images, labels = pictures(100)
    made = Batches(images, labels, image_size=8, flip=True, seed=0, device=CPU)
    flipped = []
    for number in range(20):
        x_0, _ = made.get(number, 100)
        original = to_float(images[made.indices(number, 100)])
        is_flipped = (x_0 == original.flip(-1)).flatten(1).all(1)
        assert (is_flipped | (x_0 == original).flatten(1).all(1)).all()
        flipped.append(is_flipped)
    assert torch.cat(flipped).float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    assert not torch.equal(flipped[0], flipped[1])


def test_images_are_resized_to_what_the_network_takes():
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8) * 50
    made = Batches(images, torch.arange(3), image_size=4, flip=False, seed=0, device=CPU)
    x_0, labels = made.get(0, 3)
    assert torch.equal(x_0, to_float(labels[:, None, None, None].expand(-1, 1, 4, 4) * 50))


def trainer_of(kind: str, images: int = 20, **training):
    """A trainer of a model of the test preset with some of its training's numbers changed."""
    seed = training.pop("seed", 0)
    config = changed(CONFIGS[kind], seed=seed, model={"training": training})
    if kind.endswith("Plus2"):
        # So few timesteps that the history of each is full after a few steps.
        config = changed(config, model={"diffusion": {"T": 2, "beta_1": 0.1, "beta_T": 0.9}})
    return kind_of(config.model).trainer(config, *pictures(images), CPU, EXECUTION)


def snapshot(trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.state().items()}


def weights(module: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).double().numpy()


def gradients(module: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.grad.flatten() for p in module.parameters()]).double().numpy()


class Adam:
    """Kingma and Ba (2015), Algorithm 1, in float64."""

    def __init__(self, start: np.ndarray, betas: tuple[float, float]):
        self.w, self.betas, self.steps = start.copy(), betas, 0
        self.m = self.v = np.zeros_like(start)

    def update(self, gradient: np.ndarray, rate: float):
        self.steps += 1
        (b1, b2), n = self.betas, self.steps
        self.m = b1 * self.m + (1 - b1) * gradient
        self.v = b2 * self.v + (1 - b2) * gradient**2
        self.w -= rate * (self.m / (1 - b1**n)) / (np.sqrt(self.v / (1 - b2**n)) + 1e-8)


def test_weights_and_their_average_follow_adam_with_warm_up():
    trainer = trainer_of("Default", ema_decay=0.9, warmup_steps=4, learning_rate=0.01)
    assert isinstance(trainer, DiffusionTrainer)
    adam, average = Adam(weights(trainer.network), (0.9, 0.999)), weights(trainer.network)
    rates = []
    for step in range(1, 8):
        trainer.step(step)
        rates.append(trainer.optimiser.lr)
        adam.update(gradients(trainer.network), 0.01 * min(step / 4, 1))
        average = 0.9 * average + 0.1 * weights(trainer.network)
        assert np.allclose(weights(trainer.network), adam.w, atol=1e-6)
        assert np.allclose(weights(trainer.result), average, atol=1e-6)
        assert np.abs(weights(trainer.result) - weights(trainer.network)).max() > 1e-3
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01])


def test_without_warm_up_the_rate_is_whole_from_the_first_step():
    trainer = trainer_of("Default", warmup_steps=0, learning_rate=0.01)
    trainer.step(1)
    assert trainer.optimiser.lr == 0.01


def test_the_result_is_the_average_and_takes_no_part_in_training():
    trainer = trainer_of("Default")
    assert np.array_equal(weights(trainer.result), weights(trainer.network))
    trainer.step(1)
    assert not trainer.result.training
    assert trainer.network.training
    assert not any(p.requires_grad for p in trainer.result.parameters())
    assert not np.array_equal(weights(trainer.result), weights(trainer.network))


@pytest.mark.parametrize("kind", ["Default", "MBConv64", "IWDiffImportanceSampling", "SNGAN"])
def test_bfloat16_is_for_the_network_alone(kind):
    """Weights, their average, the optimiser and the losses stay float32, and the losses are nearly those of float32."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        trainer = trainer_of(kind, precision=precision)
        assert trainer.precision == precision
        losses[precision] = [metric for step in (1, 2) for metric in trainer.step(step).values()]
        floats = [tensor for tensor in trainer.state().values() if tensor.is_floating_point()]
        assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert {loss.dtype for loss in losses["bfloat16"]} == {torch.float32}
    assert torch.allclose(torch.stack(losses["bfloat16"]), torch.stack(losses["float32"]), rtol=0.05, atol=0.02)
    assert not torch.equal(torch.stack(losses["bfloat16"]), torch.stack(losses["float32"]))


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_the_norm_of_the_gradient_is_clipped_and_the_unclipped_one_told(clip):
    trainer, free = trainer_of("Default", grad_clip=clip), trainer_of("Default", grad_clip=1e12)
    told = trainer.step(1)["grad_norm"].item()
    free.step(1)
    unclipped = np.linalg.norm(gradients(free.network))
    assert told == pytest.approx(unclipped, rel=1e-4)
    assert unclipped > 1e-2
    assert np.linalg.norm(gradients(trainer.network)) == pytest.approx(min(clip, unclipped), rel=1e-3)


def test_sngan_follows_adam_with_rates_that_fall_to_zero():
    trainer = trainer_of("SNGAN", steps=4, snapshot_every=2, discriminator_steps=1, learning_rate=0.01)
    assert isinstance(trainer, AdversarialTrainer)
    parts = [(module, Adam(weights(module), (0.0, 0.9))) for module in (trainer.generator, trainer.discriminator)]
    for step in range(1, 5):
        trainer.step(step)
        for optimiser in (trainer.adam_generator, trainer.adam_discriminator):
            assert optimiser.lr == pytest.approx(0.01 * (5 - step) / 4)
        for module, adam in parts:
            adam.update(gradients(module), 0.01 * (5 - step) / 4)
            assert np.allclose(weights(module), adam.w, atol=1e-6)
    assert trainer.result is trainer.generator


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_discriminator_of_sngan_steps_as_often_as_asked_and_the_generator_once(repeats):
    trainer = trainer_of("SNGAN", discriminator_steps=repeats)
    for step in (1, 2):
        trainer.step(step)
    state = trainer.state()
    assert state["adam_discriminator.0.step"] == 2 * repeats
    assert state["adam_generator.0.step"] == 2


def test_real_images_of_sngan_are_dequantised():
    trainer = trainer_of("SNGAN")
    for number in range(3):
        added = trainer._real(number) - trainer.batches.get(number, 8)[0]
        assert added.min() >= -1e-6
        assert added.max() < 1 / 128 + 1e-6
        assert added.std().item() == pytest.approx(1 / 128 / 12**0.5, rel=0.1)


def test_the_classifier_learns_and_follows_adam():
    trainer = trainer_of("classifier", images=12, batch_size=12, learning_rate=0.01)
    assert isinstance(trainer, ClassifierTrainer)
    adam = Adam(weights(trainer.network), (0.9, 0.999))
    losses = []
    for step in range(1, 41):
        losses.append(trainer.step(step)["loss"].item())
        if step <= 3:
            adam.update(gradients(trainer.network), 0.01)
            assert np.allclose(weights(trainer.network), adam.w, atol=1e-6)
    assert losses[-1] < 0.1 * losses[0]
    assert trainer.accuracy(*pictures(12)) == 1
    assert trainer.network.training


RESUMABLE = ["ImportanceSamplingPlus2", "IWDiffImportanceSampling", "Default", "SNGAN", "classifier"]


@pytest.mark.parametrize("kind", RESUMABLE)
@pytest.mark.parametrize("halt", [0, 3])
def test_a_resumed_training_ends_bit_identically(kind, halt):
    """Neither what the process drew before, nor what it logged, nor the interruption is seen in the weights."""
    first = trainer_of(kind, batch_size=16)
    for step in range(1, halt + 1):
        first.step(step)
        first.log(step)
    saved = snapshot(first)
    for step in range(halt + 1, 7):
        first.step(step)
        first.log(step)
    torch.manual_seed(987)
    second = trainer_of(kind, batch_size=16)
    second.load_state(saved)
    torch.rand(5)
    for step in range(halt + 1, 7):
        second.step(step)
    if kind == "ImportanceSamplingPlus2":
        assert (first.objective.sampler.counts >= 10).all()
        assert not np.allclose(first.objective.sampler.probabilities(), 0.5)
    ends = [snapshot(trainer) for trainer in (first, second)]
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
    for name, tensor in first.result.state_dict().items():
        assert torch.equal(tensor, second.result.state_dict()[name]), name


@pytest.mark.parametrize("kind", RESUMABLE)
def test_seeds_give_different_weights_and_one_seed_the_same(kind):
    ends = []
    for seed in (0, 0, 1):
        trainer = trainer_of(kind, seed=seed)
        trainer.step(1)
        ends.append(weights(trainer.result))
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_a_state_is_all_tensors_and_a_new_trainer_takes_it():
    for kind in RESUMABLE:
        trainer = trainer_of(kind)
        trainer.step(1)
        state = snapshot(trainer)
        assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
        other = trainer_of(kind)
        other.load_state(state)
        assert other.state().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in other.state().items())


def test_objectives_of_one_seed_see_the_same_images_and_start():
    plain, iwdiff = trainer_of("Default"), trainer_of("IWDiff")
    assert np.array_equal(weights(plain.network), weights(iwdiff.network))
    for number in range(5):
        assert torch.equal(plain.batches.indices(number, 8), iwdiff.batches.indices(number, 8))


def test_the_logged_loss_is_the_same_for_every_objective():
    # Without dropout: its masks are drawn from a state that the objectives use differently.
    logged = []
    for name in ("Default", "IWDiff", "ImportanceSampling", "UniformNoises"):
        config = changed(CONFIGS[name], model={"network": {"dropout": 0.0}})
        trainer = DiffusionTrainer(config, *pictures(20), CPU, EXECUTION)
        logged.append(trainer.log(1)["loss_uniform_t"].item())
    assert logged == pytest.approx([logged[0]] * len(logged), rel=1e-6)


def test_training_lowers_the_loss():
    trainer = trainer_of("Default", learning_rate=0.005)
    before = trainer.log(1)["loss_uniform_t"].item()
    for step in range(1, 31):
        trainer.step(step)
    assert trainer.log(1)["loss_uniform_t"].item() < 0.9 * before


@pytest.mark.parametrize("name", ["Default", "IWDiffImportanceSampling", "ImportanceSamplingPlus2"])
@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_take_the_same_steps_with_dropout_on(name, micro_batch):
    """The masks are those of the whole batch, so splitting it changes nothing but rounding."""
    assert CONFIGS[name].model.network.dropout > 0
    whole, split = (
        DiffusionTrainer(CONFIGS[name], *pictures(20), CPU, EXECUTION.model_copy(update={"micro_batch": m}))
        for m in (None, micro_batch)
    )
    for step in (1, 2, 3):
        first, second = whole.step(step), split.step(step)
        assert torch.allclose(first["loss"], second["loss"], rtol=1e-4)
        first, second = first | whole.log(step), second | split.log(step)
        assert first.keys() == second.keys()
        assert all(torch.allclose(first[key], second[key], rtol=1e-3) for key in first)
    for a, b in zip(whole.network.parameters(), split.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_dropout_masks_depend_on_the_seed_and_the_step():
    """And not on what was drawn before."""

    def losses(seed):
        config = changed(CONFIGS["Default"], seed=seed)
        trainer = DiffusionTrainer(config, *pictures(20), CPU, EXECUTION)
        x = torch.ones(8, 1, 8, 8)
        t = torch.ones(8, dtype=torch.long)
        trainer.network.load_state_dict(
            DiffusionTrainer(CONFIGS["Default"], *pictures(20), CPU, EXECUTION).network.state_dict()
        )
        torch.nn.init.normal_(trainer.network.head[-1].weight, generator=torch.Generator().manual_seed(0))
        found = []
        for step in (1, 2, 1):
            trainer._seed_dropout(Stream.EPS, step, torch.arange(8), 8)
            found.append(trainer.network(x, t))
        return found

    first, second, again = losses(0)
    assert first.equal(again)
    assert not first.equal(second)
    assert not first.equal(losses(1)[0])
