"""Sizes of the outputs: a linear law of the sizes of states, fitted to the demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import plain_kernel
from gridloom.solvers.search.apply import Store
from gridloom.solvers.search.expand import States

MAX_SEEDS = 1500
"""States of distinct sizes that laws are made of."""
MAX_SUMS = 150
"""States of which sums of two are tried."""


@dataclass(frozen=True, slots=True)
class Law:
    """Size of one side of the output: factor times the side of one state, plus that of another, plus a constant."""

    state: int = -1
    """-1 for none."""
    factor: int = 1
    added: int = -1
    """State whose side is added; -1 for none."""
    constant: int = 0


@dataclass(frozen=True, slots=True)
class SizeGuess:
    """Sizes of all outputs by one law."""

    rows: Law
    columns: Law
    sizes: NDArray[np.int64]
    """[pairs, 2]: h, w; of the demonstrations the true ones."""
    fits: tuple[bool, ...]
    """Whether the law gives the size of each demonstration's output."""
    loss: float
    """The lower, the simpler."""


@plain_kernel
def find_sizes(store: Any, states: Any, order: Any, found: Any, sizes: Any, keys: Any) -> Any:
    """Find the image states of distinct sizes, cheapest first, and return how many there are.

    Args:
        found: int64 [most], filled with states; sizes: int64 [most, pairs, 2], filled with theirs.
        keys: int64 [most], scratch.
    """
    pairs = states.values.shape[1]
    number = 0
    for place in range(order.size):
        state = order[place]
        if number == found.size:
            break
        if states.done[state] < 0 or store.values[states.values[state, 0], 2] != 0:
            continue
        key = 0
        for p in range(pairs):
            image = store.values[states.values[state, p], 0]
            h, w = store.images[image, 0], store.images[image, 1]
            sizes[number, p, 0], sizes[number, p, 1] = h, w
            key = (key * 1000003 + h * 128 + w) & 0xFFFFFFFFFFFF
        known = False
        for i in range(number):
            if keys[i] == key:
                known = True
                break
        if not known:
            keys[number], found[number] = key, state
            number += 1
    return number


