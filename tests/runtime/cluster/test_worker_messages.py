"""Tests of a worker's messages: journal parts leave in their order, whichever thread sends."""

from __future__ import annotations

import threading
from pathlib import Path

from gridloom.runtime.cluster.messages import Message
from gridloom.runtime.cluster.shipped import Shipped
from gridloom.runtime.cluster.worker import Worker
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import MetricRecord
from gridloom.stores.workspace import Workspace


def test_two_threads_ship_a_journal_in_order(tmp_path: Path) -> None:
    spool, sent, second = Workspace(tmp_path / "spool"), list[Message](), threading.Event()

    def out(message: Message) -> None:
        if message["text"] == "first":
            second.wait(0.2)  # time enough for the other thread, if nothing holds it
        sent.append(message)
        if message["text"] == "second":
            second.set()

    with LedgerWriter(spool, "r") as writer:
        worker = Worker("w", 0, spool, out, spool=spool)
        worker._writer = writer

        def record(step: int) -> None:
            writer.append(MetricRecord(run_id="r", stage="s", step=step, name="n", value=0.0, recorded_at=1.0))

        record(1)
        first = threading.Thread(target=worker.send, args=({"is": "say", "text": "first"},))
        first.start()
        while not worker._shipped:
            pass
        record(2)
        worker.send({"is": "say", "text": "second"})
        first.join()
        whole = writer.journal_path
        assert whole is not None
        shipped = Shipped(Workspace(tmp_path / "driver"))
        for message in sent:
            for part in message.get("journal", ()):
                shipped.add(part["name"], part["at"], part["bytes"])
        (made,) = shipped.paths()
        assert made.read_bytes() == whole.read_bytes()
        shipped.close()
