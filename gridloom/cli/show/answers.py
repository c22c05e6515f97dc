"""Answers of the ledger: as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.cli.output import exact
from gridloom.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

    from gridloom.stores.answers import Answer
    from gridloom.stores.ledger import Ledger


def print_warnings(ledger: Ledger) -> None:
    """Print what ingestion had to leave out, on stderr."""
    for warning in ledger.warnings:
        print(warning, file=sys.stderr)


def print_answer(answer: Answer, as_json: bool, as_csv: bool) -> None:
    """Print the rows of a query: as JSON, as CSV, or as a table with their number."""
    from gridloom.cli.show.tables import exact_cell, print_table, values_table
    from gridloom.stores.answers import jsonable

    if as_json:
        print_json_rows(jsonable(row) for row in answer.dicts())
    elif as_csv:
        writer = csv.writer(exact(), lineterminator="\n")
        writer.writerow(answer.names)
        writer.writerows([exact_cell(value) for value in row] for row in answer.rows())
    else:
        print_table(values_table(answer.names, [*answer.rows()]))
        print(f"({answer.num_rows} row{'' if answer.num_rows == 1 else 's'})")


def print_json_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Print rows as a JSON array, one after the other."""
    begin, out = "[\n ", exact()
    for row in rows:
        # a string has no newline in JSON, so the newlines are those between the fields
        out.write(begin + json.dumps(row, indent=1, allow_nan=False).replace("\n", "\n "))
        begin = ",\n "
    print("[]" if begin == "[\n " else "\n]", file=out)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table whole or not at all. Raises StoreError when the file cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet

    from gridloom.stores.files.write_aside import replacing

    try:
        with replacing(path) as aside:
            pyarrow.parquet.write_table(table, aside)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise StoreError(message, "name a file in a folder that can be written") from error
    except pa.ArrowException as error:  # such as a struct without fields
        raise StoreError(f"cannot write {path} as Parquet: {error}", "leave that column out, or use --csv") from error
