"""How fast puzzles and sequence rows are made, on one core.

    python benchmarks/data_puzzles.py [--repeats 5]

Prints a table of medians and spreads for 1,000 sudokus of 24 clues or fewer, 1,000 hard 30x30 mazes, and rows per
second of each sequence task. Kernels are compiled before the clock starts; seconds are of the process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

from processor import conditions

from gridloom.runtime.data.puzzles.generate import generate_mazes, generate_sudokus
from gridloom.runtime.data.sequences.artifact import GeneratedSpec
from gridloom.runtime.data.sequences.streams import SequenceStream
from gridloom.specs.puzzles import (
    AdditionData,
    CopyData,
    LogicData,
    MazeData,
    ParityData,
    SortData,
    StringAdditionData,
    SudokuData,
)

SEQUENCES: tuple[GeneratedSpec, ...] = (
    ParityData(),
    AdditionData(),
    CopyData(),
    SortData(),
    LogicData(),
    StringAdditionData(),
)


def timed(function: Callable[[int], object], repeats: int) -> tuple[float, str]:
    """Median seconds, and these with their spread; each repeat gets its number, so that seeds differ."""
    took = []
    for number in range(repeats):
        began = time.process_time()
        function(number)
        took.append(time.process_time() - began)
    middle = statistics.median(took)
    return middle, f"{middle:.3g} s ({min(took):.3g} to {max(took):.3g})"


def sudokus_of(train: int, test: int, seed: int) -> None:
    """Generate sudokus of 24 clues or fewer."""
    generate_sudokus(SudokuData(train=train, test=test, max_clues=24, seed=seed))


def batch_of(stream: SequenceStream, number: int) -> None:
    """Make the batch of that number, of 4,096 rows."""
    stream.batch(number, 4096)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(conditions())
    generate_sudokus(SudokuData(train=1, test=0))
    generate_mazes(MazeData(train=1, test=0))
    print(f"seconds of the process, median of {repeats} (smallest to largest)\n| | gridloom |\n|---|---|")
    for count in (1000, 2000):
        train, test = (1000, count - 1000)
        _, sudokus = timed(partial(sudokus_of, train, test), repeats)
        also = " (1,000 to train, 1,000 to test, kept apart by symmetry)" if test else ""
        print(f"| {count:,} sudokus 9x9 of 24 clues or fewer{also} | {sudokus} |")
    hard = MazeData(size=30, train=1000, test=0, min_length=110, min_branches=10, loops=0.5)
    _, mazes = timed(lambda i: generate_mazes(hard.model_copy(update={"seed": i})), repeats)
    print(f"| 1,000 mazes 30x30 of 110 steps and 10 branches or more | {mazes} |")
    for spec in SEQUENCES:
        stream = SequenceStream(spec)
        stream.batch(0, 2)
        took, _ = timed(partial(batch_of, stream), repeats)
        print(f"| rows of {spec.kind} a second | {4096 / took:,.0f} |")


if __name__ == "__main__":
    main()
