"""What makes jobs fast changes nothing but rounding: compiled code, layouts, fused Adam, bfloat16, batch sizes."""

from pathlib import Path

import pytest
import torch
from records import forget
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from surrodiff.config import memory, params, samplers
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.errors import UserError
from surrodiff.kinds import ddpm
from surrodiff.kinds.registry import kind_of
from surrodiff.networks import acceleration
from surrodiff.networks.acceleration import Evaluation, compiled, images_at_once, layout, resolve_precision
from surrodiff.planning import plan
from surrodiff.sampling.whole import WholeProcess
from surrodiff.stages import sample, train
from surrodiff.store import tensors
from surrodiff.store.runs import work_folder

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FILE = Path(__file__).parents[1] / "params.yaml"
PARAMS = {preset: params.load(FILE, preset=preset) for preset in ("demo", "paper")}
PARAMS["test"] = params.load(FILE, preset="test", groups=["paper", "beyond"])
CONFIGS = {
    preset: {run.name: run.config for run in plan.build(parsed).runs.values() if run.stage == "models"}
    for preset, parsed in PARAMS.items()
}
EXECUTION = PARAMS["test"].selected.execution
INDEX = torch.arange(6)


def trainer_of(name: str, **execution):
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config = CONFIGS["test"][name]
    how = EXECUTION.model_copy(update=execution)
    return kind_of(config.model).trainer(config, images, torch.arange(20) % 3, CPU, how)


def large(preset: str, name: str) -> bool:
    return memory.is_large(CONFIGS[preset][name].model)


def ends(trainer) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of some steps and of a log, and the weights after them."""
    losses = [value for step in (1, 2, 3) for value in trainer.step(step).values()]
    losses += trainer.log(3).values()
    return torch.stack(losses), torch.cat([p.detach().flatten() for p in trainer.result.parameters()])


def assert_close(first, second, rtol: float, atol: float):
    for a, b in zip(first, second, strict=True):
        assert torch.allclose(a, b, rtol=rtol, atol=atol)


def reverse_of(name: str = "Default", precision: str = "float32", **how) -> ReverseProcess:
    torch.manual_seed(0)
    config = CONFIGS["test"][name]
    network = kind_of(config.model).build(config.model, config.channels).eval().requires_grad_(False)
    torch.nn.init.normal_(network.head[-1].weight, std=0.1)
    schedule = Schedule(PARAMS["test"].selected.models[name].diffusion)
    return ReverseProcess(Evaluation(network, precision), schedule, (1, 8, 8), 0, **how)


SAMPLERS = {
    "ancestral": samplers.Ancestral(kind="ancestral", variance="fixed_large", clip_x0=False),
    "ddim": samplers.DDIM(kind="ddim", eta=0.5, clip_x0=False, timesteps=4),
    "dpm_solver": samplers.DPMSolver(kind="dpm_solver", clip_x0=False, timesteps=4),
    "unipc": samplers.UniPC(kind="unipc", clip_x0=False, timesteps=4),
    "euler": samplers.Euler(kind="euler", clip_x0=False, timesteps=4),
    "heun": samplers.Heun(kind="heun", clip_x0=False, timesteps=4),
}


def sampled(name: str, compile: bool = False, precision: str = "float32", **settings) -> ReverseProcess:
    """Default's network, untrained, by a sampler."""
    network = reverse_of(precision=precision).denoiser
    return ddpm.process(
        network, CONFIGS["test"]["Default"], SAMPLERS[name].model_copy(update=settings), 0, CPU, compile
    )


