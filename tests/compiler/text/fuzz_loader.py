"""Coverage-guided fuzzing of the loader and the whole compiler with atheris, which is not among the dependencies.

    pip install atheris
    python tests/compiler/fuzz_loader.py -max_total_time=600 -max_len=4096

Starts from the corpus of broken specs and the library's recipes. Anything but a compiled graph or a SpecError whose
diagnostics can be drawn is a crash; libFuzzer prints the number of executions at the end.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports(include=["gridloom.compiler", "gridloom.specs"]):
    from gridloom.compiler.compile import compile_text
    from gridloom.compiler.render import render, to_json
    from gridloom.compiler.session import Session, Stop
    from gridloom.compiler.text.load import read_file
    from gridloom.errors import SpecError

from compiler_support import FACTS

HERE = Path(__file__).parent
SCRATCH = Path(tempfile.mkdtemp()) / "spec.yaml"


def one_input(data: bytes) -> None:
    """Load the bytes as a file, then compile them as text."""
    SCRATCH.write_bytes(data)
    session = Session(FACTS, ())
    try:
        text = read_file(SCRATCH, "spec.yaml", session)
    except Stop:
        assert session.diagnostics
        return
    try:
        compile_text(text, facts=FACTS).graph.to_json()
    except SpecError as error:
        if not (render(error.diagnostics) and to_json(error.diagnostics)):
            raise AssertionError("a SpecError that says nothing") from error


def main() -> None:
    """Write the seeds and fuzz."""
    seeds = Path(tempfile.mkdtemp())
    library = HERE.parents[2] / "gridloom" / "specs" / "library"
    for path in (*(HERE / "corpus").glob("*.yaml"), *library.glob("*.yaml")):
        if path.stat().st_size < 1 << 16:
            (seeds / path.name).write_bytes(path.read_bytes())
    atheris.Setup([*sys.argv, str(seeds)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
