"""The console script: settings that make starting faster, then the command line."""

from __future__ import annotations

import gc
import os

GC_THRESHOLD = 100_000
"""New objects between collections: compiling a spec leaves some 80,000 that live on, most of them made by imports, and
the default of 700 looks at them again and again."""


def main() -> None:
    """Run `gridloom`."""
    gc.set_threshold(GC_THRESHOLD)
    # pydantic reads the metadata of every installed package for plugins; set it to nothing to have yours
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from gridloom.cli.main import main as run

    run()
