"""Markdown of the ledger's tables and views; `python -m gridloom.stores.describe PAGE` updates that part of a page."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from gridloom.stores.layout import lay_out_empty
from gridloom.stores.records import Record
from gridloom.stores.schema import BOOKKEEPING, tables
from gridloom.stores.views import VIEWS

BEGIN = "<!-- begin: written by python -m gridloom.stores.describe -->\n"
END = "<!-- end -->\n"


def field_docs(record: type[Record]) -> dict[str, str]:
    """Return the docstring beneath each field of a record."""
    (definition,) = ast.parse(inspect.getsource(record)).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            docs[field.target.id] = inspect.cleandoc(str(text.value.value)).replace("\n", " ").replace("|", "\\|")
    return docs


def schema_markdown() -> str:
    """Return tables with their columns, then views with theirs."""
    import duckdb

    lines = ["### Tables\n"]
    for table in tables().values():
        (about,) = inspect.cleandoc(table.record.__doc__ or "").splitlines()[:1]
        if about.startswith(f"{table.record.__name__}("):  # written by dataclass for a record without a docstring
            about = ""
        docs = field_docs(table.record)
        lines += [f"#### {table.name}\n", *([f"{about}\n"] if about else []), "| column | type | |", "|---|---|---|"]
        for column in table.columns:
            name = f"**{column.name}**" if column.name in table.key else column.name
            lines.append(f"| {name} | {column.sql} | {docs.get(column.name, '')} |")
        lines.append("")
    lines += [
        "Bold columns are the key, of which a table has one row. Ingestion itself keeps "
        + ", ".join(f"`{name}`" for name in BOOKKEEPING)
        + ".\n",
        "### Columns of the views\n",
    ]
    with duckdb.connect() as connection:
        lay_out_empty(connection)
        for name in VIEWS:
            rows = connection.execute(f"DESCRIBE {name}").fetchall()
            lines.append(f"- **{name}**: " + ", ".join(f"{row[0]} {row[1]}" for row in rows))
    return "\n".join(lines) + "\n"


def update(text: str) -> str:
    """Return a page with its generated section brought up to date. Raises ValueError when it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no section between {BEGIN.strip()} and {END.strip()}")
    return f"{head}{BEGIN}\n{schema_markdown()}\n{END}{tail}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")
