"""Values cut out of the text of records: read as line by line, or not read at all, whatever the text is."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from store_cases import attempt, pick
from test_ingest_odd_lines import raw

from gridloom.stores.ingestion.attempt_keys import plain
from gridloom.stores.ingestion.blocks import read_block
from gridloom.stores.ingestion.digit_lists import lists_of_digits
from gridloom.stores.journal import decode_line, encode_line, units_of
from gridloom.stores.records import CandidateRecord, Record
from gridloom.stores.schema import columns_by_table, rows_to_arrow, tables

CANDIDATE = CandidateRecord(
    run_id="r",
    stage="s",
    task_id="t",
    attempt=1,
    test_index=0,
    rank=0,
    source="trm",
    grid=[[1, 2]],
    votes=1,
    num_views=2,
)
BASES = (
    [attempt()],
    [attempt(prompt=None, text=None, latent=None, prefix=None, reading={"parser": 2, "note": None})],
    [attempt(plan={}, grids=[[], [[3]]], confirmation={"asked": [{"views": [], "plan": 1e-7}]}), CANDIDATE],
    [CANDIDATE, pick("aaaa0001", 0, [[1, 2], [3, 4]])],
)


def line_of(records: list[Record], sequence: int = 1) -> bytes:
    from gridloom.stores.journal import as_columns

    return encode_line({"s": sequence, "r": [{"t": record.TABLE, "r": as_columns(record)} for record in records]})


def rows_line_by_line(line: bytes) -> tuple[dict[str, list[dict[str, Any]]], list[tuple[str, dict[str, Any], int]]]:
    """Rows of a line, each value converted by itself, and its records of other tables; an error where one is wrong."""
    payload = decode_line(line[:-1])
    assert payload is not None
    assert payload["s"] == 1
    units = units_of(payload)
    assert units is not None
    rows: dict[str, list[dict[str, Any]]] = {}
    others: list[tuple[str, dict[str, Any], int]] = []
    for table, columns in zip(*units, strict=True):
        if table not in tables() or tables()[table].policy != "first":
            others.append((table, columns, 1))
            continue
        assert columns.keys() <= columns_by_table()[table]
        rows.setdefault(table, []).append(columns)
    return {name: rows_to_arrow(tables()[name], found, exact=True).to_pylist() for name, found in rows.items()}, others


def assert_read_alike_or_not_at_all(line: bytes) -> bool:
    """Whether the line was read as a block; then its rows are those that are read line by line."""
    block = read_block([line], 1)
    if block is None:
        return False
    as_block = {name: plain(rows).to_pylist() for name, rows in block.arrow.items()}, block.others
    assert str(as_block) == str(rows_line_by_line(line))
    return True


@pytest.mark.parametrize("number", range(len(BASES)))
def test_records_with_cut_columns_are_read_as_a_block(number: int) -> None:
    assert assert_read_alike_or_not_at_all(line_of([*BASES[number]]))


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("plan", '{"prompt":1,"text":[{"grids":{}}]}'),  # names of later columns inside the value
        ("plan", '{"a":1,"prompt":2}'),
        ("plan", '{ "a" : 1.50 }'),
        ("plan", '{"a":1E5,"b":-0,"c":-0.0,"a":2}'),
        ("plan", '{"a":1e-05,"b":1e-07,"c":1e16,"d":0.00001}'),
        ("plan", '{"a":18446744073709551616,"b":123456789012345678901234567890}'),
        ("plan", '{"a":"\\u00e9 \u2192 \\/ \\u007f"}'),
        ("plan", '"text"'),
        ("plan", '{"a":1},{"b":2}'),
        ("plan", '{"a":[1'),
        ("plan", '{"a":NaN}'),
        ("plan", "1,2"),
        ("plan", ""),
        ("plan", " {} "),
        ("timings", '{"a":null}'),
        ("timings", '{"b":2},"plan":{"c":3}'),  # a column twice
        ("timings", '{"b":2},"unknown":{"c":3}'),
        ("latent", '{"$b64":"AAE"}'),
        ("latent", '{"$b64":"AAE=","a":1}'),
        ("latent", '{"a":1,"$b64":"AAE="}'),
        ("latent", '{"$b64": "AAE="}'),
        ("latent", '{"$b64":"A\\u0041E="}'),
        ("latent", '"AAE="'),
        ("latent", '{"$b64":"AA E="}'),
        ("grids", "[[[10,255]]]"),
        ("grids", "[[[256]]]"),
        ("grids", "[[[1, 2]],[]]"),
        ("grids", "[[1,2]]"),
        ("grids", "[[[1.0]]]"),
        ("grids", '[[["1"]]]'),
        ("grids", "[[[true]]]"),
        ("grids", "[null,[[1]]]"),
        ("grids", "[[[1]]"),
        ("grids", "[[[1]]]]"),
        ("confirmation", "null"),
        ("grids", "null"),
    ],
)
def test_a_value_of_any_text_is_read_as_line_by_line(column: str, text: str) -> None:
    columns = json.loads(line_of([attempt()])[9:])["r"][0]["r"] | {column: "HERE"}
    written = json.dumps(columns, separators=(",", ":")).replace('"HERE"', text)
    line = raw('{"s":1,"r":[{"t":"attempts","r":' + written + "}]}")
    whole = decode_line(line[:-1])
    read = assert_read_alike_or_not_at_all(line)
    if column == "plan" and text.startswith('{"a":1') and whole is not None and text.endswith("}"):
        assert read == ("prompt" not in text and "},{" not in text)


def test_columns_in_another_order_are_read_alike_or_not_at_all() -> None:
    rng = random.Random(7)
    columns = json.loads(line_of([attempt()])[9:])["r"][0]["r"]
    for _ in range(40):
        names = [*columns]
        rng.shuffle(names)
        body = json.dumps({name: columns[name] for name in names}, separators=(",", ":"))
        assert_read_alike_or_not_at_all(raw('{"s":1,"r":[{"t":"attempts","r":' + body + "}]}"))


def test_mutated_text_is_read_alike_or_not_at_all() -> None:
    rng = random.Random(11)
    bodies = [line_of([*records])[9:-1].decode() for records in BASES]
    pieces = [
        '"',
        "\\",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "0",
        "12",
        "null",
        ',"plan":',
        ',"grid":',
        "}},{",
        '"}',
        "\\u0041",
        " ",
    ]
    num_read = 0
    for _ in range(800):
        body = rng.choice(bodies)
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(30, len(body))
            body = body[:place] + rng.choice(pieces) + body[place + rng.choice((0, 0, 1, 2, 6)) :]
        num_read += assert_read_alike_or_not_at_all(raw(body))
    assert num_read > 15


def nested(rng: random.Random, depth: int) -> Any:
    return rng.randrange(10) if depth == 0 else [nested(rng, depth - 1) for _ in range(rng.randrange(4))]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_lists_of_digits_are_those_that_json_reads(depth: int) -> None:
    rng = random.Random(depth)
    for _ in range(200):
        lists = [nested(rng, depth) if rng.random() < 0.9 else None for _ in range(rng.randint(1, 6))]
        texts = [None if one is None else json.dumps(one, separators=(",", ":")).encode() for one in lists]
        array = lists_of_digits(texts, depth)
        assert array is not None
        assert array.to_pylist() == lists
        assert array.validate(full=True) is None


def test_what_is_no_list_of_digits_of_its_depth_is_left() -> None:
    """Every short text over the alphabet of lists: read exactly where JSON reads lists of digits of this depth."""
    import itertools

    def is_of(value: Any, depth: int) -> bool:
        if depth == 0:
            return type(value) is int
        return type(value) is list and all(is_of(one, depth - 1) for one in value)

    for length in range(1, 7):
        for letters in itertools.product("[],1", repeat=length):
            text = "".join(letters)
            try:
                value = json.loads(text)
            except ValueError:
                value = None
            for depth in (1, 2):
                array = lists_of_digits([text.encode()], depth)
                right = is_of(value, depth) and "11" not in text
                assert (array is not None) == right, text
                if array is not None:
                    assert array.to_pylist() == [value]
    for texts in ([b"[[1]", b"[2]]"], [b"[[1]],[[2]]"], [b"[[1]]\n[[2]]"], [b"[[1]]", b"null"], [b"[[1]]", b"[[/]]"]):
        array = lists_of_digits(texts, 2)
        assert array is None
