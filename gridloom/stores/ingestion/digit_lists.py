"""Lists of lists of digits, the JSON text of a grid, as Arrow arrays: by whole arrays of bytes, not number by number.

Every byte is checked by the one before it, every bracket by its depth and its neighbours, so that nothing else than
such lists passes. Other text, as a rule a number above 9, is left to the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_DIGITS = b"0123456789"
_OPEN, _CLOSE, _COMMA, _END, _ZERO = b"[],\n0"
_FOLLOWING = {b"[": b"[]" + _DIGITS, b"]": b"],\n", b",": b"[" + _DIGITS, _DIGITS: b",]", b"\n": b"["}
"""Bytes that may follow others; a newline ends a value."""


@functools.cache
def _allowed() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which pairs of bytes may be, by the pair as a little-endian number."""
    import numpy as np

    table = np.zeros((256, 256), dtype=np.bool_)
    for firsts, seconds in _FOLLOWING.items():
        for first in firsts:
            table[[*seconds], first] = True
    return table.reshape(-1)


def lists_of_digits(values: Sequence[bytes | None], depth: int) -> pa.ListArray | None:
    """Return lists of digits, nested `depth` deep, as an array of uint8 lists; None where a value is another text."""
    import numpy as np
    import pyarrow as pa

    joined = b"\n%b\n" % b"\n".join([value or b"[]" for value in values])
    text = np.frombuffer(joined, dtype=np.uint8)
    pairs = (np.frombuffer(joined, dtype="<u2", count=(len(joined) - skip) // 2, offset=skip) for skip in (0, 1))
    if not all(_allowed().take(half).all() for half in pairs):
        return None
    places = np.flatnonzero(text >= _OPEN)
    is_open = text[places] == _OPEN
    depths = np.cumsum(2 * is_open.view(np.int8) - 1, dtype=np.int32)
    opened, closed = np.compress(is_open, places), np.compress(~is_open, places)
    after, before = text[closed + 1], text[opened - 1]
    if (
        depths.min() < 0
        or depths.max() > depth
        or ((depths[~is_open] == 0) != (after == _END)).any()
        or (text[opened[depths[is_open] < depth] + 1] < _OPEN).any()  # numbers only in the innermost lists,
        or (text[closed[after == _COMMA] + 2] != _OPEN).any()  # which hold nothing else,
        or (text[opened[before == _COMMA] - 2] != _CLOSE).any()  # as the others hold lists only
    ):
        return None
    digits = np.frombuffer(joined.translate(None, b"[],\n"), dtype=np.uint8)
    array: pa.Array = pa.array(digits - np.uint8(_ZERO))
    starts = np.flatnonzero(is_open & (depths == depth))
    # the bracket after an innermost one closes it, and between them every second byte is a number
    offsets = np.concatenate([[0], np.cumsum((places[starts + 1] - places[starts]) // 2)])
    for level in range(depth, 0, -1):
        if level < depth:
            upper = np.flatnonzero(is_open & (depths == level))
            offsets = np.append(np.searchsorted(starts, upper), len(starts))
            starts = upper
        absent = pa.array([value is None for value in values]) if level == 1 and None in values else None
        array = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), array, mask=absent)
    return array if len(array) == len(values) else None
