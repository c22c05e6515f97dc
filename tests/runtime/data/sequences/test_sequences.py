"""Sequence tasks: labels equal a plain recomputation from the inputs, whatever the batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.sequences.artifact import SequenceSpec, load_sequences
from gridloom.runtime.data.sequences.streams import SequenceBatch, SequenceStream
from gridloom.runtime.data.sequences.widths import sum_width
from gridloom.runtime.data.stages import BuildSequences
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.stage import StageContext
from gridloom.specs.puzzles import AdditionData, CopyData, LogicData, ParityData, SortData, StringAdditionData

SPECS: list[SequenceSpec] = [
    ParityData(bits=12),
    ParityData(bits=12, placement="random"),
    AdditionData(numbers=4, digits=3, fixed_length=False),
    AdditionData(),
    CopyData(length=9),
    CopyData(length=9, backwards=True),
    SortData(),
    LogicData(),
    StringAdditionData(terms=4),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_rows_do_not_depend_on_the_batch_and_splits_differ(spec: SequenceSpec) -> None:
    stream = SequenceStream(spec)
    whole = stream.batch(0, 60)
    parts = [stream.batch(step, 20) for step in range(3)]
    backwards = stream.rows(np.arange(60)[::-1])
    for name in ("inputs", "labels", "lengths"):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))
        assert np.array_equal(getattr(whole, name), getattr(backwards, name)[::-1])
    assert not np.array_equal(whole.inputs, stream.batch(0, 60, "test").inputs)
    other = SequenceStream(spec.model_copy(update={"seed": 1}))
    assert not np.array_equal(whole.inputs, other.batch(0, 60).inputs)


@given(st.sampled_from(SPECS), st.lists(st.integers(0, 2**40), min_size=1, max_size=8), st.sampled_from(["train", "x"]))
def test_a_row_depends_on_its_number_and_split_alone(spec: SequenceSpec, numbers: list[int], split: str) -> None:
    together = SequenceStream(spec).rows(np.array(numbers), split)
    for place, number in enumerate(numbers):
        alone = SequenceStream(spec).rows(np.array([number]), split)
        for name in ("inputs", "labels", "lengths"):
            assert np.array_equal(getattr(together, name)[place], getattr(alone, name)[0])


def many(spec: SequenceSpec) -> SequenceBatch:
    return SequenceStream(spec).batch(3, 400)


@pytest.mark.parametrize("placement", ["prefix", "random"])
def test_parity_is_that_of_the_positive_entries(placement: str) -> None:
    batch = many(ParityData.model_validate({"bits": 12, "placement": placement}))
    assert np.array_equal((batch.inputs == 1).sum(axis=1) % 2, batch.labels)
    assert np.array_equal((batch.inputs != 0).sum(axis=1), batch.lengths)
    assert set(np.unique(batch.inputs)) == {-1.0, 0.0, 1.0}
    counts = np.bincount(SequenceStream(ParityData(bits=4)).batch(0, 4000).lengths, minlength=5)[1:]
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.3  # chi-square, 3 degrees, p = 0.001
    prefix = [(row[: np.count_nonzero(row)] != 0).all() for row in batch.inputs]
    assert all(prefix) == (placement == "prefix")


@given(st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_addition_targets_are_the_running_sums(numbers: int, digits: int, fixed: bool) -> None:
    spec = AdditionData(numbers=numbers, digits=digits, fixed_length=fixed)
    batch = SequenceStream(spec).batch(0, 20)
    for features, targets, length in zip(batch.inputs, batch.labels, batch.lengths.tolist(), strict=True):
        assert length == numbers or not fixed
        total = 0
        for t in range(numbers):
            hot = features[t].reshape(digits, 10)
            shown = [int(np.argmax(row)) for row in hot if row.any()]
            assert (t < length) == bool(shown)
            if t == 0 or t >= length:
                assert (targets[t] == -100).all()
            total += int("".join(map(str, shown)) or 0)
            if 0 < t < length:
                told = targets[t].tolist()
                end = told.index(10) if 10 in told else len(told)
                assert int("".join(map(str, told[:end]))) == total
                assert set(told[end:]) <= {10}
    assert batch.labels.shape[2] == sum_width(spec.digits, spec.numbers)


def test_addition_of_five_by_five_is_six_wide() -> None:
    assert sum_width(5, 5) == 6


@pytest.mark.parametrize("backwards", [False, True])
def test_copy_repeats_or_reverses(backwards: bool) -> None:
    batch = many(CopyData(length=9, symbols=5, backwards=backwards))
    for told, wanted, length in zip(batch.inputs, batch.labels, batch.lengths.tolist(), strict=True):
        symbols = told[:length].tolist()
        assert set(symbols) <= set(range(3, 8))
        assert wanted.tolist() == (symbols[::-1] if backwards else symbols) + [2] + [0] * (9 - length)
        assert told[length:].tolist() == [2] + [0] * (9 - length)
    assert set(batch.lengths.tolist()) == set(range(1, 10))


def test_sort_gives_ascending_indices_of_normal_numbers() -> None:
    batch = many(SortData())
    for told, wanted, length in zip(batch.inputs, batch.labels, batch.lengths.tolist(), strict=True):
        assert wanted[:length].tolist() == np.argsort(told[:length, 0], kind="stable").tolist()
        assert (wanted[length:] == -100).all()
        assert np.flatnonzero(told[:, 1]).tolist() == [length - 1]
        assert (told[length:] == 0).all()
    values = np.concatenate([row[:n, 0] for row, n in zip(batch.inputs, batch.lengths, strict=True)])
    assert abs(values.mean()) < 0.08
    assert abs(values.std() - 1) < 0.08


GATE = {
    0: lambda p, q: not (p or q),
    1: lambda p, q: not p and q,
    2: lambda p, q: p and not q,
    3: lambda p, q: p != q,
    4: lambda p, q: not (p and q),
    5: lambda p, q: p and q,
    6: lambda p, q: p == q,
    7: lambda p, q: not p or q,
    8: lambda p, q: p or not q,
    9: lambda p, q: p or q,
}


def test_logic_targets_need_the_whole_sequence() -> None:
    batch = many(LogicData())
    wrong_without_memory = 0
    for told, wanted, length in zip(batch.inputs, batch.labels, batch.lengths.tolist(), strict=True):
        target = False
        for t in range(length):
            for memory in (False, True):
                older = target if memory else bool(told[t, 0])
                if t == 0:
                    older = bool(told[0, 0])
                newer = bool(told[t, 1])
                for chunk in told[t, 2:].reshape(10, 10):
                    if chunk.any():
                        older, newer = newer, bool(GATE[int(np.argmax(chunk))](newer, older))
                if not memory:
                    wrong_without_memory += newer != wanted[t]
            assert newer == wanted[t]
            target = newer
            assert t == 0 or told[t, 0] == 0
        assert (wanted[length:] == -100).all()
    assert wrong_without_memory > 100


def test_string_addition_spells_the_sum() -> None:
    batch = many(StringAdditionData(terms=4, digits=3))
    characters = {3: "+", **{4 + d: str(d) for d in range(10)}}
    for told, wanted, length in zip(batch.inputs, batch.labels, batch.lengths.tolist(), strict=True):
        assert told[length] == 2
        assert not told[length + 1 :].any()
        terms = "".join(characters[int(token)] for token in told[:length]).split("+")
        assert 2 <= len(terms) <= 4
        assert all(term == str(int(term)) for term in terms)
        end = wanted.tolist().index(2)
        assert "".join(characters[int(token)] for token in wanted[:end]) == str(sum(map(int, terms)))


def test_stage_publishes_the_spec_and_facts_follow_it(tmp_path: Path) -> None:
    spec = AdditionData(numbers=3)
    node = StageNode(name="a", kind="addition", version=1, produces="sequences", spec=spec.model_dump(mode="json"))
    BuildSequences().run(node, {}, cast(StageContext, SimpleNamespace(out=tmp_path)))
    assert load_sequences(tmp_path) == spec
    facts = LocalFacts()
    assert facts.data(spec, ".").digest != facts.data(AdditionData(numbers=4), ".").digest
    (tmp_path / "meta.json").write_text('{"format_version": 1, "generator": 1, "spec": {"kind": "parity", "bits": 0}}')
    with pytest.raises(DataError, match="not a sequence task"):
        load_sequences(tmp_path)
