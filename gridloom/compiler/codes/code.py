"""Description of a diagnostic code, and its output as text and as data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.wording import nearest

HEAD = "gridloom: 1\nextends: from-scratch\nname: example\n"
"""Head of the examples, which are small specs over the recipe from-scratch."""


@dataclass(frozen=True, slots=True)
class Example:
    """A spec that shows a code, complete enough to compile."""

    text: str
    overrides: tuple[str, ...] = ()
    """Arguments of `--set`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files beside the spec."""
    spec: str = "spec.yaml"
    """Argument of `gridloom compile`: the file with `text`, or another name."""
    encoding: str = "utf-8"
    filler: int = 0
    """Number of characters of comment to add when the file is written."""
    speeds: DeviceSpeeds | None = None
    walltime_s: float | None = None

    def shown(self) -> str:
        """Return the example as text."""
        parts = []
        if self.text and self.spec == "spec.yaml":
            lines = self.text.rstrip("\n").splitlines()
            parts += [line if len(line) <= 100 else f"{line[:97]}..." for line in lines]
        if self.filler:
            parts.append(f"# ... {self.filler:,} characters more")
        for name, text in self.files.items():
            parts += [f"# {name}:", *text.rstrip("\n").splitlines()]
        if self.overrides or self.spec != "spec.yaml":
            sets = "".join(f" --set '{argument}'" for argument in self.overrides)
            parts.append(f"$ gridloom compile {self.spec}{sets}")
        if self.speeds:
            parts.append(f"# on a device with {self.speeds.memory_bytes / 1e9:g} GB")
        if self.walltime_s is not None:
            parts.append(f"# with a walltime of {self.walltime_s:g} s")
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Code:
    """A diagnostic code. Numbers are stable; the number of a removed code is not used again."""

    code: str
    title: str
    what: str
    """Description of the problem."""
    why: str
    """Reason of the error or warning."""
    bad: Example
    mended: Example
    severity: str = "error"


def over(body: str, **rest: object) -> Example:
    """Return an example with `body` over the recipe from-scratch."""
    return Example(HEAD + body, **rest)  # type: ignore[arg-type]


def find_code(name: str, codes: tuple[Code, ...]) -> Code:
    """Return a code by name, ignoring case. Raises KeyError with the nearest name, or an empty text."""
    wanted = name.strip().upper()
    for code in codes:
        if code.code == wanted:
            return code
    raise KeyError(nearest(wanted, [code.code for code in codes]) or "")


def explain_code(code: Code) -> str:
    """Return the description of a code as text of at most 100 columns."""
    kind = "" if code.severity == "error" else f" ({code.severity})"
    parts = [
        f"{code.code}  {code.title}{kind}",
        "",
        textwrap.fill(code.what, 100),
        "",
        textwrap.fill(code.why, 100),
        "",
        "Bad:",
        textwrap.indent(code.bad.shown(), "    "),
        "",
        "Mended:",
        textwrap.indent(code.mended.shown(), "    "),
    ]
    return "\n".join(parts) + "\n"


def code_data(code: Code) -> dict[str, object]:
    """Return the description of a code as plain data, versioned."""
    return {
        "format_version": 1,
        "code": code.code,
        "severity": code.severity,
        "title": code.title,
        "what": code.what,
        "why": code.why,
        "bad": code.bad.shown(),
        "mended": code.mended.shown(),
    }
