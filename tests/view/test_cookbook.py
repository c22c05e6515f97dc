"""The questions of the SQL page are those of docs/ledger.md, each of which a test of that page runs."""

from __future__ import annotations

import re
from pathlib import Path

from gridloom.runtime.show.draw import hex_of
from gridloom.view.cookbook import COOKBOOK

ROOT = Path(__file__).parents[2]


def test_page_and_cookbook_are_equal() -> None:
    text = (ROOT / "docs/ledger.md").read_text(encoding="utf-8")
    part = text[text.index("## Questions") : text.index("## Comparing runs")]
    found = re.findall(r"\n\n([^\n`].*?)\n\n```sql\n(.*?)```", part, re.DOTALL)
    assert [(" ".join(title.split()), query.strip()) for title, query in found] == [*COOKBOOK]
    assert len(COOKBOOK) > 10


def test_the_script_has_the_colours_of_gridloom() -> None:
    script = (ROOT / "gridloom/view/static/view.js").read_text(encoding="utf-8")
    palette = re.findall(r'"(#[0-9a-f]{6})"', script[script.index("PALETTE = [") : script.index("];")])
    assert palette[:10] == [hex_of(colour) for colour in range(10)]
