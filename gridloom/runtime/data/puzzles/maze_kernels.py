"""numba kernels of mazes: carve, open loops, keep mazes with a unique shortest path, validate answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import derive, dihedral_cell, kernel, mix

WALL, OPEN, START, GOAL, PATH = 1, 2, 3, 4, 5
"""Tokens of `#`, space, `S`, `G`, `o`; 0 is PAD."""


@kernel
def step(place: Any, direction: Any, size: Any, length: Any) -> Any:
    """Return the cell `length` steps from `place`; directions 0 to 3 are down, left, right, up."""
    if direction == 0:
        return place + length * size
    if direction == 1:
        return place - length
    if direction == 2:
        return place + length
    return place - length * size


@kernel
def carve(maze: Any, stack: Any, size: Any, loops: Any, key: Any) -> None:
    """Fill maze uint8 [size * size] by depth-first carving; open the share `loops` of dead ends."""
    state = mix(key)
    # for even sizes one border is two cells thick, at a random side, so that no side is always wall
    down: Any = np.int64(state % np.uint64(2)) if size % 2 == 0 else 0
    right: Any = np.int64((state >> np.uint64(1)) % np.uint64(2)) if size % 2 == 0 else 0
    rooms = (size - 1) // 2
    for place in range(size * size):
        maze[place] = WALL
    state = mix(state)
    chosen = np.int64(state % np.uint64(rooms * rooms))
    place = (1 + down + 2 * (chosen // rooms)) * size + 1 + right + 2 * (chosen % rooms)
    maze[place] = OPEN
    stack[0] = place
    depth = 1
    while depth > 0:
        place = stack[depth - 1]
        choices = 0
        for direction in range(4):
            if inside(place, direction, size) and maze[step(place, direction, size, 2)] == WALL:
                choices += 1
        if choices == 0:
            depth -= 1
            continue
        state = mix(state)
        pick = np.int64(state % np.uint64(choices))
        for direction in range(4):
            if inside(place, direction, size) and maze[step(place, direction, size, 2)] == WALL:
                if pick == 0:
                    maze[step(place, direction, size, 1)] = OPEN
                    onward = step(place, direction, size, 2)
                    maze[onward] = OPEN
                    stack[depth] = onward
                    depth += 1
                    break
                pick -= 1
    threshold = np.uint64(loops * 4294967296.0)
    for room in range(rooms * rooms):
        place = (1 + down + 2 * (room // rooms)) * size + 1 + right + 2 * (room % rooms)
        closed = 0
        for direction in range(4):
            if maze[step(place, direction, size, 1)] == WALL:
                closed += 1
        state = mix(state)
        if closed != 3 or (state >> np.uint64(32)) >= threshold:
            continue
        begin: Any = np.int64(state % np.uint64(4))
        for turn in range(4):
            direction = (begin + turn) % 4
            beside = step(place, direction, size, 1)
            if (
                maze[beside] == WALL
                and inside(place, direction, size)
                and maze[step(place, direction, size, 2)] == OPEN
            ):
                maze[beside] = OPEN
                break


@kernel
def inside(place: Any, direction: Any, size: Any) -> Any:
    """Return whether the cell two steps on is within the border."""
    row, column = place // size, place % size
    if direction == 0:
        return row + 2 < size - 1
    if direction == 1:
        return column - 2 > 0
    if direction == 2:
        return column + 2 < size - 1
    return row - 2 > 0


@kernel
def flood(maze: Any, start: Any, size: Any, distance: Any, ways: Any, queue: Any) -> Any:
    """Search breadth first: fill distances int32 (-1 for unreached) and numbers of shortest paths, capped at 2.

    Returns the number of cells reached.
    """
    for place in range(size * size):
        distance[place] = -1
        ways[place] = 0
    distance[start] = 0
    ways[start] = 1
    queue[0] = start
    head, tail = 0, 1
    while head < tail:
        place = queue[head]
        head += 1
        for direction in range(4):
            if (direction == 1 and place % size == 0) or (direction == 2 and place % size == size - 1):
                continue
            beside = step(place, direction, size, 1)
            if beside < 0 or beside >= size * size or maze[beside] == WALL:
                continue
            if distance[beside] < 0:
                distance[beside] = distance[place] + 1
                queue[tail] = beside
                tail += 1
            if distance[beside] == distance[place] + 1:
                ways[beside] = min(2, ways[beside] + ways[place])
    return tail


@kernel
def make_mazes(
    key: Any,
    first: Any,
    trials: Any,
    size: Any,
    min_length: Any,
    min_branches: Any,
    loops: Any,
    inputs: Any,
    labels: Any,
) -> Any:
    """Run trials from `first` on until inputs and labels uint8 [N, size * size] are full: (made, next trial)."""
    cells = size * size
    maze = np.zeros(cells, dtype=np.uint8)
    stack = np.zeros(cells, dtype=np.int64)
    queue = np.zeros(cells, dtype=np.int64)
    distance = np.zeros(cells, dtype=np.int32)
    ways = np.zeros(cells, dtype=np.int32)
    made = 0
    trial = first
    while trial < first + trials and made < inputs.shape[0]:
        state = derive(key, trial)
        trial += 1
        carve(maze, stack, size, loops, derive(state, 1))
        num_open = 0
        for place in range(cells):
            if maze[place] == OPEN:
                stack[num_open] = place
                num_open += 1
        start = stack[np.int64(derive(state, 2) % np.uint64(num_open))]
        reached = flood(maze, start, size, distance, ways, queue)
        num_goals = 0
        for i in range(reached):
            place = queue[i]
            if distance[place] >= max(1, min_length) and ways[place] == 1:
                stack[num_goals] = place
                num_goals += 1
        if num_goals == 0:
            continue
        goal = stack[np.int64(derive(state, 3) % np.uint64(num_goals))]
        for place in range(cells):
            inputs[made, place] = maze[place]
            labels[made, place] = maze[place]
        branches = 0
        place = goal
        while place != start:
            for direction in range(4):
                beside = step(place, direction, size, 1)
                if maze[beside] != WALL and distance[beside] == distance[place] - 1:
                    place = beside
                    break
            if place != start:
                labels[made, place] = PATH
            exits = 0
            for direction in range(4):
                if maze[step(place, direction, size, 1)] != WALL:
                    exits += 1
            if exits > 2 or (place == start and exits > 1):
                branches += 1
        if branches < min_branches:
            continue
        for table in (inputs, labels):
            table[made, start] = START
            table[made, goal] = GOAL
        made += 1
    return made, trial


@kernel
def dihedral_keys(grids: Any, size: Any) -> Any:
    """Return a hash of each grid uint8 [N, size * size] that is invariant under the dihedral group: uint64 [N]."""
    keys = np.zeros(grids.shape[0], dtype=np.uint64)
    for n in range(grids.shape[0]):
        for turn in range(8):
            total = np.uint64(0)
            for r in range(size):
                for c in range(size):
                    tr, tc = dihedral_cell(turn, r, c, size, size)
                    total += mix(np.uint64((tr * size + tc) * 256) + np.uint64(grids[n, r * size + c]))
            if turn == 0 or total < keys[n]:
                keys[n] = total
    return keys


@kernel
def judge_mazes(inputs: Any, labels: Any, size: Any) -> Any:
    """Validate mazes uint8 [N, size * size]: int32 [N, 2] of (fault, place), fault 0 for a correct answer.

    Faults: 1 not exactly one start and one goal, 2 label differs outside the path, 3 goal unreachable, 4 marked cells
    are not one shortest path.
    """
    cells = size * size
    queue = np.zeros(cells, dtype=np.int64)
    distance = np.zeros(cells, dtype=np.int32)
    ways = np.zeros(cells, dtype=np.int32)
    faults = np.zeros((inputs.shape[0], 2), dtype=np.int32)
    for n in range(inputs.shape[0]):
        start, goal, num_start, num_goal, marked = -1, -1, 0, 0, 0
        for place in range(cells):
            token, label = inputs[n, place], labels[n, place]
            if token == START:
                start, num_start = place, num_start + 1
            if token == GOAL:
                goal, num_goal = place, num_goal + 1
            if token == OPEN and label == PATH:
                marked += 1
            elif token != label and faults[n, 0] == 0:
                faults[n, 0] = 2
                faults[n, 1] = place
        if num_start != 1 or num_goal != 1:
            faults[n, 0] = 1
        if faults[n, 0] != 0:
            continue
        flood(inputs[n], start, size, distance, ways, queue)
        if distance[goal] < 0:
            faults[n, 0] = 3
            continue
        place, found = goal, 0
        for _ in range(distance[goal]):
            for direction in range(4):
                if (direction == 1 and place % size == 0) or (direction == 2 and place % size == size - 1):
                    continue
                beside = step(place, direction, size, 1)
                if beside < 0 or beside >= cells or distance[beside] != distance[place] - 1:
                    continue
                if labels[n, beside] == PATH or beside == start:
                    place = beside
                    found += 1
                    break
        if found != distance[goal] or marked != distance[goal] - 1:
            faults[n, 0] = 4
            faults[n, 1] = place
    return faults


@kernel
def path_steps(inputs: Any, answers: Any, size: Any) -> Any:
    """Return (steps of the marked path, fewest steps from S to G) of mazes uint8 [N, size * size]: int32 [N, 2].

    The marked cells are a path where walls, S and G are kept and they lead from S to G, each walked once, with one way
    on from each; else the steps are -1. There are no fewest steps, -1, without one S, one G and a way between them.
    """
    cells = size * size
    queue = np.zeros(cells, dtype=np.int64)
    distance = np.zeros(cells, dtype=np.int32)
    ways = np.zeros(cells, dtype=np.int32)
    found = np.full((inputs.shape[0], 2), -1, dtype=np.int32)
    for n in range(inputs.shape[0]):
        start, goal, ends, marked, kept = -1, -1, 0, 0, True
        for place in range(cells):
            token, answer = inputs[n, place], answers[n, place]
            if token == START:
                start, ends = place, ends + 1
            if token == GOAL:
                goal, ends = place, ends + 1
            if token == OPEN and answer == PATH:
                marked += 1
            elif token != answer:
                kept = False
        if start < 0 or goal < 0 or ends != 2:
            continue
        flood(inputs[n], start, size, distance, ways, queue)
        found[n, 1] = distance[goal]
        if distance[goal] < 0 or not kept:
            continue
        place, before, steps = start, -1, 0
        while place != goal and steps <= marked:
            onward, choices = -1, 0
            for direction in range(4):
                if (direction == 1 and place % size == 0) or (direction == 2 and place % size == size - 1):
                    continue
                beside = step(place, direction, size, 1)
                if beside < 0 or beside >= cells or beside == before:
                    continue
                token = answers[n, beside]
                # where cells are marked, the way from S is along them even if G is next to it
                if token in (PATH, START) or (token == GOAL and (place != start or marked == 0)):
                    onward, choices = beside, choices + 1
            if choices != 1:
                break
            before, place, steps = place, onward, steps + 1
        if place == goal and steps == marked + 1:
            found[n, 0] = steps
    return found
