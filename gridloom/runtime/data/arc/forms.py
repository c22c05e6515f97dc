"""Canonical forms of grids that belong together: colours replaced by ranks, bytes that no order changes.

All ten colours may be exchanged, black too, although the views of a dataset keep black: what a view shows has the
form of what it was drawn from.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gridloom.runtime.data.tasks import Grid, apply_dihedral


@dataclass(frozen=True, slots=True)
class Form:
    """Part of a task under a dihedral id, colours replaced by their rank of first occurrence within the part."""

    shape: bytes
    cells: bytes
    colours: bytes
    """Colours by rank: the colour that each number in `cells` replaces."""
    raw: bytes
    """The cells with their colours."""


def form_of(part: tuple[Grid, ...], dihedral: int) -> Form:
    """Return grids under a dihedral id with their colours ranked through all of them."""
    turned = [apply_dihedral(grid, dihedral) for grid in part]
    cells = b"".join([grid.tobytes() for grid in turned])
    colours = _first_seen(cells)
    return Form(b"".join([bytes(grid.shape) for grid in turned]), cells.translate(_numbers(colours)), colours, cells)


def _first_seen(cells: bytes) -> bytes:
    """Return the colours in order of their first cell; a few searches are faster than one loop over the cells."""
    return bytes(sorted([colour for colour in _RANKS if colour in cells], key=cells.find))


def _numbers(colours: bytes) -> bytes:
    """Return a translation table from colours to their ranks."""
    return bytes.maketrans(colours, _RANKS[: len(colours)])


_RANKS = bytes(range(10))


def canonical(forms: Sequence[Form]) -> bytes:
    """Return bytes that are invariant under the order of the parts and under permutations of colours."""
    parts = sorted((form.shape, form.cells, form.colours) for form in forms)
    if any(a[:2] == b[:2] for a, b in pairwise(parts)):
        return _refined(forms)
    # distinct parts have a unique order, which fixes the order of first occurrence of the colours
    colours = b"".join(part[2] for part in parts)
    shapes = b"".join(bytes([len(shape), len(used)]) + shape + cells for shape, cells, used in parts)
    return shapes + colours.translate(_numbers(_first_seen(colours)))


def _refined(forms: Sequence[Form]) -> bytes:
    """Return a hash by colour refinement (1-dimensional Weisfeiler-Leman): each round hashes every part with the
    colours in it and every colour with its parts; invariant under order."""
    parts = [hashlib.sha256(b"part %d " % len(form.shape) + form.shape + form.cells).digest() for form in forms]
    known = list(parts)
    for _ in range(3):
        seen: dict[int, list[bytes]] = defaultdict(list)
        for form, name in zip(forms, known, strict=True):
            for number, colour in enumerate(form.colours):
                seen[colour].append(name + bytes([number]))
        colours = {colour: hashlib.sha256(b"".join(sorted(names))).digest() for colour, names in seen.items()}
        known = [
            hashlib.sha256(part + b"".join(colours[colour] for colour in form.colours)).digest()
            for part, form in zip(parts, forms, strict=True)
        ]
    return hashlib.sha256(b"".join(sorted(known))).digest()
