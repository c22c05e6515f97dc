"""Builds of rows: order, mixing, resuming after kills, consolidation, damage, refusals."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.errors import DataError
from gridloom.runtime.data.built.build import build_splits
from gridloom.runtime.data.built.consolidate import consolidate
from gridloom.runtime.data.built.encoders import TextEncoder
from gridloom.runtime.data.built.lists import SampleList
from gridloom.runtime.data.built.order import RowOrder, interleave, split_of
from gridloom.runtime.data.built.samples import Sample
from gridloom.runtime.data.built.store import damage, read_manifest, read_rows
from gridloom.runtime.data.built.stream import StreamBuilder
from gridloom.specs.built import PrebuiltData, StreamData


def texts(name: str, count: int) -> SampleList:
    return SampleList(
        name,
        [
            Sample(f"{name}-{n}", f"{name}-{n}", text="".join(f"{n:02d}{c}" for c in "abcdefghijkl"))
            for n in range(count)
        ],
    )


def order(rows: int = 45, length: int = 16, weights: tuple[float, ...] = (3.0, 1.0), seed: int = 0) -> RowOrder:
    sources = [texts("a", 40), texts("b", 30)]
    return RowOrder(sources, TextEncoder(length, "continue"), "train", seed=seed, share=0.2, weights=weights, rows=rows)


def build(folder: Path, rows: int = 45, batch: int = 4, per_file: int = 5, **fields: int) -> StreamBuilder:
    return StreamBuilder(folder, order(rows, **fields), batch, per_file)


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class Stop(Exception):
    pass


def after(count: int) -> Callable[[], None]:
    left = [count]

    def check() -> None:
        left[0] -= 1
        if not left[0]:
            raise Stop

    return check


def test_every_row_is_stored_once_in_order(tmp_path: Path) -> None:
    report = build(tmp_path).build()
    manifest = read_manifest(tmp_path)
    assert manifest.complete
    assert [file.count for file in manifest.files] == [20, 20, 5]
    index = np.concatenate([read_rows(tmp_path / file.name).index for file in manifest.files])
    assert index.tolist() == list(range(45))
    assert report.rows == 45
    assert not list(tmp_path.glob("batch_*"))
    assert manifest.counts == {"0 a": 34, "1 b": 11}


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 11])
def test_an_interrupted_build_ends_with_the_same_bytes(tmp_path: Path, stop: int) -> None:
    build(tmp_path / "whole").build()
    with pytest.raises(Stop):
        build(tmp_path / "parts").build(after(stop))
    report = build(tmp_path / "parts").build()
    assert report.rows + report.resumed_at == 45
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_stream_builder import build
build(Path(sys.argv[1]), rows=400, batch=2, per_file=7).build(lambda: time.sleep(0.001))
"""


def test_a_killed_build_goes_on_without_loss_or_repetition(tmp_path: Path) -> None:
    build(tmp_path / "whole", rows=400, batch=2, per_file=7).build()
    draw = random.Random(1)
    place = str(Path(__file__).parent)
    kills = 0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "parts"), place],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "parts/manifest.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.05, 0.4))
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
    assert kills
    build(tmp_path / "parts", rows=400, batch=2, per_file=7).build()
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
@pytest.mark.parametrize("name", ["consolidated_000.pt", "batch_00006.pt"])
def test_damaged_files_are_encoded_again(tmp_path: Path, damage: str, name: str) -> None:
    build(tmp_path / "whole").build()
    with pytest.raises(Stop):
        build(tmp_path / "parts").build(after(8))
    file = tmp_path / "parts" / name
    raw = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(raw[:-7] if damage == "truncate" else raw[:50] + bytes([raw[50] ^ 1]) + raw[51:])
    report = build(tmp_path / "parts").build()
    assert report.encoded_again == [name]
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_another_encoder_or_order_is_refused(tmp_path: Path) -> None:
    build(tmp_path).build()
    with pytest.raises(DataError, match=r"was encoded by [0-9a-f]{12}, this encoder is"):
        build(tmp_path, length=32)
    with pytest.raises(DataError, match="other sources, weights, seed or batch size"):
        build(tmp_path, seed=1)


def test_consolidation_by_hand(tmp_path: Path) -> None:
    def batches(folder: Path) -> Path:
        data = StreamData.from_json_values({"sources": [{"kind": "python"}], "per_file": 10})
        spec = {"spec": data.model_dump(mode="json"), "split": "train"}
        builder = StreamBuilder(folder, order(90), 2, 1000, spec)
        with pytest.raises(Stop):
            builder.build(after(43))
        return folder

    before = files(batches(tmp_path / "a"))
    (plan,) = consolidate(tmp_path / "a", dry_run=True)
    assert (plan.made, plan.left) == (4, 3)
    assert files(tmp_path / "a") == before
    (made,) = consolidate(tmp_path / "a")
    assert (made.made, made.files, made.left) == (4, 4, 3)
    (rest,) = consolidate(tmp_path / "a", final=True, keep=True)
    assert (rest.made, rest.files, rest.left) == (1, 5, 0)
    kept = files(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("batch_*"))) == 3
    (again,) = consolidate(tmp_path / "a", final=True)
    assert (again.made, again.files, again.left) == (0, 5, 0)
    assert files(tmp_path / "a") == kept
    (tmp_path / "a" / "batch_00099.pt").write_bytes(b"of a killed build")
    consolidate(tmp_path / "a")
    assert files(tmp_path / "a") == kept
    with pytest.raises(DataError, match=r"no manifest\.json"):
        consolidate(tmp_path)


