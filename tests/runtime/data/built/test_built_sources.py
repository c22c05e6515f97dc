"""Sources and encoders: what is on every machine, folders, bad files, and the forms of rows."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gridloom.errors import DataError
from gridloom.runtime.data.built.build import build_splits
from gridloom.runtime.data.built.encoders import GridEncoder, TextEncoder, encoder_of
from gridloom.runtime.data.built.order import built_digest, open_sources
from gridloom.runtime.data.built.samples import Encoder, Sample, encoder_hash
from gridloom.runtime.data.built.sources import open_source
from gridloom.runtime.data.built.store import read_rows
from gridloom.specs.built import FIRST_CLASS, FIRST_COLOUR, STOP, PrebuiltData, Source


def spec(*sources: dict[str, object], **fields: object) -> PrebuiltData:
    return PrebuiltData.from_json_values({"kind": "prebuilt", "sources": list(sources), **fields})


def test_texts_are_cut_into_pieces_that_lose_nothing() -> None:
    encoder = TextEncoder(8, "continue")
    sample = Sample("x", "x", text="Grüße an alle\x00!")
    rows = [encoder.row(sample, piece) for piece in range(encoder.pieces(sample))]
    joined = bytes(np.concatenate([row.labels[row.labels != 0] for row in rows]))
    assert joined == "Grüße an alle !".encode() + bytes([STOP])
    assert not rows[0].inputs.any()
    for before, after in pairwise(rows):
        assert (before.labels == after.inputs).all()
    transcribed = TextEncoder(8, "transcribe").row(sample, 1)
    assert (transcribed.inputs == transcribed.labels).all()


def test_a_text_that_fills_its_last_piece_ends_in_a_piece_of_its_own() -> None:
    encoder = TextEncoder(8, "continue")
    sample = Sample("x", "x", text="12345678")
    assert encoder.pieces(sample) == 2
    assert encoder.row(sample, 1).labels.tolist() == [STOP, 0, 0, 0, 0, 0, 0, 0]


def test_the_label_of_a_source_answers_each_piece_of_its_documents(tmp_path: Path) -> None:
    for name, text in (("a", "0123456789abcdefgh"), ("b", "xyz")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text(text)
    sources = [{"kind": "folder", "path": name, "label": name * 2} for name in "ab"]
    made = spec(*sources, length=8, task="label")
    encoder = encoder_of(made)
    long, short = (found[0] for found in open_sources(made, tmp_path))
    assert (encoder.pieces(long), encoder.pieces(short)) == (3, 1)
    questions = [bytes(encoder.row(long, piece).inputs).rstrip(b"\0") for piece in range(3)]
    assert questions == [b"01234567", b"89abcdef", b"gh"]
    answers = [encoder.row(sample, 0).labels.tolist() for sample in (long, short)]
    assert answers == [[ord(name), ord(name), STOP, 0, 0, 0, 0, 0] for name in "ab"]
    other = spec(*[source | {"label": "c"} for source in sources], length=8, task="label")
    assert built_digest(other, tmp_path) != built_digest(made, tmp_path)


def test_a_label_is_refused_where_it_cannot_answer(tmp_path: Path) -> None:
    for fields in ({"task": "continue"}, {"form": "grid", "task": "label"}):
        with pytest.raises(ValueError, match="label code of a source is the answer of"):
            spec({"kind": "folder", "path": "a", "label": "code"}, **fields)
    for label, size in (("", 0), ("abcdefgh", 8), ("\u00fc" * 4, 8)):
        with pytest.raises(ValueError, match=f"has {size} bytes, not 1 to 7"):
            spec({"kind": "python", "label": label}, task="label")
    with pytest.raises(ValueError, match="kind digits has labels of its own"):
        spec({"kind": "digits", "label": "code"}, form="grid", task="label")
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="is no text, so the label 'code' cannot answer it"):
        open_sources(spec({"kind": "folder", "path": ".", "label": "code"}, task="label"), tmp_path)[0][0]


def test_grids_stand_at_the_top_left_with_their_label() -> None:
    encoder = GridEncoder(3, "label")
    row = encoder.row(Sample("g", "g", grid=np.array([[0, 9]], dtype=np.uint8), label=4), 0)
    assert row.inputs.reshape(3, 3)[0].tolist() == [FIRST_COLOUR, FIRST_COLOUR + 9, 0]
    assert row.labels.tolist() == [FIRST_CLASS + 4] + [0] * 8
    assert encoder.pieces(Sample("g", "g", grid=np.zeros((4, 1), dtype=np.uint8), label=1)) == 0
    assert encoder.pieces(Sample("g", "g", grid=np.zeros((2, 1), dtype=np.uint8))) == 0
    with pytest.raises(DataError, match="class 10"):
        encoder.row(Sample("g", "g", grid=np.zeros((1, 1), dtype=np.uint8), label=10), 0)


@pytest.mark.parametrize("kind", ["python", "docs", "arc"])
def test_sources_of_every_machine_have_samples_and_a_digest(kind: str) -> None:
    source = Source.from_json_values({"kind": kind, "max_bytes": 60_000})
    found, again = (open_source(source, Path(), 8, "") for _ in range(2))
    assert len(found) >= 3
    assert found.digest == again.digest
    assert (found[0].text or "").strip()


def test_digits_are_images_with_a_class() -> None:
    pytest.importorskip("sklearn")
    found = open_source(Source(kind="digits"), Path(), 8, "")
    assert len(found) == 1797
    assert GridEncoder(8, "label").row(found[0], 0).labels[0] == FIRST_CLASS


def test_the_digest_covers_content_and_not_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("the same text")
    digests = [built_digest(spec({"kind": "folder", "path": name}), tmp_path) for name in ("one", "two")]
    assert digests[0] == digests[1]
    (tmp_path / "two/a.txt").write_text("another text")
    assert built_digest(spec({"kind": "folder", "path": "two"}), tmp_path) != digests[0]


def folder_samples(folder: Path, canvas: int = 4) -> list[Sample]:
    found = open_source(Source(kind="folder", path=str(folder)), Path(), canvas, "")
    return [found[number] for number in range(len(found))]


def test_a_folder_of_json_lines(tmp_path: Path) -> None:
    lines = [{"text": "one", "label": "1", "task": "t"}, {"grid": [[1, 2], [3, 4]], "label": [[4]]}]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    text, grid = folder_samples(tmp_path)
    assert (text.text, text.label, text.task) == ("one", "1", "t")
    assert grid.grid is not None
    assert grid.grid.tolist() == [[1, 2], [3, 4]]


def test_a_folder_of_arrays_and_of_images(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays/a.npy", np.arange(8).reshape(2, 2, 2))
    assert [s.grid.tolist() for s in folder_samples(tmp_path / "arrays") if s.grid is not None][1] == [[4, 5], [6, 7]]
    (tmp_path / "images/7").mkdir(parents=True)
    Image.new("L", (9, 9), 255).save(tmp_path / "images/7/white.png")
    (image,) = folder_samples(tmp_path / "images")
    assert image.label == 7
    assert image.grid is not None
    assert image.grid.tolist() == [[16] * 4] * 4


def test_consolidated_files_are_a_source_of_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(30):
        (tmp_path / f"texts/{number}.txt").write_text(f"line {number}\n" * 4)
    first = spec({"kind": "folder", "path": "texts"}, length=16, test=0.2)
    build_splits(first, tmp_path, tmp_path / "built")
    stored = spec({"kind": "folder", "path": "built/train"}, length=16)
    (source,) = open_sources(stored, tmp_path)
    rows = read_rows(tmp_path / "built/train/consolidated_000.pt")
    assert len(source) == len(rows.inputs)
    assert (encoder_of(stored).row(source[3], 0).labels == rows.labels[3]).all()
    with pytest.raises(DataError, match="was encoded by"):
        open_sources(spec({"kind": "folder", "path": "built/train"}, length=32), tmp_path)
    file = tmp_path / "built/train/consolidated_000.pt"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="is damaged") as problem:
        open_sources(stored, tmp_path)
    assert "gridloom data consolidate" in str(problem.value.remedy)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"{broken", r"a\.jsonl:1: not JSON"),
        ("a.jsonl", b'{"words": 1}', r"a\.jsonl:1: no object with 'text'"),
        ("a.jsonl", b'{"grid": [[1], [1, 2]]}', r"a\.jsonl:1: not a grid"),
        ("a.jsonl", b'{"text": 5}', r"a\.jsonl:1: text is int"),
        ("a.npy", b"nothing", "not a .npy array"),
        ("a.png", b"nothing", "not an image"),
        ("consolidated_0.pt", b"nothing", "cannot be read as tensors"),
        ("consolidated_0.pt", b"cos\nsystem\n(S'true'\ntR.", "cannot be read as tensors"),
        ("a.xyz", b"", "no file that can be read"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        folder_samples(tmp_path)


def test_foreign_tensors_are_checked(tmp_path: Path) -> None:
    rows = dict.fromkeys(("inputs", "labels"), torch.ones(2, 3, dtype=torch.int8))
    for value, reason in (
        ({"inputs": torch.zeros(2, 3)}, "no tensors 'inputs' and 'labels'"),
        ({"inputs": torch.zeros(2, 3), "labels": torch.zeros(2, 3)}, "not integers"),
        ({"inputs": torch.full((2, 3), 300), "labels": torch.zeros(2, 3, dtype=torch.int64)}, "tokens 300 to 300"),
        ({"inputs": torch.ones(2, 3, dtype=torch.int8), "labels": torch.ones(1, 3, dtype=torch.int8)}, "inputs are"),
        (rows | {"index": [0, 1]}, "index is no tensor of 2 numbers"),
        (rows | {"source": torch.zeros(3)}, "source is no tensor of 2 numbers"),
    ):
        torch.save(value, tmp_path / "consolidated_0.pt")
        with pytest.raises(DataError, match=reason):
            read_rows(tmp_path / "consolidated_0.pt")


def test_an_empty_folder_and_a_mixed_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file that can be read"):
        folder_samples(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(DataError, match="files of several kinds: JSON lines, text"):
        folder_samples(tmp_path)


def test_hashes_of_encoders_differ_by_what_changes_rows() -> None:
    encoders: list[Encoder] = [TextEncoder(n, task) for n, task in ((8, "continue"), (9, "continue"), (8, "label"))]
    encoders.append(GridEncoder(8, "label"))
    assert len({encoder_hash(encoder) for encoder in encoders}) == 4
