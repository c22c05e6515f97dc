"""Packed rows beside a TinyRecursiveModels checkout, in one run: training, evaluation, floor, waste, memory.

    OMP_NUM_THREADS=1 python benchmarks/packed_peer.py /path/to/TinyRecursiveModels --precision bf16

The original has its published network (width 512, H3 L4, 16 prefix positions) and every pair on 30 x 30 cells.
gridloom has the same sizes: on one canvas of 30, the original's weights, and with `positions: rope_2d` on packed rows.
The packed rows of a batch are training pairs of ARC-1, or test inputs of its evaluation tasks, in the middle of equal
parts by number of cells, so that their mean is that of the set. All run in turn, so that a busy machine slows all. A
training step is one ACT step with backward pass and without optimiser; an evaluation is one ACT step of each row with
the heads, of which a row makes 16.

With `--left-out SHARE`, the share of ACT steps that a row of an evaluation leaves out at equal pass@2 (rows that halt,
views that need not run, as `gridloom run` reports them), the ratio at equal pass@2 is printed as well.

The floor is the larger of the time of the matrix products at the rate of a large one, and of the bytes that must move
at the rate of a large copy. The original needs the package einops.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from evaluate_peer import clock_of, original
from processor import conditions
from step_floor import copy_rate, product_rate
from train_peer import example, memory, our_step, peer_step

from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.packing.packed_sampler import PackedSampler
from gridloom.runtime.data.arc.packing.row_shapes import ShapeRule
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.tokens import encode_batch
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.models.network import DTYPES
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.cost import TrmCost
from gridloom.runtime.models.recursive.inference import answer
from gridloom.runtime.models.recursive.layers import round_for_good, rounded_once
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.packed.carry import NewRows, begun
from gridloom.runtime.models.recursive.packed.layout import Indices
from gridloom.runtime.models.recursive.packed.step import packed_losses, packed_step
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.data import ArcData

CANVAS = 30


def main() -> None:
    """Print medians, spread, ratios to the original, floors and waste."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("--batch", type=int, default=2, help="rows on canvases of 30")
    parser.add_argument("--rows", type=int, default=16, help="packed rows of a batch")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--left-out", type=float, default=0.0)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, args.checkout)
    generator, device = torch.Generator().manual_seed(0), torch.device(args.device)
    spec = TrmModel(hidden_size=args.width, precision=args.precision)
    plain = build_network(spec, CANVAS, 8, generator=generator).to(device).train()
    packed = build_network(spec.model_copy(update={"positions": "rope_2d"}), CANVAS, 8, generator=generator)
    packed.to(device).train().take_packed()
    tokens, labels, puzzles = (t.to(device) for t in example(args.batch, CANVAS, generator))
    pairs, tests = training_rows(args.rows), test_rows(args.rows)
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "train original": (peer_step(plain, tokens, labels, puzzles, False), args.batch),
        "train canvas": (our_step(plain, tokens, labels, puzzles), args.batch),
        "train packed": (lambda: train_step(packed, pairs), args.rows),
    }
    if args.memory_of in runs:
        meter = MemoryMeter(args.device)
        runs[args.memory_of][0]()
        print((meter.grown() or 0) / 2**20)
        return
    frozen, other = (build_network(net.spec, CANVAS, 8).to(device).eval() for net in (plain, packed))
    other.take_packed()
    runs["answer original"] = (original(frozen, tokens, labels, puzzles, 1, False), args.batch)
    round_for_good(frozen)
    round_for_good(other)
    inputs, ids, shapes = (torch.from_numpy(t) for t in (tests.inputs, tests.puzzle_ids, tests.shapes))
    runs["answer canvas"] = (lambda: answer(frozen, tokens, puzzles, 1), args.batch)
    runs["answer packed"] = (
        lambda: answer(other, inputs.to(device), ids.to(device), 1, shapes=shapes),
        args.rows,
    )
    for run, _ in runs.values():
        run()
    clock = clock_of(device)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, (run, rows) in runs.items():
            began = clock()
            run()
            seconds[name].append((clock() - began) / rows)
    print(conditions())
    print(f"width {args.width}, {args.precision}, {args.device}; seconds a row and ACT step, median and range")
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        ratio = middle[f"{name.split()[0]} original"] / middle[name]
        print(f"{name:16} {middle[name]:8.4f}  ({min(values):.4f} - {max(values):.4f})  {ratio:5.2f}x the original")
    votes = middle["answer original"] / middle["answer packed"]
    if args.left_out:
        print(
            f"at equal pass@2  {votes / (1 - args.left_out):5.2f}x, {args.left_out:.0%} of the ACT steps being left out"
        )
    rates = product_rate(DTYPES[args.precision], device), copy_rate(device)
    print(
        f"machine          {rates[0] / 1e9:,.0f} GFLOP/s in large products, {rates[1] / 1e9:,.1f} GB/s in large copies"
    )
    for name, chosen in (("train packed", pairs), ("answer packed", tests)):
        floor = floor_of(packed.spec, chosen, rates, name.startswith("train")) / len(chosen)
        print(
            f"{name:16} floor {floor:.4f} s a row, reached {middle[name] / floor:.2f} times it; "
            f"{chosen.shapes.prod(axis=1).mean():.0f} cells a row, {waste(chosen):.1%} in no grid and no border"
        )
    for name in ("train original", "train canvas", "train packed"):
        print(f"{name:16} {memory(name):,.0f} MB for {runs[name][1]} rows")


