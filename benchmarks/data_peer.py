"""ARC data side by side with TinyRecursiveModels, on one core: a table of medians, spreads and ratios.

    python benchmarks/data_peer.py CHECKOUT [--copies 100] [--repeats 5] [--large 1000] [--skip-build]

CHECKOUT is a TinyRecursiveModels checkout. Its builder and its loader run in processes of their own, with a stand-in
for the option parser where argdantic is not installed. Both sides read training and evaluation of ARC-1 from the
checkout. Seconds are of the process, so that other work on the machine does not count. After timing, the two folders of
COPIES copies are compared file by file, and the checkout's own loader draws a batch from ours.

--large N also builds the folder of N copies with the checkout's builder, once: for 1000 five minutes and six gigabytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from processor import conditions

SUBSETS = ("training", "evaluation")
BATCH = 768


# --- one measurement a process ------------------------------------------------------------------------------------


def import_peer(checkout: Path, name: str) -> Any:
    """Import a module of the checkout, which needs argdantic only for its command line."""
    sys.path.insert(0, str(checkout))
    try:
        importlib.import_module("argdantic")
    except ImportError:
        stand_in: Any = types.ModuleType("argdantic")
        stand_in.ArgParser = type("ArgParser", (), {"command": lambda self, **_: lambda function: function})
        sys.modules["argdantic"] = stand_in
    return importlib.import_module(name)


def build_peer(checkout: Path, out: Path, copies: int) -> dict[str, float]:
    """Run the builder; seconds without its imports."""
    builder = import_peer(checkout, "dataset.build_arc_dataset")
    config = builder.DataProcessConfig(
        input_file_prefix=str(checkout / "kaggle/combined/arc-agi"),
        output_dir=str(out),
        subsets=list(SUBSETS),
        test_set_name="evaluation",
        num_aug=copies,
    )
    began = time.process_time()
    builder.convert_dataset(config)
    return {"s": time.process_time() - began, "disk": size_of(out), "rows": rows_of(out)}


def load_peer(checkout: Path, folder: Path) -> dict[str, Any]:
    """Draw a batch from a folder with the checkout's own loader; seconds without imports."""
    loader = import_peer(checkout, "puzzle_dataset")
    config = loader.PuzzleDatasetConfig(
        seed=0,
        dataset_paths=[str(folder)],
        global_batch_size=BATCH,
        test_set_mode=False,
        epochs_per_iter=1,
        rank=0,
        num_replicas=1,
    )
    began = time.process_time()
    _, batch, rows = next(iter(loader.PuzzleDataset(config, split="train")))
    took = time.process_time() - began
    return {"s": took, "rows": rows, "shapes": {name: list(value.shape) for name, value in batch.items()}}


def export_ours(checkout: Path, out: Path, copies: int) -> dict[str, float]:
    """Write the same folder as the builder; seconds without imports, kernels loaded from their cache included."""
    from gridloom.runtime.interop.arrays.trm_export import export_source

    began = time.process_time()
    export_source(str(checkout / "kaggle/combined"), Path(), out, copies, SUBSETS, "evaluation")
    return {"s": time.process_time() - began, "disk": size_of(out), "rows": rows_of(out)}


def first_batch(copies: int) -> dict[str, float]:
    """Spec to first batch in this fresh process, imports and the published artifact included; then rows a second."""
    began = time.process_time()
    from gridloom.runtime.data.arc.dataset import Dataset, load_dataset, save_dataset
    from gridloom.runtime.data.arc.read import read_arc
    from gridloom.runtime.data.arc.sampler import Sampler
    from gridloom.specs.data import ArcData, Augment

    with tempfile.TemporaryDirectory() as folder:
        spec = ArcData(augment=Augment(copies=copies, translate=True))
        source = read_arc(spec, Path())
        save_dataset(Path(folder), Dataset(source.tasks, 30, source.digest, spec.augment, source.version))
        sampler = Sampler(load_dataset(Path(folder)), seed=0)
        sampler.batch(0, BATCH)
        first_s = time.process_time() - began
        disk = size_of(Path(folder))
    began = time.process_time()
    for step in range(1, 41):
        sampler.batch(step, BATCH)
    return {"s": first_s, "disk": disk, "rows_per_s": 40 * BATCH / (time.process_time() - began)}


def seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def crops(checkout: Path, repeats: int) -> tuple[list[float], list[float]]:
    """Crops per second of 4,096 noisy rows: the evaluator's kernel row by row, and ours in one call."""
    from numba import njit

    source = (checkout / "evaluators/arc.py").read_text()
    start = source.index("def _crop(")
    scope: dict[str, Any] = {"np": np}
    exec(source[start : source.index("\n\nclass ", start)], scope)
    theirs = njit(scope["_crop"])
    from gridloom.runtime.data.arc.tokens import crop_batch

    noise = np.random.default_rng(0)
    tokens = np.full((4096, 30, 30), 1, dtype=np.uint8)
    for number, (h, w) in enumerate(noise.integers(1, 31, (4096, 2))):
        tokens[number, :h, :w] = noise.integers(2, 12, (h, w))
    rows = tokens.reshape(4096, 900)
    for ours, row in zip(crop_batch(rows, 30), rows, strict=True):
        assert ours is not None
        assert np.array_equal(ours, theirs(row)), "the two crops differ"
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(8 * repeats):  # in turns, so that other work on the machine meets both
        for side, function in zip(
            found, (lambda: [theirs(row) for row in rows], lambda: crop_batch(rows, 30)), strict=True
        ):
            side.append(4096 / seconds(function))
    return found


