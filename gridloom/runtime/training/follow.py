"""Ranks other than 0 of a run: receive operations, take part in training, and end with the run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from gridloom.progress import STOPPING
from gridloom.runtime.machine.ranks import TRAIN, Ranks
from gridloom.runtime.training.train import run_operations


def follow(ranks: Ranks) -> None:
    """Take part in every training of the run until rank 0 ends the run; ignore signals, which rank 0 handles."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    ranks.connect()
    while True:
        operation, job = ranks.receive()
        if operation != TRAIN:
            break
        run_operations(job, ranks)
    ranks.disconnect()


@contextmanager
def leading(ranks: Ranks) -> Iterator[Ranks]:
    """Enclose a run on rank 0, and end the other ranks with the run.

    After a failure inside a collective operation the other ranks cannot be reached; torchrun ends their processes.
    """
    try:
        yield ranks
    finally:
        if not ranks.broken:
            ranks.connect()
            ranks.broadcast("go")
            ranks.disconnect()
