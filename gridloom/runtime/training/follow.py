"""What the processes of a run do that are not its first: wait for its word, train along, and go when told to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from gridloom.runtime.machine.ranks import TRAIN, Ranks
from gridloom.runtime.training.train import take_part


def follow(ranks: Ranks) -> None:
    """Take part in every training of the run until it ends. Signals are the first process's business."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    ranks.meet()
    while True:
        what, job = ranks.hear()
        if what != TRAIN:
            break
        take_part(job, ranks)
    ranks.leave()


@contextmanager
def leading(ranks: Ranks) -> Iterator[Ranks]:
    """Around a run: tell the others at its end to go. One that failed in the middle leaves them to torchrun."""
    try:
        yield ranks
    finally:
        if not ranks.broken:
            ranks.meet()
            ranks.tell("go")
            ranks.leave()