def training_rows(number: int) -> NewRows:
    """Return training pairs of ARC-1, every n-th by number of cells."""
    data = ArcData(subsets=("training", "evaluation"), holdout=("evaluation",), rows="packed")
    sampler = PackedSampler(Dataset.of(read_arc(data, Path()), data), 0)
    batch = sampler.between(0, sampler.epoch_rows)
    assert batch.shapes is not None
    rows = NewRows(batch.inputs, batch.labels, batch.puzzle_ids % 7 + 1, batch.shapes)
    return rows.part(spread(batch.shapes, number))


def test_rows(number: int) -> NewRows:
    """Return test inputs of ARC-1's evaluation tasks, every n-th by number of cells."""
    found = read_arc(ArcData(subsets=("evaluation",), holdout=("evaluation",)), Path())
    grids = [grid for task in found.tasks for grid in task.tests]
    shapes = np.array(
        [ShapeRule.of(task, CANVAS).row((grid.shape[0], grid.shape[1])) for task in found.tasks for grid in task.tests]
    )
    chosen = spread(shapes, number)
    tokens = encode_batch([grids[i] for i in chosen], CANVAS)
    return NewRows(tokens, None, np.arange(number) % 7 + 1, shapes[chosen])


def spread(shapes: Indices, number: int) -> Indices:
    """Return the indices of `number` rows in the middle of equal parts by cells."""
    order = np.argsort(shapes.prod(axis=1), kind="stable")
    chosen: Indices = order[((np.arange(number) + 0.5) / number * len(order)).astype(int)]
    return chosen


def train_step(network: RecursiveNetwork, rows: NewRows) -> None:
    """Run a step as the train stage does, without the optimiser."""
    network.zero_grad(set_to_none=True)
    with rounded_once(network):
        carry, output, packed = packed_step(network, begun(network, rows))
        (packed_losses(network, output, carry, packed).total() / len(rows)).backward()  # type: ignore[no-untyped-call]


def floor_of(spec: TrmModel, rows: NewRows, rates: tuple[float, float], trains: bool) -> float:
    """Return the least seconds of a step of the rows: products, or bytes that must move."""
    costs = [TrmCost(spec, CANVAS, int(cells)) for cells in rows.shapes.prod(axis=1)]
    weights = 4 * costs[0].parameters
    width = DTYPES[spec.precision].itemsize * spec.hidden_size
    if trains:
        flops = sum(cost.train_step(1) for cost in costs)
        moved = 3 * weights + 2 * sum(cost.activation_bytes(1) for cost in costs)
    else:
        flops = sum(cost.act_step(1).forward for cost in costs)
        moved = weights + sum(2 * cost.positions * width * cost.calls * spec.layers for cost in costs)
    return max(flops / rates[0], moved / rates[1])


def waste(rows: NewRows) -> float:
    """Return the share of the cells that are in no grid and no border of input or label."""
    used = 0
    for number, (height, width) in enumerate(rows.shapes):
        tokens = [rows.inputs[number]] + ([] if rows.labels is None else [rows.labels[number]])
        filled = np.any([t.reshape(CANVAS, CANVAS)[:height, :width] != 0 for t in tokens], axis=0)
        used += int(filled.sum())
    return 1 - used / float(rows.shapes.prod(axis=1).sum())


if __name__ == "__main__":
    main()
