"""Console script: settings that shorten the start and the end of the command line."""

from __future__ import annotations

import gc
import os
import sys

GC_THRESHOLD = 100_000
"""Number of new objects between garbage collections: compiling a spec leaves some 80,000 live objects, most of them
from imports, which the default threshold of 700 would scan again and again."""


def main() -> None:
    """Run `gridloom` and end the process.

    The interpreter's last garbage collections would visit every live object, a seventh of the time of a compile, to
    free memory that the operating system frees anyway. Frozen objects are not visited. A process that loaded DuckDB or
    torch ends the usual way: their bindings count what is left of them, and their last writes may wait for it.
    """
    gc.set_threshold(GC_THRESHOLD)
    # pydantic reads the metadata of every installed package for plugins; an empty value enables plugins
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from gridloom.cli.main import main as run

    try:
        run()
    finally:
        if sys.modules.keys().isdisjoint(("duckdb", "torch")):
            gc.freeze()
