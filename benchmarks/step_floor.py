"""Where the time of a training step and of an evaluation goes, and how far each is from the machine's floor.

    python benchmarks/step_floor.py trm-arc1-small train
    python benchmarks/step_floor.py trm-arc1-sprint sprint --device cuda --set vars.batch=256 \\
        --set stages.sprint.compile=graphs

The floor is the larger of two: the matrix products over the rate of a large product of the same type, and the bytes
that must move at least over the rate of a large copy. In a training step those are weights, optimiser state and
averages once and kept activations twice; in an evaluation, weights and each call's input and output once an ACT step.
Both rates are measured here first. Training steps are those of the spec's train stage, at full depth, compiled where
its `compile` says so; the evaluation answers --rows rows of each canvas, or so many packed rows, with all ACT steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import torch
from processor import conditions
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.packing.packed_sampler import PackedSampler, sampler_of
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sampler import CanvasSampler, Sampler
from gridloom.runtime.models.network import DTYPES
from gridloom.runtime.models.recursive.build import build_network, views_for
from gridloom.runtime.models.recursive.cost import TrmCost
from gridloom.runtime.models.recursive.inference import answer
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.planning.local import compile_local, spec_base
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.material import Material
from gridloom.runtime.training.packed_loop import PackedTrainer
from gridloom.specs.data import ArcData
from gridloom.specs.stages import TrainStage


def main() -> None:
    """Print rates, then floors, measured seconds and the operators that take the most time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("stage")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=10, help="training steps that are timed together")
    parser.add_argument("--rows", type=int, default=256, help="rows of an evaluation, on each canvas")
    args = parser.parse_args()
    device = torch.device(args.device)
    spec = compile_local(args.spec, args.overrides).spec
    stage = spec.stages[args.stage]
    assert isinstance(stage, TrainStage), f"{args.stage} is no train stage"
    model, data = spec.models[stage.model], spec.data[stage.data]
    assert isinstance(model, TrmModel), f"{stage.model} is trained from a checkpoint"
    assert isinstance(data, ArcData), f"{stage.data} holds no ARC tasks"
    source = read_arc(data, spec_base(args.spec))
    dataset = replace(Dataset.of(source, data), curriculum=None)
    sampler = sampler_of(dataset, 0)
    packed = sampler if isinstance(sampler, PackedSampler) else None
    ids = PuzzleIds(sampler.views.names)
    network = build_network(
        model,
        source.canvas,
        len(ids),
        task_of=ids.task_of,
        views=views_for(model, ids),
        generator=torch.Generator().manual_seed(0),
    )
    network.take_canvases(dataset.sides)
    if packed is not None:
        network.take_packed()
    kind = ActTrainer if packed is None else PackedTrainer
    trainer = kind(network.to(device), stage.model_copy(update={"depth": ()}), seed=0)
    trainer.compile([side * side for side in dataset.sides], print)
    flops_s, bytes_s = product_rate(DTYPES[model.precision], device), copy_rate(device)
    shares = shares_of(sampler)
    # of packed rows by cells, else by the side of the canvas
    costs = {size: TrmCost(model, size) if packed is None else TrmCost(model, source.canvas, size) for size in shares}
    rows = stage.batch_size
    material = cast(Material, SimpleNamespace(batch=sampler.batch, packed=packed))
    weights = 4 * costs[min(costs)].parameters

    def train(first: int) -> None:
        for _ in range(first, first + args.steps):
            trainer.step(trainer.draw(material))

    cells = sum(share * costs[size].cells for size, share in shares.items())
    described = f"packed rows of {cells:.0f} cells" if packed else f"canvases {', '.join(map(str, shares))}"
    print(
        f"{args.spec} {args.stage}: {described}, {model.precision}, {device}, "
        f"{torch.get_num_threads()} threads, compile {stage.compile}"
    )
    print(conditions())
    print(f"machine    {flops_s / 1e9:,.0f} GFLOP/s in large products, {bytes_s / 1e9:,.1f} GB/s in large copies")
    report(
        "step",
        rows,
        sum(share * costs[side].train_step(rows) for side, share in shares.items()),
        6 * weights + 2 * sum(share * costs[side].activation_bytes(rows) for side, share in shares.items()),
        train,
        args.steps,
        (flops_s, bytes_s),
        device,
    )
    trainer.finish()
    network.eval()
    batches: list[tuple[Tensor, Tensor, Tensor | None]]
    if packed is None:
        batches = [(*tokens_of(sampler, side, args.rows, device), None) for side in shares]
        counts = dict.fromkeys(shares, args.rows)
    else:
        drawn = packed.between(0, args.rows)
        assert drawn.shapes is not None, "packed rows have shapes"
        given = torch.from_numpy(drawn.inputs).to(device), torch.from_numpy(drawn.puzzle_ids).long().to(device)
        batches = [(*given, torch.from_numpy(drawn.shapes))]
        counts = Counter(drawn.shapes.prod(axis=1).tolist())

    def evaluate(_: int) -> None:
        for inputs, ids, shapes in batches:
            answer(network, inputs, ids, shapes=shapes)

    steps = model.halt_max_steps
    width = DTYPES[model.precision].itemsize * model.hidden_size
    report(
        "evaluation",
        sum(counts.values()),
        sum(steps * costs[size].act_step(count).forward for size, count in counts.items()),
        steps * weights * len(batches)
        + sum(
            steps * 2 * count * costs[size].positions * width * costs[size].calls * model.layers
            for size, count in counts.items()
        ),
        evaluate,
        1,
        (flops_s, bytes_s),
        device,
    )


