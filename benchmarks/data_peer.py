"""ARC data side by side with the builder of TinyRecursiveModels, on one core.

    python benchmarks/data_peer.py CHECKOUT [--copies 100] [--repeats 5] [--skip-build]

CHECKOUT is a TinyRecursiveModels checkout; its builder runs in a process of its own, with a stand-in for its option
parser where argdantic is not installed. Prints medians of: building a folder, augmented examples per second, spec to
first batch, disk used, and crops per second. Seconds are of the process, so that other work on the machine does not
count. `--build CHECKOUT OUT COPIES` only runs the builder on training and evaluation of ARC-1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SUBSETS = ("training", "evaluation")


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


def build_peer(checkout: Path, out: Path, copies: int) -> float:
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
    return time.process_time() - began


def first_batch(copies: int) -> dict[str, float]:
    """Spec to first batch in this fresh process, published artifact included."""
    began = time.process_time()
    from gridloom.runtime.data.arc import read_arc
    from gridloom.runtime.data.dataset import Dataset, load_dataset, save_dataset
    from gridloom.runtime.data.sampler import Sampler
    from gridloom.specs.data import ArcData, Augment

    with tempfile.TemporaryDirectory() as folder:
        spec = ArcData(augment=Augment(copies=copies, translate=True))
        source = read_arc(spec, Path())
        save_dataset(Path(folder), Dataset(source.tasks, 30, source.digest, spec.augment, source.version))
        sampler = Sampler(load_dataset(Path(folder)), seed=0)
        sampler.batch(0, 768)
        first_s = time.process_time() - began
        disk = sum(path.stat().st_size for path in Path(folder).iterdir())
    began = time.process_time()
    for step in range(1, 41):
        sampler.batch(step, 768)
    return {"first_s": first_s, "disk": disk, "rows_per_s": 40 * 768 / (time.process_time() - began)}


def export_ours(checkout: Path, out: Path, copies: int) -> float:
    """Write the same folder as the builder, byte for byte; seconds without imports and compilation."""
    from gridloom.runtime.data.trm_folder import export_trm, read_trm_tasks_of, reference_plan

    kaggle = str(checkout / "kaggle/combined")
    began = time.process_time()
    tasks = [(subset, read_trm_tasks_of(kaggle, subset, Path())) for subset in SUBSETS]
    export_trm(out, reference_plan(tasks, "evaluation", copies))
    return time.process_time() - began


def seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def crops(checkout: Path, repeats: int) -> tuple[float, float]:
    """Crops per second of 4,096 noisy rows: the evaluator's kernel row by row, and ours in one call."""
    from numba import njit

    source = (checkout / "evaluators/arc.py").read_text()
    start = source.index("def _crop(")
    scope: dict[str, Any] = {"np": np}
    exec(source[start : source.index("\n\nclass ", start)], scope)
    theirs = njit(scope["_crop"])
    from gridloom.runtime.data.tokens import crop_batch

    noise = np.random.default_rng(0)
    tokens = np.full((4096, 30, 30), 1, dtype=np.uint8)
    for row, (h, w) in enumerate(noise.integers(1, 31, (4096, 2))):
        tokens[row, :h, :w] = noise.integers(2, 12, (h, w))
    rows = tokens.reshape(4096, 900)
    for ours, row in zip(crop_batch(rows, 30), rows, strict=True):
        assert np.array_equal(ours, theirs(row)), "the two crops differ"
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(8 * repeats):  # in turns, so that other work on the machine meets both
        for side, function in zip(
            found, (lambda: [theirs(row) for row in rows], lambda: crop_batch(rows, 30)), strict=True
        ):
            side.append(seconds(function))
    return 4096 / statistics.median(found[0]), 4096 / statistics.median(found[1])


def in_process(*arguments: str) -> Any:
    """Run this script with arguments in a fresh process and return the JSON of its last line."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-build", action="store_true")
    parser.add_argument("--build", nargs=3, metavar=("CHECKOUT", "OUT", "COPIES"))
    parser.add_argument("--export", nargs=3, metavar=("CHECKOUT", "OUT", "COPIES"))
    parser.add_argument("--first", type=int, metavar="COPIES")
    options = parser.parse_args()
    if options.build:
        print(json.dumps(build_peer(Path(options.build[0]), Path(options.build[1]), int(options.build[2]))))
    elif options.export:
        print(json.dumps(export_ours(Path(options.export[0]), Path(options.export[1]), int(options.export[2]))))
    elif options.first is not None:
        print(json.dumps(first_batch(options.first)))
    elif options.checkout is None:
        parser.error("name a checkout of TinyRecursiveModels")
    else:
        compare(options.checkout.resolve(), options.copies, options.repeats, options.skip_build)


def compare(checkout: Path, copies: int, repeats: int, skip_build: bool) -> None:
    """Run everything and print the table."""
    in_process("--first", "1")
    first = [in_process("--first", "1000") for _ in range(repeats)]
    middle = {name: statistics.median(found[name] for found in first) for name in first[0]}
    print(
        f"spec to first batch, 1000 copies   gridloom {middle['first_s']:.2f} s, {middle['disk'] / 1e6:.1f} MB on disk"
    )
    if not skip_build:
        took: dict[str, list[float]] = {"--build": [], "--export": []}
        rows = disk = 0
        for _ in range(repeats):
            for way, found in took.items():
                with tempfile.TemporaryDirectory() as folder:
                    out = Path(folder) / "out"
                    found.append(in_process(way, str(checkout), str(out), str(copies)))
                    rows = sum(len(np.load(path, mmap_mode="r")) for path in out.glob("*/all__inputs.npy"))
                    disk = size_of(out)
                    shutil.rmtree(out)
        theirs, ours = (statistics.median(took[way]) for way in ("--build", "--export"))
        sizes = f"{copies} copies ({disk / 1e6:.0f} MB)"
        print(f"the same folder, {sizes}   peer {theirs:.1f} s, gridloom {ours:.1f} s, {theirs / ours:.1f}x")
        ratio = middle["rows_per_s"] / (rows / theirs)
        print(f"augmented examples/s   peer {rows / theirs:,.0f}, gridloom {middle['rows_per_s']:,.0f}, {ratio:.1f}x")
    theirs, ours = crops(checkout, repeats)
    print(f"crops/s   peer {theirs:,.0f}, gridloom {ours:,.0f}, {ours / theirs:.1f}x")


if __name__ == "__main__":
    main()
