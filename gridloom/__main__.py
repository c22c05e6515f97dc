"""`python -m gridloom`: the same command line as `gridloom`."""

from __future__ import annotations

from gridloom.cli.entry import main

if __name__ == "__main__":
    main()