def shares_of(sampler: Sampler | CanvasSampler) -> dict[int, float]:
    """Return the share of the rows of each number of cells, where they are packed, or on each side of a canvas."""
    if isinstance(sampler, PackedSampler):
        counts = Counter(sampler.shapes.prod(axis=1).tolist())
        return {cells: count / len(sampler.shapes) for cells, count in counts.items()}
    return sampler.shares if isinstance(sampler, CanvasSampler) else {sampler.canvas: 1.0}


def tokens_of(sampler: Sampler | CanvasSampler, side: int, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw rows of one canvas: uint8 [rows, side * side] and their puzzle ids."""
    step = 0
    while (batch := sampler.batch(step, rows)).inputs.shape[1] != side**2:
        step += 1
    return torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.puzzle_ids).long().to(device)


def report(
    name: str,
    rows: int,
    flops: float,
    moved: float,
    work: Callable[[int], None],
    repeats: int,
    rates: tuple[float, float],
    device: torch.device,
) -> None:
    """Time `work`, which is given how often it ran, beside its floor; print the operators that take the most.

    Args:
        rows: of one repeat; `work` makes `repeats` of them.
        rates: operations and bytes a second of the machine.
    """
    timed(lambda: work(0), device)
    later = [timed(partial(work, part * repeats), device) for part in (1, 2, 3)]
    seconds = statistics.median(later) / repeats
    floor = max(flops / rates[0], moved / rates[1])
    print(f"{name:10} {rows} rows, {flops / 1e9:,.1f} GFLOP, at least {moved / 1e6:,.0f} MB")
    print(f"floor      {floor * 1e3:,.1f} ms ({'products' if flops / rates[0] > moved / rates[1] else 'memory'})")
    print(
        f"measured   {seconds * 1e3:,.1f} ms: {seconds / floor:.2f} times the floor, {rows / seconds:,.1f} rows/s, "
        f"{flops / seconds / rates[0]:.0%} of the products' rate"
    )
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    with profile(activities=activities) as watched:
        work(4 * repeats)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    found = sorted(watched.key_averages(), key=lambda row: -getattr(row, key))
    total = sum(getattr(row, key) for row in found)
    for row in found[:10]:
        print(f"  {getattr(row, key) / total:6.1%}  {row.key[:60]}  x{row.count // repeats}")


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return seconds of `work`; on one CPU thread, seconds of this process."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def product_rate(dtype: torch.dtype, device: torch.device, size: int = 0) -> float:
    """Return operations a second of a square product, the best of five."""
    size = size or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: torch.mm(a, b), device) for _ in range(6))


def copy_rate(device: torch.device) -> float:
    """Return bytes a second, read and written, of a copy that no cache holds, the best of five."""
    a = torch.empty(1 << (28 if device.type == "cuda" else 26), device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / min(timed(lambda: b.copy_(a), device) for _ in range(6))


if __name__ == "__main__":
    main()
