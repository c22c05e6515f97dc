"""numba kernels shared by all data: keyed random numbers, shuffles, dihedral transforms of cells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
_FAST = {"reassoc", "contract", "nsz"}
"""Liberties of fast kernels; values that are not finite pass as ever."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile a function at its first call and cache the machine code on disk; array bounds are not checked.

    Where neither the package's folder nor the user's cache folder can be written, each process compiles anew.
    """
    return _cached(numba.njit(nogil=True, error_model="numpy")(function), function)


def plain_kernel(function: _Function) -> _Function:
    """Compile as `kernel` does a function that makes no arrays: it counts no references to those it is given, nor to
    parts of them, and compiles in about half the time."""
    return _cached(numba.njit(nogil=True, error_model="numpy", _nrt=False)(function), function)


def inner_kernel(function: _Function) -> _Function:
    """Compile a function that kernels alone call, without an entry from Python and without a copy of its own on disk.

    Its machine code is part of the kernels that call it. As a `plain_kernel`, it makes no arrays.
    """
    return cast(
        _Function,
        numba.njit(nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(
            function
        ),
    )


def inlined_kernel(function: _Function) -> _Function:
    """Write a function into the one kernel that calls it, before types are inferred: it is compiled there alone."""
    return cast(_Function, numba.njit(nogil=True, error_model="numpy", _nrt=False, inline="always")(function))


def fast_kernel(function: _Function) -> _Function:
    """Compile as `kernel` does; sums of floats may be taken in any order, products and sums fused."""
    return _cached(numba.njit(nogil=True, error_model="numpy", fastmath=_FAST)(function), function)


def _cached(compiled: Any, function: _Function) -> _Function:
    if compiled is not function:  # it is the function itself under NUMBA_DISABLE_JIT
        with contextlib.suppress(RuntimeError):  # numba's "no locator available": no folder for the machine code
            compiled.enable_caching()
    return cast(_Function, compiled)


@kernel
def mix(value: Any) -> Any:
    """Return the splitmix64 output of a uint64 state: a bijection with full avalanche."""
    z = value + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def derive(key: Any, value: Any) -> Any:
    """Return a new uint64 key from a key and an integer: streams of different integers are independent."""
    return mix(key ^ mix(np.uint64(value)))


@kernel
def below(key: Any, bound: Any) -> Any:
    """Return an integer in [0, bound) from a key."""
    return np.int64(key % np.uint64(bound))


@kernel
def row_keys(seed: Any, split: Any, numbers: Any) -> Any:
    """Return a key for each row number of a split: uint64 [n]."""
    stream = derive(mix(seed), split)
    keys = np.zeros(numbers.size, dtype=np.uint64)
    for i in range(numbers.size):
        keys[i] = derive(stream, numbers[i])
    return keys


@kernel
def shuffle(key: Any, order: Any) -> None:
    """Permute `order` in place, uniformly, by a key."""
    for i in range(order.size - 1, 0, -1):
        j = below(derive(key, i), i + 1)
        order[i], order[j] = order[j], order[i]


@kernel
def epoch_order(key: Any, epoch: Any, num_tasks: Any) -> Any:
    """Return the order of the tasks in an epoch: int64 [num_tasks]."""
    order = np.empty(num_tasks, dtype=np.int64)
    for i in range(num_tasks):
        order[i] = i
    shuffle(derive(derive(key, epoch), num_tasks), order)
    return order


@kernel
def dihedral_cell(dihedral: Any, row: Any, column: Any, rows: Any, columns: Any) -> Any:
    """Return the (row, column) to which a dihedral id moves the cell (row, column) of a rows x columns grid."""
    if dihedral == 0:
        return row, column
    if dihedral == 1:
        return columns - 1 - column, row
    if dihedral == 2:
        return rows - 1 - row, columns - 1 - column
    if dihedral == 3:
        return column, rows - 1 - row
    if dihedral == 4:
        return row, columns - 1 - column
    if dihedral == 5:
        return rows - 1 - row, column
    if dihedral == 6:
        return column, row
    return columns - 1 - column, rows - 1 - row