def test_rows_of_changed_sources_are_not_mixed_in(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()

    def write(word: str) -> None:
        for number in range(30):
            (folder / f"{number}.txt").write_text(word * 8)

    write("abcdefgh")
    spec = PrebuiltData.from_json_values({"sources": [{"kind": "folder", "path": "texts"}], "length": 16, "test": 0.2})
    build_splits(spec, tmp_path, tmp_path / "built")
    file = tmp_path / "built/train/consolidated_000.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    write("hgfedcba")  # as long as before
    with pytest.raises(DataError, match="its sources changed since"):
        consolidate(tmp_path / "built", base=tmp_path)
    write("abcdefgh")
    consolidate(tmp_path / "built", base=tmp_path)
    assert file.read_bytes() == whole


def test_a_manifest_names_no_file_outside_its_folder(tmp_path: Path) -> None:
    build(tmp_path / "a").build()
    manifest = tmp_path / "a/manifest.json"
    whole = manifest.read_text()
    assert '"kept"' not in whole, "as earlier versions write it"
    manifest.write_text(whole.replace("consolidated_000.pt", "../other.pt"))
    with pytest.raises(DataError, match="outside the folder"):
        consolidate(tmp_path / "a")
    manifest.write_text(json.dumps({**json.loads(whole), "kept": ["../other.pt"]}))
    with pytest.raises(DataError, match="outside the folder"):
        consolidate(tmp_path / "a")


def test_mixing_keeps_the_weights_within_one_row() -> None:
    chosen = interleave([3.0, 1.0], 4000)
    assert abs(int((chosen == 0).sum()) - 3000) <= 1
    assert chosen[:8].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=4), st.integers(1, 200))
def test_no_source_is_ever_a_row_ahead_of_its_share(weights: list[float], rows: int) -> None:
    chosen = interleave(weights, rows)
    for number, weight in enumerate(weights):
        taken = np.cumsum(chosen == number)
        wanted = weight / sum(weights) * np.arange(1, rows + 1)
        assert (taken - wanted < 1 + 1e-9).all()


def test_rows_of_an_epoch_do_not_repeat() -> None:
    made = order(200, weights=(1.0, 1e-9))
    units = len(made.units[0])
    rows = made.rows(0, units)
    first = rows.labels[rows.source == 0]
    assert len({row.tobytes() for row in first}) == len(first)


def test_a_seed_gives_an_order_and_another_seed_another() -> None:
    rows = [order(45, seed=seed).rows(0, 45).labels for seed in (0, 0, 1)]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()


def test_prebuilt_is_byte_identical_twice_and_tasks_are_in_one_split(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"text {number}\n" * 5)
    spec = PrebuiltData(sources=({"kind": "folder", "path": str(folder)},), length=16, test=0.2)  # type: ignore[arg-type]
    for name in ("one", "two"):
        build_splits(spec, Path(), tmp_path / name)
    for split in ("train", "validation", "test"):
        assert files(tmp_path / "one" / split) == files(tmp_path / "two" / split)
    splits = {split_of(f"{number}.txt", 0, 0.2) for number in range(40)}
    assert splits == {"train", "validation", "test"}
    counts = [read_manifest(tmp_path / "one" / split).rows for split in ("train", "validation", "test")]
    assert sum(counts) == sum(-(-(len(f"text {number}\n" * 5) + 1) // 16) for number in range(40))


@pytest.mark.parametrize(("name", "message"), [("manifest.json", "it is a device"), ("consolidated_000.pt", "")])
def test_a_device_or_a_pipe_in_place_of_a_file_is_not_read(tmp_path: Path, name: str, message: str) -> None:
    build(tmp_path / "a").build()
    file = tmp_path / "a" / name
    whole = file.read_bytes()
    file.unlink()
    if message:
        file.symlink_to("/dev/zero")
        with pytest.raises(DataError, match=message):
            build(tmp_path / "a")
        return
    os.mkfifo(file)  # reading it would wait for a writer
    assert damage(tmp_path / "a", read_manifest(tmp_path / "a").files[0]) == "it is a named pipe, not a file"
    file.unlink()
    build(tmp_path / "a").build()
    assert file.read_bytes() == whole