def seed_sizes(
    store: Store, states: States, order: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image states of distinct sizes, cheapest first: int64 [n] states, int64 [n, pairs, 2] sizes."""
    found, keys = np.empty((2, most), dtype=np.int64)
    sizes = np.empty((most, states.values.shape[1], 2), dtype=np.int64)
    number = int(find_sizes(store, states, order, found, sizes, keys))
    return found[:number], sizes[:number]


@plain_kernel
def best_laws(sizes: Any, target: Any, demos: Any, laws: Any, losses: Any) -> None:
    """Find the simplest law of each side by one seed that fits every demonstration, for every seed.

    Args:
        sizes: int64 [seeds, pairs, 2]; target: int64 [demos, 2].
        laws: int64 [seeds, 2, 2], filled with factor and constant; losses: float64 [seeds, 2], infinite without a law.
    """
    pairs = sizes.shape[1]
    for i in range(sizes.shape[0]):
        for axis in range(2):
            losses[i, axis] = np.inf
            for factor in range(1, 6):
                constant = target[0, axis] - factor * sizes[i, 0, axis]
                if abs(constant) > 3:
                    continue
                good = True
                for p in range(pairs):
                    side = factor * sizes[i, p, axis] + constant
                    if (p < demos and side != target[p, axis]) or side < 1 or side > 30:
                        good = False
                        break
                loss = factor * (abs(constant) + 1.0)
                if good and loss < losses[i, axis]:
                    losses[i, axis], laws[i, axis, 0], laws[i, axis, 1] = loss, factor, constant


@plain_kernel
def best_sums(sizes: Any, target: Any, demos: Any, most: Any, found: Any) -> None:
    """Find sums of the sides of two seeds that fit every demonstration: in rows, in columns, in both.

    Args:
        found: float64 [3, 3], filled with first and second seed and loss (infinite without one).
    """
    for way in range(3):
        found[way, 2] = np.inf
    for i in range(min(most, sizes.shape[0])):
        for j in range(i):
            for way in range(3):
                loss = (i + 1.0) * (j + 1.0)
                if loss >= found[way, 2]:
                    continue
                good = True
                for p in range(sizes.shape[1]):
                    h = sizes[i, p, 0] + (sizes[j, p, 0] if way != 1 else 0)
                    w = sizes[i, p, 1] + (sizes[j, p, 1] if way != 0 else 0)
                    if (p < demos and (h != target[p, 0] or w != target[p, 1])) or min(h, w) < 1 or max(h, w) > 30:
                        good = False
                        break
                if good:
                    found[way, 0], found[way, 1], found[way, 2] = i, j, loss


def guess_sizes(found: NDArray[np.int64], sizes: NDArray[np.int64], target: NDArray[np.int64]) -> list[SizeGuess]:
    """Return guesses of the outputs' sizes, one for each distinct set of test sizes, simplest law first.

    Args:
        found: states, sizes: their sizes [n, pairs, 2], cheapest first.
        target: int64 [demos, 2], the sizes of the demonstrations' outputs.
    """
    demos, pairs = len(target), sizes.shape[1]
    laws = np.zeros((len(found), 2, 2), dtype=np.int64)
    losses = np.zeros((len(found), 2))
    best_laws(sizes, target, demos, laws, losses)
    guesses: list[tuple[float, Law, Law]] = []

    def law(seed: int, axis: int) -> Law:
        return Law(int(found[seed]), int(laws[seed, axis, 0]), -1, int(laws[seed, axis, 1]))

    joint = losses.prod(axis=1) * np.arange(1, len(found) + 1)
    for seed in np.flatnonzero(np.isfinite(joint))[:200]:
        guesses.append((float(joint[seed]), law(seed, 0), law(seed, 1)))
    sides: list[list[tuple[float, Law]]] = [[], []]
    for axis in range(2):
        if len(set(target[:, axis].tolist())) == 1 and 1 <= target[0, axis] <= 30:
            sides[axis].append((float(target[0, axis]) + 10, Law(constant=int(target[0, axis]))))
        single = losses[:, axis] * np.arange(1, len(found) + 1) + 10
        for seed in np.flatnonzero(np.isfinite(single))[:20]:
            sides[axis].append((float(single[seed]), law(seed, axis)))
        sides[axis].sort(key=lambda entry: entry[0])
    guesses += [(a * b, rows, columns) for a, rows in sides[0][:6] for b, columns in sides[1][:6]]
    sums = np.zeros((3, 3))
    best_sums(sizes, target, demos, MAX_SUMS, sums)
    for way in range(3):
        if np.isfinite(sums[way, 2]):
            first, second = int(found[int(sums[way, 0])]), int(found[int(sums[way, 1])])
            rows = Law(first, added=second if way != 1 else -1)
            guesses.append((float(sums[way, 2]), rows, Law(first, added=second if way != 0 else -1)))
    row_of = {int(state): number for number, state in enumerate(found)}
    results: dict[bytes, SizeGuess] = {}
    for loss, rows, columns in sorted(guesses, key=lambda entry: entry[0]):
        whole = np.empty((pairs, 2), dtype=np.int64)
        for axis, one in enumerate((rows, columns)):
            whole[:, axis] = one.constant
            if one.state >= 0:
                whole[:, axis] += one.factor * sizes[row_of[one.state], :, axis]
            if one.added >= 0:
                whole[:, axis] += sizes[row_of[one.added], :, axis]
        results.setdefault(whole.tobytes(), SizeGuess(rows, columns, whole, (True,) * demos, loss))
    return list(results.values())


def nearest_sizes(found: NDArray[np.int64], sizes: NDArray[np.int64], target: NDArray[np.int64]) -> SizeGuess | None:
    """Return the sizes of the state whose images have the outputs' size in the most demonstrations; None where every
    state has too large or empty ones. The sizes of the demonstrations are the true ones all the same."""
    demos = len(target)
    legal: NDArray[np.bool_] = np.array(((sizes >= 1) & (sizes <= 30)).all(axis=(1, 2)))
    fits = (sizes[:, :demos] == target).all(axis=2) & legal[:, None]
    if not legal.any():
        return None
    best = int(np.argmax(np.where(legal, fits.sum(axis=1), -1)))
    whole = sizes[best].copy()
    whole[:demos] = target
    law = Law(int(found[best]))
    return SizeGuess(law, law, whole, tuple(bool(fit) for fit in fits[best]), float(len(found)))
