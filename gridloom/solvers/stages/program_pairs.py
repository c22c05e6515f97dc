"""Pairs made by programs: the accepted program of a task answers mutated inputs, and training reads the pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.tasks import Pair, Task, grid_bytes, tasks_digest
from gridloom.runtime.stage import StageContext
from gridloom.solvers.search.mutations import mutate
from gridloom.solvers.search.programs import ProgramError, parse_program
from gridloom.solvers.search.running import run_program
from gridloom.solvers.stages import attempts_artifact
from gridloom.solvers.types import derive_seed
from gridloom.specs.data import ProgramsData
from gridloom.stores.artifacts import Artifact

TRIES = 6
"""Mutated inputs that are tried for each pair that is wanted."""


class BuildPairs:
    """Runner of kind `programs`: tasks as `arc` reads them, with the pairs of programs beside their own."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write the dataset.

        Raises:
            DataError: the files changed since the graph was compiled, or no attempt has an accepted program.
        """
        spec = node.section(ProgramsData)
        source = read_arc(spec, context.base)
        compiled = node.facts.get("digest")
        if compiled is not None and compiled != source.digest:
            raise DataError(
                f"the files of {node.name!r} changed since the spec was compiled",
                "run the command again: compiling reads the files again",
            )
        programs = accepted_programs(attempts_artifact.read_attempts(inputs["attempts"].path))
        tasks, made = [], 0
        # outputs larger than the canvas could not be learnt
        most = source.canvas - 1 if source.canvas < 30 else 30
        with context.progress.task(node.name, len(source.tasks), unit="tasks") as bar:
            for task in source.tasks:
                text = programs.get(task.task_id)
                seed = derive_seed(spec.mutation_seed, task.task_id, 0)
                found = () if text is None else make_pairs(text, task, spec.pairs, seed, most)
                made += len(found)
                # not `known`, whose pairs are answers of test inputs that checkpoints are marked with
                tasks.append(replace(task, demos=(*task.demos, *found)))
                bar.advance(1, pairs=made)
        if not made:
            raise DataError(
                f"no program makes a pair for {node.name!r}: {len(programs)} of {len(source.tasks)} tasks have an "
                "accepted one",
                "let the solve stage search these tasks, with  search: {}  or  proposer: search",
            )
        digest = tasks_digest(tasks)
        save_dataset(context.out, replace(Dataset.of(source, spec), tasks=tuple(tasks), digest=digest))
        with_program = sum(task.task_id in programs for task in tasks)
        context.notes.update(tasks=len(tasks), programs=with_program, made_pairs=made, version=source.version)
        context.progress.say(f"{node.name}: {made:,} pairs of {with_program} programs for {len(tasks)} tasks")


def accepted_programs(attempts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the first candidate's program of each task's accepted attempt, if it has one and fits all examples.

    Args:
        attempts: lines of an attempts artifact.
    """
    found: dict[str, str] = {}
    for line in attempts:
        if line["verdict"] != "accepted":
            continue
        for one in line["candidates"]:
            if one["rank"] == 0 and one.get("program") and one["fits"] == one["shown"]:
                found.setdefault(line["task_id"], one["program"])
    return found


def make_pairs(text: str, task: Task, number: int, seed: int, most_side: int) -> tuple[Pair, ...]:
    """Return up to `number` new pairs of a task: mutated inputs of the task, and what the program makes of them.

    An input counts only where the program still reproduces every demonstration beside it, since roles of colours are
    chosen over all grids, and changes it where it changes every demonstration.
    """
    program = parse_program(text)
    source = np.random.default_rng(seed)
    shown = [pair.input for pair in task.demos]
    seeds = [*shown, *task.tests]
    known = {grid_bytes(grid) for grid in seeds}
    copies = any(np.array_equal(pair.input, pair.output) for pair in task.demos)
    sides = max(max(grid.shape) for grid in seeds)
    outputs = {grid_bytes(pair.output) for pair in task.demos}
    constant = len(outputs) == 1 < len(task.demos)
    pairs: list[Pair] = []
    seen_outputs: dict[bytes, int] = {}
    for _ in range(TRIES * number):
        if len(pairs) == number:
            break
        grid = mutate(seeds[int(source.integers(len(seeds)))], shown, source)
        if grid_bytes(grid) in known or max(grid.shape) > min(sides, most_side):
            continue
        known.add(grid_bytes(grid))
        try:
            made = run_program(program, replace(task, tests=(grid,), known=(), check=()))
        except ProgramError:
            continue  # a function of the program is undefined on this input
        answer = made.tests[0]
        key = grid_bytes(answer)
        seen_outputs[key] = seen_outputs.get(key, 0) + 1
        too_common = not constant and seen_outputs[key] > max(2, number // 8)
        if not all(made.fits) or max(answer.shape) > most_side or too_common:
            continue
        if not copies and np.array_equal(answer, grid):
            continue
        pairs.append(Pair(grid, answer))
    return tuple(pairs)
