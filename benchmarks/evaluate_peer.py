"""Time evaluation beside a TinyRecursiveModels checkout: same weights, same rows, same votes, same machine.

    python benchmarks/evaluate_peer.py /path/to/TinyRecursiveModels --precision bf16 --act-steps 2 --rows 4
    python benchmarks/evaluate_peer.py /path/to/TinyRecursiveModels --checkpoint FOLDER --puzzles FOLDER --rows 64
    python benchmarks/evaluate_peer.py /path/to/TinyRecursiveModels --precision bf16 --act-steps 1 \
        --canvases 7 11 16 21 25

Without a checkpoint both have the published network (hidden 512, H3 L4, canvas 30) with untrained weights; a row costs
the same whatever it holds, so a few ACT steps tell of sixteen. With one, rows are test puzzles of a puzzle dataset, and
the flags that halt rows are timed too, with what they answer. A row is one vote; where views stop early
(`early_stop`), fewer votes give the same first two grids, which is not counted here.

With `--canvases` the test inputs of the 400 evaluation tasks of ARC-1 lie on canvases of these sides and 30, each timed
and weighted by its share; the original has them all on 30. That is another model (positions rope_2d), not its weights.
A batch on a smaller canvas has as many tokens as one on 30, so more rows.

All run in turn, so that a busy machine slows all. The original goes through its own evaluation loop: loss head and all,
every ACT step. Memory is resident memory beyond what there was before the first run, in a process of its own for each:
weights are left out.
The floor is the time that the matrix products alone would take at the rate of one large fp32 product. The original
needs the package einops.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from processor import conditions
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from train_peer import example, memory

from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles
from gridloom.runtime.data.tasks import fitting_canvas
from gridloom.runtime.interop.trm_config import original_config
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.inference import answer
from gridloom.runtime.models.recursive.layers import round_for_good
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.torch_compile import compile_loop
from gridloom.runtime.models.steps import Halting
from gridloom.specs.data import ArcData

Run = Callable[[], Tensor]
FLAGS = {
    "halt: score": Halting("score", 1),
    "halt: score, patience: 2": Halting("score", 2),
    "halt: unchanged": Halting("unchanged", 1),
    "halt: unchanged, patience: 2": Halting("unchanged", 2),
}


def main() -> None:
    """Print medians, spread, ratios, memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("--checkpoint", type=Path, help="a bundle, for both sides")
    parser.add_argument("--puzzles", type=Path, help="a puzzle dataset's folder, with --checkpoint")
    parser.add_argument("--canvas", type=int, default=30)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rows", type=int, default=4, help="a batch; one batch is timed")
    parser.add_argument("--act-steps", type=int, help="default: the network's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--canvases", type=int, nargs="*", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile for both")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.canvases:
        args.canvas = 30
    sys.path.insert(0, args.checkout)
    generator = torch.Generator().manual_seed(0)
    if args.checkpoint is not None:
        ours = cast(RecursiveNetwork, load_bundle(args.checkpoint).network)
        arrays = load_puzzles(args.puzzles).splits["test"]
        tokens, labels = (
            torch.from_numpy(np.array(t[: args.rows], dtype=np.uint8)) for t in (arrays.inputs, arrays.labels)
        )
        ids = torch.zeros(len(tokens), dtype=torch.int64)
    else:
        spec = TrmModel(hidden_size=args.width, precision=args.precision)
        ours = build_network(spec, args.canvas, 8, generator=generator).eval()
        tokens, labels, ids = example(args.rows, args.canvas, generator)
    ours, (tokens, labels, ids) = ours.to(args.device), (t.to(args.device) for t in (tokens, labels, ids))
    steps = args.act_steps or ours.spec.halt_max_steps
    runs: dict[str, Run] = {
        # before the weights are rounded: it rounds them itself
        "original": original(ours, tokens, labels, ids, steps, args.compile),
        "gridloom": lambda: answer(ours, tokens, ids, steps).tokens,
    }
    round_for_good(ours)
    if args.compile:
        compile_loop(ours, "on", [tokens.shape[1]], len(tokens), print)
    shares = side_shares(args.canvases)
    for side in shares:
        if args.memory_of not in (None, f"on {side}"):
            continue
        runs[f"on {side}"] = on_canvas(ours, side, args.rows, steps, generator, args.compile)
    made = {name: float(steps) for name in runs}
    if args.checkpoint is not None:
        for name, halting in FLAGS.items():
            runs[name] = partial(halted, ours, tokens, ids, steps, halting)
            made[name] = answer(ours, tokens, ids, steps, halting).steps.float().mean().item()
    if args.memory_of:
        meter = MemoryMeter(args.device)
        runs[args.memory_of]()
        print((meter.grown() or 0) / 2**20)
        return
    print(conditions())
    print(
        f"canvas {ours.canvas}, width {ours.spec.hidden_size}, {ours.spec.precision}, {len(tokens)} rows, {steps} "
        f"ACT steps, {args.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    seconds = report(runs, made, labels, args.repeats)
    if shares:
        print_mean(ours, shares, seconds, args.rows)
    print_floor(ours, tokens, ids, steps)


def halted(ours: RecursiveNetwork, tokens: Tensor, ids: Tensor, steps: int, halting: Halting) -> Tensor:
    """Answers of rows that may halt."""
    return answer(ours, tokens, ids, steps, halting).tokens


def side_shares(canvases: list[int]) -> dict[int, float]:
    """Share of the test inputs of ARC-1's evaluation tasks on each canvas, the smallest that holds the task."""
    if not canvases:
        return {}
    found = read_arc(ArcData(subsets=("evaluation",), holdout=("evaluation",)), Path())
    sides = [*sorted(canvases), 30]
    counts = dict.fromkeys(sides, 0)
    for task in found.tasks:
        counts[fitting_canvas(task, sides)] += len(task.tests)
    return {side: count / sum(counts.values()) for side, count in counts.items() if count}


def num_rows(ours: RecursiveNetwork, side: int, rows: int) -> int:
    """Rows on a canvas with as many tokens as `rows` on the network's own."""
    return rows * (ours.prefix_len + ours.canvas**2) // (ours.prefix_len + side**2)


def on_canvas(
    ours: RecursiveNetwork, side: int, rows: int, steps: int, generator: torch.Generator, compiled: bool
) -> Run:
    """Rows that fill a canvas of their own, answered by a network of the same size."""
    network = build_network(ours.spec.model_copy(update={"positions": "rope_2d"}), side, 8, generator=generator).eval()
    network = network.to(ours.device)
    round_for_good(network)
    tokens, _, ids = (t.to(ours.device) for t in example(num_rows(ours, side, rows), side, generator, filled=1.0))
    if compiled:
        compile_loop(network, "on", [tokens.shape[1]], len(tokens), print)
    return lambda: answer(network, tokens, ids, steps).tokens


def report(runs: dict[str, Run], made: dict[str, float], labels: Tensor, repeats: int) -> dict[str, list[float]]:
    """Run all in turn, print a line for each, and return their seconds."""
    clock = clock_of(labels.device)
    answers = {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):  # the first is the warm-up
        for name, run in runs.items():
            started = clock()
            answers[name] = run()
            if turn:
                seconds[name].append(clock() - started)
    scored = labels != 0
    first = statistics.median(seconds["original"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        rows = len(answers[name])
        line = (
            f"{name:29} median {middle:8.3f} s ({min(values):.3f} - {max(values):.3f})  "
            f"{rows / middle:8.3f} rows/s  {first / len(labels) / middle * rows:5.2f}x  {memory(name):6.1f} MB"
        )
        if answers[name].shape == labels.shape:
            exact = ((answers[name] == labels) | ~scored).all(dim=1).float().mean().item()
            same = (answers[name] == answers["original"]).float().mean().item()
            line += f"  {made[name]:5.2f} steps  exact {exact:.1%}  tokens as the original's {same:.2%}"
        print(line, flush=True)
    return seconds


def clock_of(device: torch.device) -> Callable[[], float]:
    """On one CPU thread, seconds of this process: other programs on the machine do not count. A GPU is waited for."""
    if device.type == "cuda":
        return waited
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def waited() -> float:
    """Return the clock when the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def print_mean(ours: RecursiveNetwork, shares: dict[int, float], seconds: dict[str, list[float]], rows: int) -> None:
    """Print what a row costs on the canvases, by their shares."""

    def mean(pick: Callable[[list[float]], float]) -> float:
        return sum(share * pick(seconds[f"on {side}"]) / num_rows(ours, side, rows) for side, share in shares.items())

    middle, original = mean(statistics.median), statistics.median(seconds["original"]) / rows
    listed = ", ".join(f"{side}: {share:.0%}" for side, share in shares.items())
    print(
        f"{'canvases':29} mean   {middle:8.3f} s a row ({mean(min):.3f} - {mean(max):.3f})  "
        f"{1 / middle:8.3f} rows/s  {original / middle:5.2f}x; shares {listed}"
    )


@torch.no_grad()
def print_floor(ours: RecursiveNetwork, tokens: Tensor, ids: Tensor, steps: int) -> None:
    """Print the time that the matrix products alone need."""
    with FlopCounterMode(display=False) as counter:
        answer(ours, tokens[:1], ids[:1], 1)
    flops = counter.get_total_flops() * steps * len(tokens)
    # a CPU without bf16 instructions multiplies in fp32
    dtype = ours.dtype if tokens.is_cuda else torch.float32
    size, clock = (8192, waited) if tokens.is_cuda else (2048, time.process_time)
    a, b = torch.randn(2, size, size, device=tokens.device, dtype=dtype)
    timed = []
    for _ in range(5):
        started = clock()
        torch.mm(a, b)
        timed.append(clock() - started)
    rate = 2 * size**3 / min(timed)
    print(f"floor: {flops / 1e9:,.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s of {dtype} are {flops / rate:.3f} s")


def original(ours: RecursiveNetwork, tokens: Tensor, labels: Tensor, ids: Tensor, steps: int, compiled: bool) -> Run:
    """The original's evaluation loop with our weights."""
    losses: Any = importlib.import_module("models.losses")
    networks: Any = importlib.import_module("models.recursive_reasoning.trm")

    arch = {key: value for key, value in original_config(ours).items() if key not in ("name", "loss")}
    peer = networks.TinyRecursiveReasoningModel_ACTV1(
        {
            **arch,
            "halt_max_steps": steps,
            "batch_size": len(tokens),
            "seq_len": tokens.shape[1],
            "num_puzzle_identifiers": len(ours.puzzle_emb.weights),
            "vocab_size": ours.vocabulary,
        }
    )
    state = {name: t for name, t in ours.state_dict().items() if not name.startswith("puzzle_emb.task")}
    peer.inner.load_state_dict(state, strict=True)
    head = losses.ACTLossHead(peer, "stablemax_cross_entropy").to(ours.device).eval()
    run_step = torch.compile(head) if compiled else head  # as its pretrain.py does
    batch = {
        "inputs": tokens.int(),
        "labels": torch.where(labels == 0, -100, labels.int()),
        "puzzle_identifiers": ids.int(),
    }

    @torch.inference_mode()
    def run() -> Tensor:
        with torch.device(ours.device):
            carry = head.initial_carry(batch)
        while True:
            carry, _, _, found, finished = run_step(return_keys={"preds", "q_halt_logits"}, carry=carry, batch=batch)
            if finished:
                grids: Tensor = found["preds"].to(torch.uint8).clone()
                return grids

    return run


if __name__ == "__main__":
    main()
