"""Ranks other than 0 of a run: receive operations, take part in training, and end with the run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from gridloom.runtime.machine.ranks import TRAIN, Ranks
from gridloom.runtime.training.train import take_part


def follow(ranks: Ranks) -> None:
    """Take part in every training of the run until rank 0 ends the run; ignore signals, which rank 0 handles."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    ranks.meet()
    while True:
        operation, job = ranks.receive()
        if operation != TRAIN:
            break
        take_part(job, ranks)
    ranks.leave()


@contextmanager
def leading(ranks: Ranks) -> Iterator[Ranks]:
    """Enclose a run on rank 0, and end the other ranks with the run.

    After a failure inside a collective operation the other ranks cannot be reached; torchrun ends their processes.
    """
    try:
        yield ranks
    finally:
        if not ranks.broken:
            ranks.meet()
            ranks.broadcast("go")
            ranks.leave()
