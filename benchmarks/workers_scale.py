"""A simulation of many workers over many tasks: messages, journal bytes, ingestion, driver memory, the bottleneck.

    python benchmarks/workers_scale.py [--workers 1000] [--tasks 100000] [--task-s 30] [--deaths-per-hour 10]

The hand-out is the real one (`runtime/cluster/hand_out.py`), driven by a queue of events in virtual time; so is the
encoding of the messages, whose processor time is measured on this machine. Assumed, and printed with the result: times
of tasks are log-normal with a standard deviation of their logarithm of 1; a worker that dies comes back after a minute;
a task's journal has 47 kB and 40 records (measured over the search proposer); DuckDB takes so many records a second.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time
import tracemalloc
from dataclasses import dataclass, field

from gridloom.runtime.cluster.hand_out import HandOut
from gridloom.runtime.cluster.messages import decode, encode

JOURNAL_BYTES, RECORDS = 47_000, 40
"""Journal of one task: bytes, and records."""
INGEST_RECORDS_S = 30_000.0
"""Records that one process ingests a second: docs/ledger.md, on one core."""
BACK_S = 60.0
"""Time until a lost worker is there again, s."""


@dataclass
class Cost:
    """Measured cost of the driver's work for one task."""

    handing_s: float
    """Hand-out and return of one item, s."""
    coding_s: float
    """Encoding of an item, decoding of its result and, where it is shipped, of the journal, s."""
    shipping_s: float
    result: bytes = field(repr=False, default=b"")


def measure() -> Cost:
    """Measure the driver's messages of one task on this machine."""
    item = {"do": "item", "job": 1, "item": "0a1d4ef5", "value": {"task": "0a1d4ef5", "thread": []}}
    result = {"is": "done", "job": 1, "item": "0a1d4ef5", "value": {"accepted": True, "attempts": 1}}
    part = {"name": "20261201T025620.705295314-vm-23188-c2dc14f4.jsonl", "at": 0, "bytes": bytes(JOURNAL_BYTES)}
    line, whole = encode(result), encode({**result, "journal": [part]})

    def timed(work: object, number: int = 2000) -> float:
        assert callable(work)
        began = time.process_time()
        for _ in range(number):
            work()
        return (time.process_time() - began) / number

    coding = timed(lambda: (encode(item), decode(line)))
    return Cost(0.0, coding, timed(lambda: decode(whole), 300) - timed(lambda: decode(line)), line)


def simulate(workers: int, tasks: int, task_s: float, deaths_per_hour: float, seed: int) -> dict[str, float]:
    """Hand tasks out in virtual time; return the end, the work, the tasks done again and the processor time taken."""
    chance = random.Random(seed)
    spread = math.log(task_s) - 0.5  # the mean of the log-normal times is task_s

    def took() -> float:
        return chance.lognormvariate(spread, 1.0)

    mean_life_s = 3600.0 / deaths_per_hour * workers if deaths_per_hour else math.inf
    began = time.process_time()
    out = HandOut(range(tasks))
    events: list[tuple[float, int, int | None]] = []
    now = busy = again = 0.0
    for worker in range(workers):
        if (first := out.take(worker)) is not None:
            heapq.heappush(events, (took(), worker, first))
    while events:
        now, worker, item = heapq.heappop(events)
        if item is not None:
            if chance.random() < task_s / mean_life_s:
                out.lose(worker)
                again += 1
                heapq.heappush(events, (now + BACK_S, worker, None))
                continue
            out.finish(item, worker)
        if (following := out.take(worker)) is not None:
            seconds = took()
            busy += seconds
            heapq.heappush(events, (now + seconds, worker, following))
    assert len(out.done) + len(out.set_aside) == tasks
    cpu = time.process_time() - began
    return {"end_s": now, "busy_s": busy, "again": again, "aside": len(out.set_aside), "cpu_s": cpu}


def main() -> None:
    """Print the simulation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--task-s", type=float, default=30.0)
    parser.add_argument("--deaths-per-hour", type=float, default=10.0, help="Workers lost an hour, of all together.")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    cost = measure()
    found = simulate(asked.workers, asked.tasks, asked.task_s, asked.deaths_per_hour, asked.seed)
    tracemalloc.start()
    kept = HandOut([f"{n:08x}" for n in range(asked.tasks)])
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert not kept.is_over
    end, tasks = found["end_s"], asked.tasks
    cost.handing_s = found["cpu_s"] / tasks
    driver = {
        "hand-out": cost.handing_s * tasks,
        "messages": cost.coding_s * tasks,
        "shipped journals (Ray)": cost.shipping_s * tasks,
        "ingestion": RECORDS * tasks / INGEST_RECORDS_S,
    }
    print(f"{asked.workers:,} workers, {tasks:,} tasks of {asked.task_s:g} s on average")
    even = asked.task_s * tasks / asked.workers
    print(f"  takes          {end / 3600:.2f} h; evenly spread it were {even / 3600:.2f} h")
    print(f"  done again     {found['again']:.0f} tasks, set aside {found['aside']:.0f}")
    print(f"  messages       {2 * tasks:,}, {2 * tasks / end:.0f} a second")
    print(f"  journals       {JOURNAL_BYTES * tasks / 1e9:.1f} GB, {JOURNAL_BYTES * tasks / end / 1e6:.1f} MB/s")
    print(f"  records        {RECORDS * tasks:,}, {RECORDS * tasks / end:,.0f} a second of {INGEST_RECORDS_S:,.0f}")
    print(f"  driver memory  {memory / 1e6:.0f} MB for the items")
    for name, seconds in driver.items():
        print(f"  driver time    {seconds:8.1f} s of a core, {100 * seconds / end:5.1f}%  {name}")
    worst = max(driver, key=lambda name: driver[name])
    limit = asked.workers * even / driver[worst]  # while all workers are busy
    print(f"  the bottleneck is {worst}: a core of the driver is full at {limit:,.0f} such workers")


if __name__ == "__main__":
    main()
