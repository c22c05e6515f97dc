"""Console script: settings that shorten the start, then the command line."""

from __future__ import annotations

import gc
import os

GC_THRESHOLD = 100_000
"""Number of new objects between garbage collections: compiling a spec leaves some 80,000 live objects, most of them
from imports, which the default threshold of 700 would scan again and again."""


def main() -> None:
    """Run `gridloom`."""
    gc.set_threshold(GC_THRESHOLD)
    # pydantic reads the metadata of every installed package for plugins; an empty value enables plugins
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from gridloom.cli.main import main as run

    run()
