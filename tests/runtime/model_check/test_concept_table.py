"""Concept-to-text table: rows read by their own codes, the codebook's hash, files, refusals, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_support import engine
from torch import Tensor

from gridloom.errors import ModelError, StoreError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.built.encoders import TextEncoder
from gridloom.runtime.data.built.samples import Sample
from gridloom.runtime.model_check.concept_table import ConceptTable, Entry
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.kind import RowShape

LENGTH = 28
WORDS = "graph tensor mask loss step halt path memory page row code text token cell grid learn read".split()  # noqa: SIM905


def lines(count: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(0, len(WORDS), (count, 4), generator=generator).tolist()
    return [" ".join(WORDS[pick] for pick in row)[:LENGTH] for row in picks]


def tokens(texts: list[str]) -> Tensor:
    encoder = TextEncoder(LENGTH, "transcribe")
    return torch.stack([torch.from_numpy(encoder.row(Sample("x", "x", text=text), 0).inputs) for text in texts])


def reader(count: int = 1024, seed: int = 0) -> Engine:
    """Return an engine whose codebook exists; of 1024 codes, its codes are the sketches of 16 lines."""
    network = engine(
        RowShape(0, LENGTH, 256),
        seed,
        vision={"draw": "text", "patch": 28, "layers": 1, "H_cycles": 1, "L_cycles": 1},
        capsules={"capsules": 64, "children": 1, "pooling": "average", "grid": [8, 8], "checksum": 8},
        concepts={"concepts": count},
    )
    assert network.concepts is not None
    with torch.no_grad():
        found = network.encode(tokens(lines(16)))[1]
        assert found is not None
        for _ in range(2):
            network.concepts.learn(found.sketches, torch.Generator().manual_seed(0))
    return network


@pytest.fixture(scope="module")
def network() -> Engine:
    return reader()


def test_lines_are_read_by_their_own_codes(network: Engine, tmp_path: Path) -> None:
    rows = tokens(lines(16))
    table = ConceptTable.of(network, rows)
    readings = table.read(network, rows)
    assert [reading.text for reading in readings] == lines(16)
    assert sum(reading.right for reading in readings) / 16 > 0.95
    assert not any(reading.unknown for reading in readings)
    table.save(tmp_path / "table.json")
    assert ConceptTable.load(tmp_path / "table.json") == table
    (other,) = table.read(network, tokens(["zzzz #### !!!! @@@@"]))
    assert other.right < 0.5


def test_the_order_of_the_rows_does_not_change_a_table(network: Engine) -> None:
    rows = tokens(lines(10))
    assert ConceptTable.of(network, rows) == ConceptTable.of(network, rows.flip(0))


def test_an_unknown_code_is_shown_and_counted() -> None:
    table = ConceptTable("hash", 9, {3: Entry("ab", 1)})
    assert table.decode([3, 7, 3], [[0, 1], [2, 3, 4], [5, 6]]) == ("ab<7>ab", 1)
    assert table.decode([], []) == ("", 0)


def test_another_codebook_is_refused(network: Engine) -> None:
    table = ConceptTable.of(network, tokens(lines(2)))
    with pytest.raises(ModelError, match="the concept table is of codebook"):
        table.read(reader(64, seed=1), tokens(lines(2)))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"format": 9}', b'{"format": 1, "codebook": "x", "entries": 3}', b"\xff", b"[" * 100_000],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"table\.json"):
        ConceptTable.load(tmp_path / "table.json")


def test_an_engine_without_text_concepts_is_refused() -> None:
    with pytest.raises(ModelError, match="no concepts of drawn bytes"):
        ConceptTable.of(engine(), torch.zeros(1, 16, dtype=torch.uint8))
    fresh = reader(4096)
    with pytest.raises(ModelError, match="2,048 of 8,192 first sketches are collected"):
        ConceptTable.of(fresh, tokens(lines(1)))


def test_concepts_as_a_user_types_it(tmp_path: Path, typist: Callable[[Path], Callable[..., str]]) -> None:
    save_bundle(tmp_path / "net", Bundle({NETWORK: reader(64)}, PuzzleIds.of(()), meta={"data": {"kind": "prebuilt"}}))
    (tmp_path / "lines").mkdir()
    for number, line in enumerate(lines(16)):
        (tmp_path / "lines" / f"{number}.txt").write_text(line)
    run = typist(tmp_path)
    data = "{kind: prebuilt, sources: [{kind: folder, path: lines}], task: transcribe, length: 28, test: 0.3}"
    shown = run("concepts", "net", data, "--rows", 2, "--save", "table.json")
    assert "of 64 concepts have a text" in shown
    assert "wrote table.json" in shown
    again = json.loads(run("concepts", "net", data, "--rows", 2, "--table", "table.json", "--json"))
    assert [set(reading) for reading in again] == [{"text", "ids", "decoded", "unknown", "right"}] * 2


def test_a_table_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    table = ConceptTable("0" * 64, 1, {0: Entry("a", 1)})
    with pytest.raises(StoreError, match="the folder or a file in it is gone"):
        table.save(tmp_path / "none" / "table.json")
    (tmp_path / "table.json").mkdir()
    with pytest.raises(StoreError, match="a folder stands where a file is needed"):
        table.save(tmp_path / "table.json")
