"""Several processes that train one network: each takes its rows of every batch, and gradients are summed.

Process 0 is the run: it alone plans, reads signals, writes artifacts, states and the ledger. The others follow its
word, one message before each thing that all do together, so they need to know nothing of budgets or stops. They are
started by torchrun or `accelerate launch`, which set RANK, WORLD_SIZE and where to meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gridloom.errors import StageError

TRAIN, STEP, STATE, END = "train", "step", "state", "end"


class Ranks:
    """This process among those that train together."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.broken = ""
        """Why the others can no longer be spoken to; empty while they can."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """Read what torchrun said. Raises StageError for a rank that is none of the processes."""
        size, rank = int(environment.get("WORLD_SIZE", "1")), int(environment.get("RANK", "0"))
        if not 0 <= rank < size:
            raise StageError(f"RANK is {rank}, but WORLD_SIZE is {size}", "start the processes with torchrun")
        return cls(rank, size)

    def meet(self) -> None:
        """Wait for the other processes; once."""
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")

    def leave(self) -> None:
        """Let go of the other processes."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def device(self, wanted: str) -> str:
        """Return this process's own device where there are several of the wanted kind."""
        if self.size == 1 or not wanted.startswith("cuda"):
            return wanted
        return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}"

    def tell(self, what: str, value: Any = None) -> None:
        """Process 0: say what all do next. Raises StageError when an earlier failure left the others in the middle."""
        if self.size > 1:
            if self.broken:
                raise StageError(
                    f"the other processes of this run wait in a stage that failed: {self.broken}",
                    "mend that stage, then start all processes again",
                )
            dist.broadcast_object_list([(what, value)], src=0)

    def hear(self) -> tuple[str, Any]:
        """Other processes: wait for what `tell` says."""
        message: list[Any] = [None]
        dist.broadcast_object_list(message, src=0)
        what, value = message[0]
        return str(what), value

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do a thing that all take part in; a failure in it leaves the others waiting, which is kept in mind."""
        try:
            yield
        except BaseException as error:
            self.broken = self.broken or str(error) or type(error).__name__
            raise

    def rows(self, batch_size: int) -> slice:
        """This process's rows of a batch."""
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add tensors over all processes, in place and in one message."""
        if self.size == 1:
            return
        flat = torch.cat([t.detach().float().flatten() for t in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def join(self, tensor: Tensor) -> Tensor:
        """Put the rows of all processes one after the other; every process gets all."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put rows one after the other on the CPU of process 0; the others get their own back."""
        if self.size == 1:
            return tensors
        mine = {name: t.cpu() for name, t in tensors.items()}
        parts: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(mine, parts, dst=0)
        return mine if parts is None else {name: torch.cat([part[name] for part in parts]) for name in mine}


ALONE = Ranks()
"""This process by itself."""
