"""Several processes that train one network: torchrun starts them, torch.distributed joins them.

Where nobody started several, each of these functions answers for one process alone.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from training.errors import DeviceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

Value = TypeVar("Value")


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and give each the device that it has to itself.

    Tensors on the CPU travel by gloo, those on a GPU by NCCL.

    Raises:
        DeviceUnavailable: this machine was given more processes than it has GPUs.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        place = int(os.environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise DeviceUnavailable(
                f"There are {torch.cuda.device_count()} GPUs here: start at most as many processes "
                "(--nproc-per-node), or use --device cpu."
            )
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def one_before_the_others() -> Iterator[None]:
    """Let the first process of each machine through alone: it downloads what the others then find."""
    first = not dist.is_initialized() or os.environ["LOCAL_RANK"] == "0"
    if not first:
        dist.barrier()
    yield
    if first and dist.is_initialized():
        dist.barrier()


def rank() -> int:
    """Return the number of this process: 0 leads, which is to say that it prints, validates and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def parallel(network: nn.Module) -> nn.Module:
    """Return `network` wrapped so that all processes begin with the leader's weights and average gradients.

    Batch normalisation takes each process's share of the batch for itself, which PyTorch synchronises on
    GPUs alone; its running figures are the leader's.
    """
    return DistributedDataParallel(network) if processes() > 1 else network


def share(batch: Tensor) -> Tensor:
    """Return the part of a batch that is this process's: together the parts are the batch."""
    return batch.tensor_split(processes())[rank()]


def from_leader(value: Value) -> Value:
    """Return what the leading process gave here."""
    if processes() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def anyone(says_yes: bool) -> bool:  # noqa: FBT001  the question's answer, not a mode
    """Return whether any process says yes, and the same to all of them."""
    if processes() == 1:
        return says_yes
    answer = torch.tensor(int(says_yes))
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


def average_(tensor: Tensor) -> None:
    """Replace `tensor` by its mean over the processes."""
    if processes() > 1:
        dist.all_reduce(tensor)
        tensor /= processes()