@pytest.fixture
def traced(monkeypatch):
    """torch.compile traces and runs without a compiler; the statistics of what it made."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, options, **how: real(function, backend="eager", **how))
    torch._dynamo.reset()
    counters.clear()
    return counters


class Unwaiting(TorchDispatchMode):
    """Fails at what would make the host wait for the device: reading a tensor, or making one from numbers of Python."""

    def __init__(self, on_the_host: list[torch.Tensor]):
        super().__init__()
        self.on_the_host = {tensor.data_ptr() for tensor in on_the_host}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "equal.default", "lift_fresh", "unique")
        if any(name in str(function) for name in waits) and args[0].data_ptr() not in self.on_the_host:
            raise AssertionError(f"{function} waits for the device")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "name", ["Default", "ImportanceSamplingPlus2", "IWDiffImportanceSampling", "MBConv64", "SNGAN", "classifier"]
)
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_no_step_waits_for_the_device(name, micro_batch):
    trainer = trainer_of(name, micro_batch=micro_batch)
    trainer.step(1)
    # Adam, where it is not fused, counts its steps on the host for any device.
    counts = [tensor for key, tensor in trainer.state().items() if key.startswith("adam") and key.endswith("step")]
    with Unwaiting([] if name not in ("SNGAN", "classifier") else counts):
        for step in range(2, 6):  # into the next epoch
            trainer.step(step)
    with pytest.raises(AssertionError, match="waits"), Unwaiting([]):
        trainer.step(6)["loss"].item()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("clip", [True, False], ids=["clipped", ""])
def test_no_step_of_sampling_waits_for_the_device(name, clip):
    sampler = WholeProcess(sampled(name, clip_x0=clip))
    with Unwaiting([]):
        sampler(INDEX)


@pytest.mark.parametrize(
    ("name", "micro_batch", "graphs"),
    [("Default", None, 2), ("Default", 3, 4), ("MBConv64", None, 2), ("Hybrid", None, 2)],
)
def test_a_compiled_training_takes_the_same_steps(name, micro_batch, graphs, traced):
    """One graph without breaks for each shape, and for each of them one without gradients; the same dropout."""
    expected = ends(trainer_of(name, micro_batch=micro_batch))
    assert not traced["stats"]
    assert_close(ends(trainer_of(name, micro_batch=micro_batch, compile=True)), expected, rtol=1e-5, atol=1e-5)
    assert not traced["graph_break"]
    assert traced["stats"]["unique_graphs"] == graphs


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_compiled_step_serves_all_timesteps_and_the_last_batch(name, precision, traced):
    """Of all samplers: their steps remember others only in what they are given."""
    plain, quick = (WholeProcess(sampled(name, compile, precision)) for compile in (False, True))
    assert not traced["stats"]
    for index in (INDEX, INDEX + len(INDEX)):
        assert torch.allclose(quick(index), plain(index), atol=1e-5 if precision == "float32" else 0.1)
    assert traced["stats"]["unique_graphs"] == 1
    assert not traced["graph_break"]


@pytest.mark.long
def test_steps_that_are_compiled_for_this_processor_give_the_same_images():
    """In earnest, for the sampler that remembers most of its steps."""
    torch._dynamo.reset()
    plain, quick = (WholeProcess(sampled("unipc", compile))(INDEX) for compile in (False, True))
    assert torch.allclose(quick, plain, atol=1e-5)


def test_layouts_and_kinds_of_adam_take_the_same_steps():
    expected = ends(trainer_of("Default", channels_last=True))
    for how in ({"channels_last": False}, {"channels_last": True, "fused": False}):
        assert_close(ends(trainer_of("Default", **how)), expected, rtol=1e-4, atol=1e-5)
    last = trainer_of("Default", channels_last=True)
    assert last.network.down[0].block.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    plain = trainer_of("Default", channels_last=False, fused=False)
    assert not plain.network.down[0].block.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain.optimiser.fused


def test_auto_trains_channels_last_on_a_gpu():
    for setting, device, last in (("auto", CPU, False), ("auto", GPU, True), (True, CPU, True), (False, GPU, False)):
        assert (layout(setting, device) == torch.channels_last) == last


@pytest.mark.parametrize("name", ["Default", "MBConv64"])
def test_a_network_whose_weights_are_cast_once_samples_as_under_autocast(name):
    exact = reverse_of(name)
    x, t = exact.prior(INDEX), torch.full((len(INDEX),), 3)
    expected = exact.denoiser(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        by_autocast = exact.denoiser.network(x, t).float()
    cast = reverse_of(name, "bfloat16").denoiser(x, t)
    assert cast.dtype == torch.float32
    scale = expected.abs().max()
    assert (cast - expected).abs().max() < 0.03 * scale
    assert (cast - by_autocast).abs().max() < 0.03 * scale


def test_auto_compiles_large_networks_on_a_gpu_alone():
    for preset, is_large in (("demo", False), ("paper", True)):
        for name in ("Default", "MBConv64", "DDPMHalf", "SNGAN"):
            assert large(preset, name) is is_large
    for is_large in (False, True):
        assert acceleration.compiles("auto", GPU, is_large) is is_large
        assert acceleration.compiles("auto", CPU, is_large) is False
        assert acceleration.compiles(True, CPU, is_large)
        assert not acceleration.compiles(False, GPU, is_large)


@pytest.mark.parametrize("preset", ["test", "demo", "paper"])
def test_the_coarse_count_of_operations_is_at_least_a_fifth_of_the_exact_one_and_not_above_it(preset):
    for name, config in CONFIGS[preset].items():
        if kind_of(config.model).macs_per_image is None:  # the classifier
            continue
        exact = kind_of(config.model).macs_per_image(config.model, config.channels)
        assert 0.19 * exact < memory.multiply_accumulates(config.model) <= exact, name


def test_where_compiling_fails_auto_goes_on_and_true_is_told(monkeypatch, capsys):
    def untraceable(x):
        torch._dynamo.graph_break()
        return 2 * x

    monkeypatch.setattr(acceleration, "compiles", lambda *_: True)
    function = compiled(untraceable, "auto", CPU, lambda: 0)
    for _ in range(2):
        assert torch.equal(function(torch.ones(2)), torch.full((2,), 2.0))
    assert capsys.readouterr().err.count("going on without") == 1
    with pytest.raises(UserError, match=r"execution\.compile: compiling failed"):
        compiled(untraceable, True, CPU, lambda: 0)(torch.ones(2))


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx2": True}, "float32"),
        ({"neon": True}, "float32"),
    ],
)
def test_auto_is_bfloat16_for_large_networks_on_processors_that_multiply_it(monkeypatch, has, expected):
    big, small = large("paper", "Default"), large("demo", "Default")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert resolve_precision("auto", CPU, big) == expected
    assert resolve_precision("auto", CPU, small) == "float32"
    assert resolve_precision("float32", CPU, big) == "float32"
    assert resolve_precision("bfloat16", CPU, small) == "bfloat16"


def test_a_training_goes_on_in_the_precision_that_it_began_with(own_results, run_named, monkeypatch, make):
    run = run_named("models", "Default")
    forget(own_results, "models", run.id)
    monkeypatch.setattr(train, "_save_checkpoint", interrupted_after(train._save_checkpoint))
    monkeypatch.setattr("surrodiff.kinds.ddpm.resolve_precision", lambda *_: "bfloat16")
    with pytest.raises(KeyboardInterrupt):
        make(run, own_results)
    checkpoint = work_folder(own_results, "models", run.id) / train.CHECKPOINT
    assert tensors.load(checkpoint)[1]["precision"] == "bfloat16"
    monkeypatch.undo()
    assert make(run, own_results)["provenance"]["precision"] == "bfloat16"


def interrupted_after(save):
    def saving(*args):
        save(*args)
        raise KeyboardInterrupt

    return saving


class Memory:
    """A GPU with `free` bytes; an evaluation takes `each` for an image, and too many from `worse` images on."""

    def __init__(self, monkeypatch, free: float, each: float, worse: float = float("inf")):
        self.tried, self.peak = [], 0
        self.free, self.each, self.worse = free, each, worse
        for name, found in {
            "empty_cache": lambda: None,
            "reset_peak_memory_stats": lambda device: None,
            "memory_allocated": lambda device: 1000,
            "max_memory_allocated": lambda device: 1000 + self.peak,
            "mem_get_info": lambda device: (free, 2 * free),
        }.items():
            monkeypatch.setattr(torch.cuda, name, found)
        arange = torch.arange
        monkeypatch.setattr(torch, "arange", lambda n, device: arange(n))

    def evaluate(self, index):
        self.tried.append(len(index))
        self.peak = len(index) * self.each
        if self.peak > self.free or len(index) >= self.worse:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("free", "each", "worse", "expected"),
    [(80e9, 1e6, 1e9, 4096), (8e9, 5e6, 1e9, 1088), (8e9, 5e6, 1000, 512), (1e9, 5e6, 1e9, 128), (5e8, 5e6, 1e9, 64)],
)
def test_the_batch_on_a_gpu_is_what_fits(monkeypatch, free, each, worse, expected):
    memory = Memory(monkeypatch, free, each, worse)
    assert images_at_once("auto", memory.evaluate, GPU) == expected
    assert expected % 64 == 0
    assert expected * each <= free
    assert len(memory.tried) <= 4


def test_a_given_batch_and_the_processor_s_need_no_search():
    def never(index):
        raise AssertionError

    assert images_at_once(7, never, GPU) == 7
    assert images_at_once("auto", never, CPU) == 64


def test_batches_of_one_size_give_the_samples_of_any(own_results, run_named, monkeypatch, make):
    """25 at most are three batches of 22, the last of which is cut: the samples are those of one batch of 64."""
    run, sizes = run_named("samples", "Default_6"), []
    expected, _ = sample.load(own_results, run.id)
    forget(own_results, "samples")
    step = ReverseProcess.step
    monkeypatch.setattr(ReverseProcess, "step", lambda *args: sizes.append(len(args[1])) or step(*args))
    record = make(run, own_results, sampling_batch=25)
    images, _ = sample.load(own_results, run.id)
    assert set(sizes) == {22}
    assert record["batch"] == 22
    assert images.shape == expected.shape
    assert abs(images.astype(int) - expected.astype(int)).max() <= 1