# --- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One measure on both sides; figures in the order they were taken."""

    what: str
    peer: Sequence[float]
    ours: Sequence[float]
    unit: str
    more_is_better: bool = False

    def __str__(self) -> str:
        ratio = ""
        if self.peer and self.ours:
            theirs, mine = statistics.median(self.peer), statistics.median(self.ours)
            ratio = f"{_figure(mine / theirs if self.more_is_better else theirs / mine)}x"
        return f"| {self.what} | {self._told(self.peer)} | {self._told(self.ours)} | {ratio} |"

    def _told(self, figures: Sequence[float]) -> str:
        if not figures:
            return ""
        middle = _figure(statistics.median(figures))
        if len(figures) == 1 or min(figures) == max(figures):
            return f"{middle} {self.unit}".rstrip()
        return f"{middle} {self.unit}".rstrip() + f" ({_figure(min(figures))} to {_figure(max(figures))})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def in_process(way: str, *arguments: object) -> Any:
    """Run one measurement in a fresh process and return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rows_of(folder: Path) -> int:
    return sum(len(np.load(path, mmap_mode="r")) for path in folder.glob("*/all__inputs.npy"))


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def compare_builds(checkout: Path, copies: int, repeats: int, work: Path) -> tuple[list[Line], float]:
    """Build the folder on both sides in turns; then compare the last two. Returns lines and the peer's rows a second.

    Raises AssertionError where a file differs.
    """
    took: dict[str, list[dict[str, float]]] = {"build_peer": [], "export_ours": []}
    for repeat in range(repeats):
        for way, found in took.items():
            found.append(in_process(way, checkout, work / way, copies))
            if repeat < repeats - 1:
                shutil.rmtree(work / way)
    theirs, ours = (digests(work / way) for way in took)
    assert theirs == ours, f"these differ: {sorted(dict(theirs.items() ^ ours.items()))}"
    print(f"{copies} copies: {len(ours)} files, every sha256 equal on both sides")
    loaded = in_process("load_peer", checkout, work / "export_ours")
    print(f"the checkout's loader drew {loaded['rows']} rows from our folder: {loaded['shapes']}")
    for way in took:
        shutil.rmtree(work / way)
    peer, mine = ([found["s"] for found in took[way]] for way in took)
    disk = took["build_peer"][0]["disk"] / 1e6
    rate = took["build_peer"][0]["rows"] / statistics.median(peer)
    return [Line(f"the same folder, {copies} copies, {disk:,.0f} MB", peer, mine, "s")], rate


def compare(checkout: Path, copies: int, repeats: int, large: int, skip_build: bool) -> None:
    """Run everything and print the table."""
    in_process("first_batch", 1)
    many = large or 1000
    first = [in_process("first_batch", many) for _ in range(repeats)]
    lines: list[Line] = []
    waited: list[float] = []
    used: list[float] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if not skip_build:
            lines, rate = compare_builds(checkout, copies, repeats, work)
            rates = [rate]
        if large:
            built = in_process("build_peer", checkout, work / "large", large)
            loaded = in_process("load_peer", checkout, work / "large")
            waited, used = [built["s"] + loaded["s"]], [built["disk"] / 1e6]
            rates.append(built["rows"] / built["s"])
            shutil.rmtree(work / "large")
            ours = in_process("export_ours", checkout, work / "large", large)
            what = f"the same folder, {large} copies, {built['disk'] / 1e6:,.0f} MB, once"
            lines.append(Line(what, [built["s"]], [ours["s"]], "s"))
    peer_crops, our_crops = crops(checkout, repeats)
    lines = [
        Line(f"spec to first batch of {BATCH}, ARC-1 at {many} copies", waited, [f["s"] for f in first], "s"),
        Line("disk that this takes", used, [f["disk"] / 1e6 for f in first], "MB"),
        Line("augmented examples a second", rates[:1], [f["rows_per_s"] for f in first], "", more_is_better=True),
        *lines,
        Line("crops a second", peer_crops, our_crops, "", more_is_better=True),
    ]
    print(f"{machine()}; seconds of the process, median of {repeats} (smallest to largest), of {8 * repeats} for crops")
    print(conditions())
    print("| | TinyRecursiveModels | gridloom | ratio |\n|---|---|---|---|")
    for line in lines:
        print(line)


def machine() -> str:
    """Name the processor."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{os.cpu_count()} cores of {names[0].partition(':')[2].strip() if names else 'an unknown processor'}"


WAYS: dict[str, Callable[..., Any]] = {
    "build_peer": lambda checkout, out, copies: build_peer(Path(checkout), Path(out), int(copies)),
    "load_peer": lambda checkout, folder: load_peer(Path(checkout), Path(folder)),
    "export_ours": lambda checkout, out, copies: export_ours(Path(checkout), Path(out), int(copies)),
    "first_batch": lambda copies: first_batch(int(copies)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", type=int, default=0, metavar="COPIES")
    parser.add_argument("--skip-build", action="store_true")
    parser.add_argument("--one", nargs="+", metavar="WAY", help="run one measurement and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(WAYS[options.one[0]](*options.one[1:])))
    elif options.checkout is None:
        parser.error("name a checkout of TinyRecursiveModels")
    else:
        compare(options.checkout.resolve(), options.copies, options.repeats, options.large, options.skip_build)


if __name__ == "__main__":
    main()
