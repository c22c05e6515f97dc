"""Functions of the search language: their names, types and costs, and the table by which the kernels call them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gridloom.solvers.search.joining import MEASURES

Kind = Literal["image", "list"]
TAKES = {("image", "image"): 0, ("image", "list"): 1, ("list", "image"): 2, ("list", "list"): 3}
"""Code of a function's type. A function image -> image is applied to a list image by image."""
SIZED = ("embed", "wrap", "stretch", "tile", "tile_apart", "mirror", "mirror_apart")
"""Functions with a size as their argument: that of the grid's input, or that of its output."""

_CODES = (
    "only",
    "drop",
    "recolour",
    "negative",
    "crop",
    "place",
    "blank_at_origin",
    "blank",
    "hull",
    "hull_at_origin",
    "origin",
    "silhouette",
    "enclosed",
    "outer",
    "inner",
    "centre",
    "main_colour",
    "turn",
    "turn_over",
    "count",
    "rays",
    "halo",
    "frame",
    "squeeze",
    "unscale",
    "link",
    "spread",
    "half",
    "settle",
    "symmetric",
    "periodic",
    *SIZED,
    "cut",
    "colours",
    "objects",
    "rows",
    "columns",
    "marked",
    "fall",
    "pick",
    "pick_unique",
    "layer",
    "line_up",
    "overlap",
    "keep",
    "keep_others",
    "move",
    "box",
    "blocks",
    "reach",
    "spin",
    "unit",
    "regions",
)
CODE = {name: number for number, name in enumerate(_CODES)}
"""Number of each kernel."""


@dataclass(frozen=True, slots=True)
class Function:
    """Function of the language."""

    name: str
    """Name with its arguments, as programs write it: `only 3`."""
    code: int
    a: int
    b: int
    takes: Kind
    gives: Kind
    cost: int
    sized: Literal["", "input", "output"] = ""
    """Whose size the function reads."""

    @property
    def kernel(self) -> str:
        """Name of the function without its arguments."""
        return _CODES[self.code]


COST = 10
"""Cost of most functions."""


def _image(name: str, a: int = 0, b: int = 0, cost: int = COST, text: str | None = None) -> Function:
    return Function(text or name, CODE[name], a, b, "image", "image", cost)


def _functions() -> tuple[Function, ...]:
    found: list[Function] = [_image("only", c, text=f"only {c}") for c in range(1, 10)]
    found += [_image("drop", c, text=f"drop {c}") for c in range(1, 10)]
    plain = (
        "negative crop place blank_at_origin blank hull hull_at_origin origin silhouette enclosed outer inner centre"
    )
    found += [_image(name) for name in (*plain.split(), "main_colour")]
    found += [_image("turn", d, text=f"turn {d}") for d in range(1, 8)]
    found += [_image("turn_over")]
    found += [
        _image("count", a, b, text=f"count {what} {shape}")
        for a, what in enumerate(COUNTS)
        for b, shape in enumerate(SHAPES)
    ]
    found += [_image("rays", kind, text=f"rays {kind}") for kind in range(15)]
    found += [_image("halo", sides, text=f"halo {sides}") for sides in (8, 4)]
    found += [_image("frame", colour, text=text) for colour, text in ((1, "frame 1"), (0, "frame main"))]
    found += [_image("squeeze"), _image("unscale")]
    found += [_image("link", kind, text=f"link {kind}") for kind in range(4)]
    found += [_image("spread", which, text=text) for which, text in ((0, "spread all"), (1, "spread others"))]
    found += [_image("half", side, text=f"half {side}") for side in range(4)]
    found += [_image("settle", side, text=f"settle {side}") for side in range(4)]
    found += [_image("symmetric", kind, text=f"symmetric {kind}") for kind in range(4)]
    found += [_image("periodic", kind, text=f"periodic {kind}") for kind in range(2)]
    found += [_image(name) for name in ("box", "blocks", "reach", "spin", "unit")]
    for number, whose in enumerate(("input", "output")):
        found += [
            Function(
                f"{name} {whose}", CODE[name], number, 0, "image", "image", COST, "input" if number == 0 else "output"
            )
            for name in SIZED
        ]

    def lists(name: str, a: int, b: int, text: str, takes: Kind, gives: Kind) -> Function:
        return Function(text, CODE[name], a, b, takes, gives, COST)

    found += [
        lists(name, 0, 0, name, "image", "list") for name in ("cut", "colours", "rows", "columns", "marked", "regions")
    ]
    found += [
        lists("objects", sides, same, f"objects {sides}{'' if same else ' any'}", "image", "list")
        for sides, same in ((4, 1), (8, 1), (4, 0), (8, 0))
    ]
    found += [lists("fall", side, 0, f"fall {side}", "image", "list") for side in range(4)]
    for number, name in enumerate(MEASURES):
        found.append(lists("pick", number, 0, f"pick {name}", "list", "image"))
        found.append(lists("keep", number, 0, f"keep {name}", "list", "list"))
        found.append(lists("keep_others", number, 0, f"keep_others {name}", "list", "list"))
    found.append(lists("pick_unique", 0, 0, "pick_unique", "list", "image"))
    found.append(lists("layer", 0, 0, "layer", "list", "image"))
    found += [lists("line_up", way, 0, f"line_up {way}", "list", "image") for way in range(3)]
    found += [lists("overlap", way, 0, f"overlap {way}", "list", "image") for way in range(4)]
    # after the search, at the end of programs
    found += [_image("recolour", c, text=f"recolour {c}", cost=8) for c in range(1, 10)]
    found += [
        _image("move", dx, dy, text=f"move {dx} {dy}", cost=8)
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if (dx, dy) != (0, 0)
    ]
    return tuple(found)


COUNTS = ("cells", "colours", "parts")
SHAPES = ("square", "row", "column")
FUNCTIONS = _functions()
"""Every function, in the order in which the search tries them."""
NUMBER = {function.name: number for number, function in enumerate(FUNCTIONS)}
"""Number of each function, by its name with arguments."""
assert len(NUMBER) == len(FUNCTIONS)


def table() -> NDArray[np.int64]:
    """Return the functions as int64 [n, 6]: code, a, b, type, cost, whose size (0 none, 1 input, 2 output)."""
    return np.array(
        [
            (f.code, f.a, f.b, TAKES[f.takes, f.gives], f.cost, ("", "input", "output").index(f.sized))
            for f in FUNCTIONS
        ],
        dtype=np.int64,
    )


SEARCHED = tuple(number for number, f in enumerate(FUNCTIONS) if f.kernel not in ("recolour", "move"))
"""Functions that the expansion tries; the others end programs."""
