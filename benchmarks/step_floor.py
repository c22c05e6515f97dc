"""Where a training step's time goes, and how far it is from the machine's floor.

    python benchmarks/step_floor.py trm-arc1-small train
    python benchmarks/step_floor.py trm-arc1-sprint sprint --device cuda --set vars.batch=256

The floor is the larger of two: the step's matrix products over the rate of a large product of the same type, and the
bytes that must move at least (weights, optimiser state and averages once, kept activations twice) over the rate of a
large copy. Both rates are measured here, before the steps. Steps are those of the spec's train stage, at full depth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from gridloom.compiler.cost import TrmCost
from gridloom.runtime.data.arc import read_arc
from gridloom.runtime.data.canvas_sampler import CanvasSampler
from gridloom.runtime.data.dataset import Dataset
from gridloom.runtime.data.sampler import Sampler
from gridloom.runtime.local import compile_local
from gridloom.runtime.models.ids import PuzzleIds
from gridloom.runtime.models.networks import build_network, views_for
from gridloom.runtime.models.recursive import DTYPES
from gridloom.runtime.project import spec_base
from gridloom.runtime.training.loop import ActTrainer
from gridloom.specs.data import ArcData
from gridloom.specs.models import TrmModel
from gridloom.specs.stages import TrainStage


def main() -> None:
    """Print rates, floor, measured step and the operators that take the most time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("stage")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    device = torch.device(args.device)
    spec = compile_local(args.spec, args.overrides).spec
    stage = spec.stages[args.stage]
    assert isinstance(stage, TrainStage), f"{args.stage} is no train stage"
    model, data = spec.models[stage.model], spec.data[stage.data]
    assert isinstance(model, TrmModel), f"{stage.model} is trained from a checkpoint"
    assert isinstance(data, ArcData), f"{stage.data} holds no ARC tasks"
    source = read_arc(data, spec_base(args.spec))
    dataset = Dataset(source.tasks, source.canvas, source.digest, data.augment, source.version, None, data.canvases)
    sampler = CanvasSampler(dataset, 0) if data.canvases else Sampler(dataset, 0)
    ids = PuzzleIds(sampler.views.names)
    network = build_network(model, source.canvas, len(ids), task_of=ids.task_of, views=views_for(model, ids),
                            generator=torch.Generator().manual_seed(0))
    network.take_canvases(dataset.sides)
    trainer = ActTrainer(network.to(device), stage.model_copy(update={"depth": ()}), seed=0)
    flops_s, bytes_s = product_rate(DTYPES[model.precision], device), copy_rate(device)
    shares = sampler.shares if isinstance(sampler, CanvasSampler) else {source.canvas: 1.0}
    costs = {side: TrmCost(model, side) for side in shares}
    flops = sum(share * costs[side].train_step(stage.batch_size) for side, share in shares.items())
    state = 4 * costs[min(costs)].parameters * 6
    moved = state + 2 * sum(share * costs[side].activation_bytes(stage.batch_size) for side, share in shares.items())

    def run(first: int) -> Callable[[], None]:
        def steps() -> None:
            for step in range(first, first + args.steps):
                trainer.step(sampler.batch(step, stage.batch_size))
        return steps

    timed(run(0), device)
    later = [timed(run(part * args.steps), device) for part in (1, 2, 3)]
    seconds = statistics.median(later) / args.steps
    floor = max(flops / flops_s, moved / bytes_s)
    print(f"{args.spec} {args.stage}: batch {stage.batch_size}, canvases {', '.join(map(str, shares))}, "
          f"{model.precision}, {device}, {torch.get_num_threads()} threads")
    print(f"machine    {flops_s / 1e9:,.0f} GFLOP/s in large products, {bytes_s / 1e9:,.1f} GB/s in large copies")
    print(f"step       {flops / 1e9:,.1f} GFLOP, at least {moved / 1e6:,.0f} MB")
    print(f"floor      {floor * 1e3:,.1f} ms ({'products' if flops / flops_s > moved / bytes_s else 'memory'})")
    print(f"measured   {seconds * 1e3:,.1f} ms: {seconds / floor:.2f} times the floor, "
          f"{stage.batch_size / seconds:,.1f} rows/s, {flops / seconds / flops_s:.0%} of the products' rate")
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    with profile(activities=activities) as watched:
        run(4 * args.steps)()
    name = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(watched.key_averages(), key=lambda row: -getattr(row, name))
    total = sum(getattr(row, name) for row in rows)
    for row in rows[:12]:
        print(f"  {getattr(row, name) / total:6.1%}  {row.key[:60]}  x{row.count // args.steps}")


def timed(work: Callable[[], None], device: torch.device) -> float:
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
    return 2 * a.nbytes / min(timed(lambda: b.copy_(a), device) for _ in range(6))  # type: ignore[arg-type, return-value]


if __name__ == "__main__":
    main()
