"""Sequence tasks as vectors: the numbers of a row give back its question, the labels its answer, at their steps."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.runtime.data.sequences.artifact import SequenceSpec
from gridloom.runtime.data.sequences.streams import SequenceStream
from gridloom.runtime.data.sequences.vectors import vector_layout, vector_rows
from gridloom.specs.puzzles import AdditionData, CopyData, LogicData, ParityData, SortData, StringAdditionData

SPECS: list[SequenceSpec] = [
    ParityData(bits=6),
    ParityData(bits=6, width=9, layout="sequence", placement="random"),
    AdditionData(numbers=4, digits=2, fixed_length=False),
    CopyData(length=5, symbols=4),
    CopyData(length=5, symbols=250, backwards=True),
    SortData(length=5),
    LogicData(steps=4, gates=3),
    StringAdditionData(terms=3, digits=4),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{getattr(spec, 'layout', '')}")
def test_rows_have_the_layout_and_do_not_depend_on_the_batch(spec: SequenceSpec) -> None:
    layout = vector_layout(spec)
    assert layout is not None
    rows = vector_rows(spec, 0, 48)
    assert rows.inputs.shape == (48, layout.num_steps, layout.num_features)
    assert rows.labels.shape == (48, layout.answers * (1 if layout.whole else layout.num_steps))
    assert 0 < rows.labels.max() < layout.vocabulary
    assert (rows.valid >= 1).all()
    assert (rows.valid <= layout.num_steps).all()
    for step in range(3):
        part = vector_rows(spec, step, 16)
        for name in ("inputs", "labels", "lengths", "valid"):
            assert np.array_equal(getattr(part, name), getattr(rows, name)[16 * step : 16 * step + 16])
    for inputs, labels, valid in zip(rows.inputs, rows.labels, rows.valid.tolist(), strict=True):
        assert not inputs[valid:].any()
        if not layout.whole:
            assert not labels[valid * layout.answers :].any()


@given(st.integers(1, 7), st.integers(2, 9), st.booleans())
def test_copy_answers_after_the_question(length: int, symbols: int, backwards: bool) -> None:
    spec = CopyData(length=length, symbols=symbols, backwards=backwards)
    rows = vector_rows(spec, 0, 12)
    for inputs, labels, size, valid in zip(rows.inputs, rows.labels, rows.lengths, rows.valid, strict=True):
        assert (inputs[: size + 1].sum(axis=1) == 1).all()
        asked = inputs[: size + 1].argmax(axis=1).tolist()
        assert asked[-1] == symbols
        assert not inputs[size + 1 :].any()
        wanted = asked[:-1][::-1] if backwards else asked[:-1]
        assert not labels[: size + 1].any()
        assert (labels[size + 1 : valid] - 1).tolist() == [*wanted, symbols]
        assert valid == 2 * (size + 1)


@given(st.integers(2, 4), st.sampled_from([1, 3, 15, 40]))
def test_string_addition_answers_with_the_sum(terms: int, digits: int) -> None:
    rows = vector_rows(StringAdditionData(terms=terms, digits=digits), 1, 12)
    for inputs, labels, size, valid in zip(rows.inputs, rows.labels, rows.lengths, rows.valid, strict=True):
        text = "".join("0123456789+="[place] for place in inputs[: size + 1].argmax(axis=1))
        assert text.endswith("=")
        assert not labels[: size + 1].any()
        answer = (labels[size + 1 : valid] - 1).tolist()
        assert answer[-1] == 10
        assert "".join(map(str, answer[:-1])) == str(sum(map(int, text[:-1].split("+"))))


def test_rows_of_string_addition_are_those_of_before_digits_were_added_one_by_one() -> None:
    """Digests of rows whose sums were 64-bit integers."""
    for spec, digest in (
        (StringAdditionData(), "39d7cdb24f2dec06"),
        (StringAdditionData(terms=4, digits=15), "3e7d81474e0a7baa"),
        (StringAdditionData(terms=16, digits=3, seed=7), "6f98669fc6a03928"),
    ):
        drawn = SequenceStream(spec).batch(2, 500, "test")
        found = hashlib.sha256(drawn.inputs.tobytes() + drawn.labels.tobytes() + drawn.lengths.tobytes())
        assert found.hexdigest()[:16] == digest


def test_addition_scores_running_sums_from_the_second_number_on() -> None:
    spec = AdditionData(numbers=5, digits=5, fixed_length=False)
    rows = vector_rows(spec, 0, 200)
    places = rows.labels.reshape(200, 5, 6)
    assert not places[:, 0].any()
    for inputs, labels, size in zip(rows.inputs, places, rows.lengths.tolist(), strict=True):
        total = 0
        for step, (vector, answer) in enumerate(zip(inputs[:size], labels[:size], strict=True)):
            hot = vector.reshape(5, 10)
            total += int("".join(str(int(digit.argmax())) for digit in hot if digit.any()))
            if step:
                digits = [str(label - 1) for label in answer.tolist() if label < 11]
                assert int("".join(digits)) == total
                assert answer[len(digits) :].tolist() == [11] * (6 - len(digits))
    assert set(rows.lengths.tolist()) == {1, 2, 3, 4, 5}


def test_streams_of_validation_and_test_share_no_row_with_training() -> None:
    drawn = {
        split: SequenceStream(ParityData(bits=64)).batch(0, 300, split) for split in ("train", "validation", "test")
    }
    seen = {
        split: {row.tobytes() for row in batch.inputs if np.count_nonzero(row) > 40} for split, batch in drawn.items()
    }
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]
