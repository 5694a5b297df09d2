"""What makes a job fast where it pays, and nowhere else: bfloat16, compiled code, large batches."""

import sys
from collections.abc import Callable

import torch

from surrodiff.errors import UserError

CPU_BATCH = 64
PROBE, MOST_IMAGES, MEMORY_SHARE = 64, 4096, 0.7  # of the search for a batch that fits into a GPU


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products in bfloat16: GPUs from Ampere on, CPUs with AMX or AVX-512 BF16.

    By what the processor says it has, never by a measurement: that would let chance decide the results.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def resolve_precision(precision: str, device: torch.device, large: bool) -> str:
    """`float32` or `bfloat16` for a network; large: see config.memory.

    `auto` is bfloat16 where the device has it (see has_bfloat16), on a CPU for large networks only; else float32.
    """
    if precision != "auto":
        return precision
    fast = has_bfloat16(device) and (device.type == "cuda" or large)
    return "bfloat16" if fast else "float32"


def layout(setting: bool | str, device: torch.device) -> torch.memory_format:
    """What `execution.channels_last` means for a training.

    `auto` is channels last but on a CPU: gradients of convolutions are no faster in it there, slower without AVX-512,
    and GroupNorm's in bfloat16 takes several times as long.
    """
    last = device.type != "cpu" if setting == "auto" else setting
    return torch.channels_last if last else torch.contiguous_format


class Evaluation:
    """A trained network at a resolved precision: inputs and outputs stay float32, weights are cast once."""

    def __init__(self, network: torch.nn.Module, precision: str):
        self.precision, self.dtype = precision, getattr(torch, precision)
        self.network = network.to(self.dtype)

    def __call__(self, x: torch.Tensor, *t: torch.Tensor) -> torch.Tensor:
        return self.network(x.to(self.dtype), *t).float()


def compiles(setting: bool | str, device: torch.device, large: bool) -> bool:
    """What `execution.compile` means for a network: `auto` compiles the large ones, on a GPU."""
    return device.type == "cuda" and large if setting == "auto" else setting


def compiled(function: Callable, setting: bool | str, device: torch.device, large: bool, cuda_graph: bool = False):
    """`function` of tensors, compiled for each shape that it meets if `setting` asks for it (see compiles).

    With cuda_graph, a GPU replays it as one graph. Random numbers are those of the function as it is. Where compiling
    fails, `auto` goes on without and says so; `true` raises UserError.
    """
    if not compiles(setting, device, large):
        return function
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    options = {"triton.cudagraphs": cuda_graph, "fallback_random": True}
    run = torch.compile(function, fullgraph=True, dynamic=False, options=options)

    def call(*inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        nonlocal run
        try:
            result = run(*inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            why = str(error).strip().splitlines()[0]
            if setting != "auto":
                raise UserError(f"execution.compile: compiling failed ({why}); write auto or false") from error
            print(f"compiling failed ({why}); going on without", file=sys.stderr, flush=True)
            run = function
            result = run(*inputs)
        if not cuda_graph or run is function:
            return result
        # A graph's output lies in memory that its next replay overwrites.
        return tuple(part.clone() for part in result) if isinstance(result, tuple) else result.clone()

    return call


def images_at_once(setting: int | str, evaluate: Callable[[torch.Tensor], object], device: torch.device) -> int:
    """`execution.sampling_batch`; `auto` is CPU_BATCH on a CPU, and on a GPU what fits into its free memory.

    evaluate: one evaluation for sample numbers int64 (B,). The memory that it takes for PROBE images is scaled up to
    most of what is free, and the batch that this gives, a multiple of PROBE up to MOST_IMAGES, is tried once.
    """
    if setting != "auto":
        return setting
    if device.type != "cuda":
        return CPU_BATCH

    def tried(batch: int) -> int:
        """Bytes that an evaluation of `batch` images takes at its peak."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        evaluate(torch.arange(batch, device=device))
        return torch.cuda.max_memory_allocated(device) - before

    each = tried(PROBE) / PROBE
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    batch = max(PROBE, min(MOST_IMAGES, int(MEMORY_SHARE * free / each)) // PROBE * PROBE)
    while batch > PROBE:
        try:
            tried(batch)
            break
        except torch.OutOfMemoryError:
            batch = batch // 2 // PROBE * PROBE
    torch.cuda.empty_cache()
    print(f"{batch} images at once; {free / 1e9:.1f} GB were free", file=sys.stderr, flush=True)
    return max(batch, PROBE)
