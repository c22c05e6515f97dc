"""Runs of programs on tasks: the grids that a program's text gives for the demonstrations and the test inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import DIHEDRAL_INVERSE, Grid, Task, apply_dihedral
from gridloom.solvers.rules.features import joined_features
from gridloom.solvers.rules.language import apply_rules
from gridloom.solvers.search.colours import IDENTITY, colour_roles
from gridloom.solvers.search.expand import add_state, expand, make_states, make_store, put_image
from gridloom.solvers.search.functions import FUNCTIONS, table
from gridloom.solvers.search.lookup import apply_table, joint_keys
from gridloom.solvers.search.pieces import UNKNOWN, lay, render
from gridloom.solvers.search.programs import Expression, Program, ProgramError, Side, parse_program

MEGABYTES = 64
"""Memory of one run; pages that are not written take none."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a program gives for a task."""

    demos: tuple[Grid, ...]
    """Grid for each demonstration's input; 10 where no layer set a cell."""
    tests: tuple[Grid, ...]
    """Grid for each test input; background where no layer set a cell."""
    fits: tuple[bool, ...]
    """Whether each demonstration is reproduced."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Grids of a task as a search sees them: turned, and with the roles of colours in place of colours."""

    inputs: list[Grid]
    """Inputs of the demonstrations, then of the tests."""
    outputs: list[Grid]
    """Outputs of the demonstrations."""
    roles: list[NDArray[np.uint8]]
    """Permutation colour -> role for each pair."""


def see(task: Task, *, roles: bool, turned: int = 0) -> Seen:
    """Return a task's grids as a search sees them."""
    inputs = [apply_dihedral(pair.input, turned) for pair in task.demos]
    outputs = [apply_dihedral(pair.output, turned) for pair in task.demos]
    tests = [apply_dihedral(grid, turned) for grid in task.tests]
    maps = colour_roles(inputs, outputs, tests) if roles else [IDENTITY] * (len(inputs) + len(tests))
    return Seen(
        [maps[p][grid] for p, grid in enumerate([*inputs, *tests])],
        [maps[p][grid] for p, grid in enumerate(outputs)],
        maps,
    )


def unseen(grid: Grid, role: NDArray[np.uint8], turned: int) -> Grid:
    """Return a grid of a search as the task has it: colours in place of roles, turned back."""
    back = np.append(np.argsort(role), UNKNOWN).astype(np.uint8)
    return apply_dihedral(back[grid], DIHEDRAL_INVERSE[turned])


def max_area(grids: Sequence[Grid]) -> int:
    """Return the largest area of an image in a search over these grids."""
    return 2 * max(50, *(grid.size for grid in grids))


def run_program(text: str | Program, task: Task) -> Output:
    """Run a program on a task.

    Raises:
        ProgramError: the text is no program, or a function of it is undefined on a grid of the task.
    """
    program = parse_program(text) if isinstance(text, str) else text
    if not task.demos:
        raise ProgramError(f"task {task.task_id} has no demonstrations", "a program's sizes and roles come from them")
    seen = see(task, roles=program.colours == "roles", turned=program.turned)
    return _Run(program, seen).output()


def image_of(program: Program, image: Expression, task: Task) -> Grid | None:
    """Return what an expression gives for the first demonstration, cells alone; None where it is undefined there."""
    run = _Run(program, see(task, roles=program.colours == "roles", turned=program.turned))
    sizes = np.stack([run.sides(program.rows), run.sides(program.columns)], axis=1)
    run.store.sizes[:, 2:] = sizes
    try:
        value = run.values(image)[0]
    except ProgramError:
        return None
    first = run.store.values[value, 0]
    h, w, start = (int(run.store.images[first, column]) for column in (0, 1, 4))
    return run.store.cells[start : start + h * w].reshape(h, w).copy()


