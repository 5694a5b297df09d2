"""The processes of one job, as torchrun starts them: what each does, and what they exchange.

All do the same on their shares of a batch or a set, and only the first, rank 0, writes. Without torchrun a job is one
process, and nothing here does anything.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from datetime import timedelta

from surrodiff.errors import UserError

MEETING = timedelta(minutes=5)
WORK = timedelta(days=7)  # the others wait for as long as the first works alone


def rank() -> int:
    """This process's number in its job."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes the job has."""
    return int(os.environ.get("WORLD_SIZE", 1))


def print_rank0(text: str):
    """Report how far the job is, once."""
    if rank() == 0:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _report_unreachable():
    """Report in one line that the others cannot be reached."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {rank()} of {world()} cannot reach the others, or one of them has ended ({error}). Run the same "
            "command again: it resumes where it stopped"
        ) from None


@contextmanager
def joined(device_type: str):
    """Meet the job's other processes, which compute on devices of the same type, and part from them at the end."""
    if world() == 1:
        yield
        return
    import torch.distributed as dist

    with _report_unreachable():
        store, _, _ = next(dist.rendezvous("env://", timeout=MEETING))
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=WORK, store=store, rank=rank(), world_size=world())
    yield
    dist.destroy_process_group()


def local_rows(rows):
    """This process's part of a tensor's rows (N, ...): consecutive, and as many as the others' but for one."""
    return rows.tensor_split(world())[rank()]


def _sum(tensor):
    import torch.distributed as dist

    with _report_unreachable():
        dist.all_reduce(tensor)


def gather_rows(values, total: int):
    """(total,) values in the rows' order, the same on all processes, from those of each one's share of the rows."""
    if world() == 1:
        return values
    gathered = values.new_zeros(total)
    local_rows(gathered).copy_(values)
    _sum(gathered)  # with zeros, which changes no value
    return gathered


def sum_gradients(parameters: Iterable):
    """Make every process's gradients the sum over all of them, in one exchange."""
    if world() == 1:
        return
    import torch

    gradients = [parameter.grad for parameter in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    _sum(flat)
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def broadcast(value=None):
    """The first process's value, on all of them."""
    if world() == 1:
        return value
    import torch.distributed as dist

    values = [value]
    with _report_unreachable():
        dist.broadcast_object_list(values)
    return values[0]


def all_gather(value) -> list:
    """Every process's value, in the order of the processes."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    values = [None] * world()
    with _report_unreachable():
        dist.all_gather_object(values, value)
    return values


def any_of(number: int | None) -> int | None:
    """The largest of the processes' numbers, on all of them; None where all have none."""
    if world() == 1:
        return number
    import torch
    import torch.distributed as dist

    largest = torch.tensor(number or 0)
    with _report_unreachable():
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest) or None
