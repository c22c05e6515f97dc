"""Hook of mkdocs: adds the reference pages, which are made from the code, and the start page, which is the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from gridloom.cli.reference import reference_pages

ROOT = Path(__file__).parent


def on_files(files: Any, config: Any) -> Any:
    """Add generated pages to the site."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    # links into docs/ lead to pages of the site, those to other files of the repository are shown as code
    start = re.sub(r"\[([^\]]+)\]\((?!docs/|http|#)([^)]+)\)", r"\1 (`\2`)", readme).replace("](docs/", "](")
    pages = {"index.md": start, **reference_pages()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links into the repository, outside docs/, are shown as code instead."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)
