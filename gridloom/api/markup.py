"""HTML for notebooks, in which every text is escaped: only `element` makes markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gridloom.runtime.show.draw import escaped


class Markup(str):
    """HTML whose texts are escaped already."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str) -> Markup:
    """Return one element; content that is no Markup is text, and escaped, as attributes are."""
    opened = "".join(f' {name}="{escaped(value)}"' for name, value in attributes.items())
    inside = "".join(part if isinstance(part, Markup) else escaped(part) for part in content)
    return Markup(f"<{tag}{opened}>{inside}</{tag}>")


def document(*content: str) -> str:
    """Return elements as what a notebook shows: a plain str, since marimo shows nothing of a subclass."""
    return str(element("div", *content))


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return a table with a header."""
    head = element("tr", *(element("th", name, style="text-align:left") for name in names))
    body = (element("tr", *(element("td", cell, style="text-align:left") for cell in row)) for row in rows)
    return element("table", element("thead", head), element("tbody", *body))


def folded(title: str, text: str) -> Markup:
    """Return a text behind its title, which opens it."""
    return element(
        "details", element("summary", title), element("pre", text, style="white-space:pre-wrap;max-height:30em")
    )