class _Run:
    """Store of one run."""

    def __init__(self, program: Program, seen: Seen) -> None:
        self.program, self.seen = program, seen
        self.demos, self.pairs = len(seen.outputs), len(seen.inputs)
        sizes = np.zeros((self.pairs, 4), dtype=np.int64)
        for p, grid in enumerate(seen.inputs):
            sizes[p, :2] = grid.shape
        self.store = make_store(table(), sizes, MEGABYTES << 20, max_area([*seen.inputs, *seen.outputs]))
        self.states = make_states(256, self.pairs)

    def output(self) -> Output:
        """Run the program."""
        program, seen = self.program, self.seen
        sizes = np.stack([self.sides(program.rows), self.sides(program.columns)], axis=1)
        for p in range(self.pairs):
            if not (sizes[p].min() >= 1 and sizes[p].max() <= 30):
                h, w = sizes[p].tolist()
                raise ProgramError(f"the size of the output for {self._name(p)} is {h}x{w}", "sides are 1 to 30")
        self.store.sizes[:, 2:] = sizes
        starts = np.concatenate(([0], np.cumsum(sizes.prod(axis=1)))).astype(np.int64)
        images = [layer.image for layer in program.layers] or list(program.lookup)
        if program.on is not None:
            images = [program.on, *program.images]
        rows = np.empty((len(images), int(starts[-1])), dtype=np.uint8)
        for number, image in enumerate(images):
            state = add_state(self.states, self.values(image), 0, -1, 0)
            render(self.store, self.states, state, 0, 0, sizes, starts, rows[number])
        row = np.empty(int(starts[-1]), dtype=np.uint8)
        if program.layers:
            layers = np.array([(number, layer.mode) for number, layer in enumerate(program.layers)], dtype=np.int64)
            lay(rows, layers, len(layers), row)
        elif program.lookup:
            self._look_up(rows, starts, row, sizes)
        else:
            row = apply_rules(program.rules, joined_features(rows[0], starts, sizes), list(rows[1:]))
        grids = [row[starts[p] : starts[p + 1]].reshape(sizes[p]) for p in range(self.pairs)]
        fits = tuple(np.array_equal(grids[p], seen.outputs[p]) for p in range(self.demos))
        demos = tuple(unseen(grids[p], seen.roles[p], program.turned) for p in range(self.demos))
        tests = tuple(
            unseen(np.where(grids[p] == UNKNOWN, 0, grids[p]).astype(np.uint8), seen.roles[p], program.turned)
            for p in range(self.demos, self.pairs)
        )
        return Output(demos, tests, fits)

    def _look_up(
        self, rows: NDArray[np.uint8], starts: NDArray[np.int64], row: NDArray[np.uint8], sizes: NDArray[np.int64]
    ) -> None:
        for p, output in enumerate(self.seen.outputs):
            if output.shape != tuple(sizes[p]):
                raise ProgramError(f"the sizes of the program differ from {self._name(p)}", "a lookup needs them equal")
        target = np.concatenate([grid.ravel() for grid in self.seen.outputs])
        keys, number = joint_keys(rows, tuple(range(len(rows))))
        apply_table(keys, target, starts, self.demos, row, np.zeros((number, 10), dtype=np.int32))

    def sides(self, side: Side) -> NDArray[np.int64]:
        """Return one side of the output for all pairs."""
        total = np.full(self.pairs, side.constant, dtype=np.int64)
        axis = 0 if side is self.program.rows else 1
        for image, factor in ((side.of, side.factor), (side.added, 1)):
            if image is not None:
                for p, value in enumerate(self.values(image)):
                    total[p] += factor * self.store.images[self.store.values[value, 0], axis]
        return total

    def values(self, image: Expression) -> NDArray[np.int64]:
        """Return the values of an expression for all pairs."""
        values = np.array([self._given(image.given, p) for p in range(self.pairs)], dtype=np.int64)
        for number in image.functions:
            one, child = make_states(4, self.pairs), np.full(self.pairs, -1, dtype=np.int64)
            add_state(one, values, 0, -1, 0)
            expand(self.store, one, np.array([number], dtype=np.int64), 0, 0, 0, 1, True, child)
            for p in np.flatnonzero(child < 0)[:1]:
                name = FUNCTIONS[number].name
                raise ProgramError(
                    f"'{name}' of '{image}' is undefined for {self._name(int(p))}", "use another function"
                )
            values = child
        return values

    def _given(self, name: str, p: int) -> int:
        if name == "input":
            grid = self.seen.inputs[p]
        elif name == "blank input":
            grid = np.zeros_like(self.seen.inputs[p])
        elif name == "blank output":
            grid = np.zeros(tuple(self.store.sizes[p, 2:]), dtype=np.uint8)
        else:
            number = int(name.removeprefix("demo ")) - 1
            if number >= self.demos:
                raise ProgramError(f"the task has no demonstration {number + 1}", f"it has {self.demos}")
            grid = self.seen.outputs[number] if number != p else np.zeros_like(self.seen.outputs[p])
        return int(put_image(self.store, p, grid))

    def _name(self, p: int) -> str:
        return f"demonstration {p + 1}" if p < self.demos else f"test input {p - self.demos + 1}"
