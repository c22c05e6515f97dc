"""numba kernels of sudokus of side 4, 6 and 9: solve, count solutions and guesses, make minimal puzzles, shuffle.

A board is uint8 [size * size], 0 for blank. Boxes are box_rows x box_columns with box_rows * box_columns = size, so
that a band holds box_rows boxes. Digits are bits 1 to size of a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import below, derive, kernel, mix, shuffle


@kernel
def num_bits(mask: Any) -> Any:
    """Return the number of bits set in a mask."""
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@kernel
def lowest_digit(mask: Any) -> Any:
    """Return the smallest digit of a non-empty mask."""
    digit = 0
    while not (mask >> digit) & 1:
        digit += 1
    return digit


@kernel
def flip(used: Any, place: Any, digit: Any, size: Any, box_rows: Any, box_columns: Any) -> None:
    """Toggle a digit in the masks of a cell's row, column and box."""
    row, column = place // size, place % size
    used[0, row] ^= 1 << digit
    used[1, column] ^= 1 << digit
    used[2, row // box_rows * box_rows + column // box_columns] ^= 1 << digit


@kernel
def free_digits(used: Any, place: Any, size: Any, box_rows: Any, box_columns: Any) -> Any:
    """Return the mask of digits that are absent from a cell's row, column and box."""
    row, column = place // size, place % size
    taken = used[0, row] | used[1, column] | used[2, row // box_rows * box_rows + column // box_columns]
    return ((1 << (size + 1)) - 2) & ~taken


@kernel
def read_board(board: Any, size: Any, box_rows: Any, box_columns: Any, used: Any) -> Any:
    """Fill `used` int64 [3, size] with the digits of rows, columns and boxes; return False for a repeated digit."""
    for kind in range(3):
        for i in range(size):
            used[kind, i] = 0
    for place in range(size * size):
        digit = board[place]
        if digit:
            if not (free_digits(used, place, size, box_rows, box_columns) >> digit) & 1:
                return False
            flip(used, place, digit, size, box_rows, box_columns)
    return True


@kernel
def search(
    board: Any, size: Any, box_rows: Any, box_columns: Any, limit: Any, banned: Any, without: Any, key: Any
) -> Any:
    """Return the number of solutions, capped at `limit`; at the limit the board holds the last solution.

    With banned >= 0 that cell must not hold the digit `without`. A key other than 0 tries candidates in random order.
    """
    cells = size * size
    used = np.zeros((3, size), dtype=np.int64)
    if not read_board(board, size, box_rows, box_columns, used):
        return 0
    trail = np.zeros(cells, dtype=np.int64)
    left = np.zeros(cells, dtype=np.int64)
    state = key
    depth, found = 0, 0
    while True:
        best, fewest, options = -1, 99, 0
        for place in range(cells):
            if board[place] == 0:
                free = free_digits(used, place, size, box_rows, box_columns)
                if place == banned:
                    free &= ~(1 << without)
                count = num_bits(free)
                if count < fewest:
                    best, fewest, options = place, count, free
                    if count < 2:
                        break
        if best < 0:
            found += 1
            if found >= limit:
                return found
        else:
            trail[depth] = best
            left[depth] = options
            depth += 1
        while True:
            if depth == 0:
                return found
            place = trail[depth - 1]
            if board[place]:
                flip(used, place, board[place], size, box_rows, box_columns)
                board[place] = 0
            options = left[depth - 1]
            if options:
                break
            depth -= 1
        if state != np.uint64(0):
            state = mix(state)
            for _ in range(below(state, num_bits(options))):
                options &= options - 1
        digit = lowest_digit(options)
        left[depth - 1] ^= 1 << digit
        board[place] = digit
        flip(used, place, digit, size, box_rows, box_columns)


@kernel
def fill_singles(board: Any, size: Any, box_rows: Any, box_columns: Any, used: Any) -> Any:
    """Fill in naked and hidden singles until there are none; return 0 for a contradiction, 1 for blanks left, 2 if
    solved."""
    cells = size * size
    if not read_board(board, size, box_rows, box_columns, used):
        return 0
    changed = True
    while changed:
        changed = False
        blanks = 0
        for place in range(cells):
            if board[place] == 0:
                free = free_digits(used, place, size, box_rows, box_columns)
                if free == 0:
                    return 0
                if free & (free - 1) == 0:
                    digit = lowest_digit(free)
                    board[place] = digit
                    flip(used, place, digit, size, box_rows, box_columns)
                    changed = True
                else:
                    blanks += 1
        if blanks == 0:
            return 2
        for unit in range(3 * size):
            kind, index = unit // size, unit % size
            for digit in range(1, size + 1):
                if (used[kind, index] >> digit) & 1:
                    continue
                only, count = -1, 0
                for i in range(size):
                    if kind == 0:
                        place = index * size + i
                    elif kind == 1:
                        place = i * size + index
                    else:
                        top, left = index // box_rows * box_rows, index % box_rows * box_columns
                        place = (top + i // box_columns) * size + left + i % box_columns
                    free = free_digits(used, place, size, box_rows, box_columns)
                    if board[place] == 0 and (free >> digit) & 1:
                        only = place
                        count += 1
                if count == 0:
                    return 0
                if count == 1:
                    board[only] = digit
                    flip(used, only, digit, size, box_rows, box_columns)
                    changed = True
    return 1


@kernel
def count_guesses(board: Any, size: Any, box_rows: Any, box_columns: Any) -> Any:
    """Return the guesses, wrong ones included, of a search by singles and digits in order; -1 without a solution."""
    cells = size * size
    boards = np.zeros((cells + 1, cells), dtype=np.uint8)
    at = np.zeros(cells + 1, dtype=np.int64)
    left = np.zeros(cells + 1, dtype=np.int64)
    used = np.zeros((3, size), dtype=np.int64)
    for place in range(cells):
        boards[0, place] = board[place]
    level, guesses = 0, 0
    while True:
        status = fill_singles(boards[level], size, box_rows, box_columns, used)
        if status == 2:
            return guesses
        if status == 1:
            fewest = 99
            for place in range(cells):
                if boards[level, place] == 0:
                    free = free_digits(used, place, size, box_rows, box_columns)
                    if num_bits(free) < fewest:
                        fewest = num_bits(free)
                        at[level] = place
                        left[level] = free
        else:
            level -= 1
            while level >= 0 and left[level] == 0:
                level -= 1
            if level < 0:
                return -1
        digit = lowest_digit(left[level])
        left[level] ^= 1 << digit
        for place in range(cells):
            boards[level + 1, place] = boards[level, place]
        boards[level + 1, at[level]] = digit
        level += 1
        guesses += 1


@kernel
def make_sudokus(
    key: Any,
    first: Any,
    trials: Any,
    size: Any,
    box_rows: Any,
    box_columns: Any,
    max_clues: Any,
    spare_clues: Any,
    min_guesses: Any,
    puzzles: Any,
    answers: Any,
    ratings: Any,
) -> Any:
    """Run trials from `first` on until puzzles and answers uint8 [N, cells] are full: (made, next trial).

    Each puzzle is a random full board from which clues are removed in random order while the solution stays unique,
    so the puzzle is minimal; then `spare_clues` of the removed clues are restored. `ratings` int32 [N] are guesses.
    """
    cells = size * size
    board = np.zeros(cells, dtype=np.uint8)
    work = np.zeros(cells, dtype=np.uint8)
    order = np.zeros(cells, dtype=np.int64)
    made = 0
    trial = first
    while trial < first + trials and made < puzzles.shape[0]:
        state = derive(key, trial)
        trial += 1
        for place in range(cells):
            board[place] = 0
            order[place] = place
        search(board, size, box_rows, box_columns, 1, -1, 0, derive(state, 1) | np.uint64(1))
        shuffle(derive(state, 2), order)
        for place in range(cells):
            answers[made, place] = board[place]
        clues = cells
        for i in range(cells):
            place = order[i]
            digit = board[place]
            board[place] = 0
            for j in range(cells):
                work[j] = board[j]
            if search(work, size, box_rows, box_columns, 1, place, digit, np.uint64(0)) == 0:
                clues -= 1
            else:
                board[place] = digit
        given = 0
        for i in range(cells):
            place = order[i]
            if given < spare_clues and board[place] == 0:
                board[place] = answers[made, place]
                given += 1
        if clues + given > max_clues:
            continue
        guesses = count_guesses(board, size, box_rows, box_columns)
        if guesses < min_guesses:
            continue
        for place in range(cells):
            puzzles[made, place] = board[place]
        ratings[made] = guesses
        made += 1
    return made, trial


@kernel
def judge_sudokus(puzzles: Any, answers: Any, size: Any, box_rows: Any, box_columns: Any) -> Any:
    """Return the fault of each answer: int32 [N]; 0 none, 1 no valid sudoku, 2 does not extend its puzzle."""
    used = np.zeros((3, size), dtype=np.int64)
    faults = np.zeros(puzzles.shape[0], dtype=np.int32)
    for n in range(puzzles.shape[0]):
        if not read_board(answers[n], size, box_rows, box_columns, used):
            faults[n] = 1
        for place in range(size * size):
            if answers[n, place] == 0:
                faults[n] = 1
            elif faults[n] == 0 and puzzles[n, place] != 0 and puzzles[n, place] != answers[n, place]:
                faults[n] = 2
    return faults


@kernel
def count_solutions(puzzles: Any, size: Any, box_rows: Any, box_columns: Any) -> Any:
    """Return the number of solutions of each board uint8 [N, cells], capped at 2: int32 [N]."""
    counts = np.zeros(puzzles.shape[0], dtype=np.int32)
    work = np.zeros(size * size, dtype=np.uint8)
    for n in range(puzzles.shape[0]):
        for place in range(size * size):
            work[place] = puzzles[n, place]
        counts[n] = search(work, size, box_rows, box_columns, 2, -1, 0, np.uint64(0))
    return counts


@kernel
def shuffle_board(board: Any, out: Any, key: Any, size: Any, box_rows: Any, box_columns: Any) -> None:
    """Write a board to `out` under a symmetry derived from `key`: permuted digits, bands, rows, stacks and columns and,
    for square boxes, a transposition.

    Cells are tokens: 1 is blank, digit d is d + 1.
    """
    digits = np.zeros(size + 1, dtype=np.int64)
    for i in range(size + 1):
        digits[i] = i
    shuffle(derive(key, 1), digits[1:])
    rows = np.zeros(size, dtype=np.int64)
    columns = np.zeros(size, dtype=np.int64)
    shuffle_groups(derive(key, 2), rows, box_rows)
    shuffle_groups(derive(key, 3), columns, box_columns)
    across = box_rows == box_columns and below(derive(key, 4), 2) == 1
    for r in range(size):
        for c in range(size):
            place = columns[c] * size + rows[r] if across else rows[r] * size + columns[c]
            out[r * size + c] = digits[board[place] - 1] + 1


@kernel
def shuffle_groups(key: Any, order: Any, width: Any) -> None:
    """Fill `order` with groups of `width` indices in random order, shuffled within each group."""
    groups = order.size // width
    which = np.zeros(groups, dtype=np.int64)
    within = np.zeros(width, dtype=np.int64)
    for i in range(groups):
        which[i] = i
    shuffle(derive(key, 0), which)
    for i in range(groups):
        for j in range(width):
            within[j] = j
        shuffle(derive(key, i + 1), within)
        for j in range(width):
            order[i * width + j] = which[i] * width + within[j]
