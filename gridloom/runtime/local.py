"""Compile a spec with the facts of this machine; light enough for a save hook."""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.compiler.compile import Compiled, compile_spec
from gridloom.runtime.calibrations import load_calibrations
from gridloom.runtime.facts import LocalFacts


def compile_local(spec: str, overrides: Sequence[str] = ()) -> Compiled:
    """Compile a spec file or library recipe with facts read from this machine's files and its calibration.

    Raises:
        SpecError: with every problem found.
    """
    return compile_spec(spec, overrides, facts=LocalFacts(), calibration=load_calibrations())
