"""JSON text of a column: the faster encoder is used only where it writes what `json` writes."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from gridloom.stores.schema import to_json

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
letters = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | numbers | letters | st.sampled_from([5e-5, 1e16, 1e22, "\x7f", "null", "1e5"])
values = st.recursive(scalars, lambda one: st.lists(one, max_size=4) | st.dictionaries(letters, one, max_size=4))


@given(values)
def test_text_equals_that_of_json(value: object) -> None:
    assert to_json(value) == json.dumps(value, separators=(",", ":"))


def test_numbers_that_json_has_no_form_for_become_text() -> None:
    assert to_json({"a": math.nan, "b": [math.inf, None]}) == '{"a":"nan","b":["inf",null]}'
