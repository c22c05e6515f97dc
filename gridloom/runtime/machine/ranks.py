"""Several processes that train one network: each takes its rows of every batch, and gradients are summed.

Rank 0 executes the run: it alone plans, handles signals, and writes artifacts, states and the ledger. It broadcasts one
message before each collective operation, so the other ranks need no budgets or stop signals. torchrun or
`accelerate launch` start the processes and set RANK, WORLD_SIZE and the rendezvous address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gridloom.errors import StageError

PATIENCE = timedelta(days=30)
"""Time that a rank waits for rank 0, which may build data or evaluate for hours between two trainings; torch's default
of half an hour would end the run. A process that dies is noticed at once: its connections close."""
TRAIN, STEP, STATE, VALIDATE, END = "train", "step", "state", "validate", "end"


class Ranks:
    """Rank of this process in a group that trains together, and the group's collective operations."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.broken = ""
        """Error that left the other ranks inside a collective operation; empty while the group works."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """Read RANK and WORLD_SIZE. Raises StageError for a rank outside 0 ... WORLD_SIZE - 1."""
        size, rank = int(environment.get("WORLD_SIZE", "1")), int(environment.get("RANK", "0"))
        if not 0 <= rank < size:
            raise StageError(f"RANK is {rank}, but WORLD_SIZE is {size}", "start the processes with torchrun")
        return cls(rank, size)

    def connect(self) -> None:
        """Initialise the process group, once: NCCL for CUDA tensors, gloo for CPU tensors."""
        if self.size > 1 and not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=PATIENCE)

    def disconnect(self) -> None:
        """Destroy the process group."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def device(self, wanted: str) -> str:
        """Return the device of this rank: `cuda:LOCAL_RANK` for CUDA with several ranks, else `wanted`."""
        if self.size == 1 or not wanted.startswith("cuda"):
            return wanted
        return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}"

    def broadcast(self, operation: str, value: Any = None) -> None:
        """Send the next operation from rank 0 to the other ranks.

        Raises StageError when an earlier failure left the other ranks inside a collective operation.
        """
        if self.size > 1:
            if self.broken:
                raise StageError(
                    f"the other processes of this run wait in a stage that failed: {self.broken}",
                    "correct that stage, then start all processes again",
                )
            dist.broadcast_object_list([(operation, value)], src=0)

    def receive(self) -> tuple[str, Any]:
        """Wait, on a rank other than 0, for the next operation and its value."""
        message: list[Any] = [None]
        dist.broadcast_object_list(message, src=0)
        operation, value = message[0]
        return str(operation), value

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Enclose a collective operation; a failure inside leaves the other ranks waiting and sets `broken`."""
        try:
            yield
        except BaseException as error:
            self.broken = self.broken or str(error) or type(error).__name__
            raise

    def rows(self, batch_size: int) -> slice:
        """Return the rows of this rank in a batch."""
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over all ranks, in place, by one all-reduce of their fp32 concatenation."""
        if self.size == 1:
            return
        flat = torch.cat([t.detach().float().flatten() for t in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Concatenate a tensor over all ranks along dimension 0 (all-gather); all ranks receive the result."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Concatenate tensors along dimension 0 on the CPU of rank 0; the other ranks get their own tensors back."""
        if self.size == 1:
            return tensors
        mine = {name: t.cpu() for name, t in tensors.items()}
        parts: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(mine, parts, dst=0)
        return mine if parts is None else {name: torch.cat([part[name] for part in parts]) for name in mine}

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the picklable values of all ranks, by rank, on rank 0; an empty list on the others."""
        if self.size == 1:
            return [value]
        parts: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, parts, dst=0)
        return parts or []


ALONE = Ranks()
"""Group of one process."""
