"""Time a training step (forward, loss, backward) beside a TinyRecursiveModels checkout: same weights, same data.

    python benchmarks/train_peer.py /path/to/TinyRecursiveModels --canvas 30 --batch 4 --width 512 --repeats 5
    python benchmarks/train_peer.py /path/to/TinyRecursiveModels --batch 2 --precision bf16 --canvases 7 11 16 21 25

With `--canvases` the tasks of ARC-1 lie on canvases of these sides and 30, each timed and weighted by its share of the
training pairs; the original has them all on 30. That is another model (positions rope_2d), not the original's weights.

Both run in turn, so that a busy machine slows both. The optimiser is left out: the original's needs CUDA to install.
The original also needs the package einops. Figures are of one ACT step of all rows, after one warm-up of each.
Memory is what the first step of each takes beyond weights and data, gradients included, in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from processor import conditions

from gridloom.runtime.interop.trm_config import original_config
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.recursive.losses import row_losses
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.torch_compile import compile_loop
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import ArcData

Step = Callable[[], float]


def main() -> None:
    """Print medians, spread and ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("--canvas", type=int, default=14)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile for both")
    parser.add_argument("--canvases", type=int, nargs="*", default=[])
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.canvases:
        args.canvas = 30
    sys.path.insert(0, args.checkout)
    spec = TrmModel(hidden_size=args.width, precision=args.precision)
    generator = torch.Generator().manual_seed(0)
    ours = build_network(spec, args.canvas, 8, generator=generator).to(args.device).train()
    tokens, labels, ids = example(args.batch, args.canvas, generator)
    given = (tokens.to(args.device), labels.to(args.device), ids.to(args.device))
    steps: dict[str, Step] = {"gridloom": our_step(ours, *given), "original": peer_step(ours, *given, args.compile)}
    if args.compile:
        compile_loop(ours, "on", [tokens.shape[1]], args.batch, print)
    shares = side_shares(args.canvases)
    for side in shares:
        square = build_network(spec.model_copy(update={"positions": "rope_2d"}), side, 8, generator=generator)
        rows = example(args.batch, side, generator, filled=1.0)
        steps[f"on {side}"] = our_step(square.to(args.device).train(), *(t.to(args.device) for t in rows))
        if args.compile:
            compile_loop(square, "on", [side * side], args.batch, print)
    if args.memory_of:
        meter = MemoryMeter(args.device)
        steps[args.memory_of]()
        print((meter.grown() or 0) / 2**20)
        return
    losses = {name: step() for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    # On one CPU thread, seconds of this process: other programs on the machine do not count.
    clock = time.process_time if args.device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(args.repeats):
        for name, step in steps.items():
            started = clock()
            step()
            seconds[name].append(clock() - started)
    print(conditions())
    print(
        f"canvas {args.canvas}, batch {args.batch}, width {args.width}, {args.precision}, {args.device}, "
        f"{'compiled, ' if args.compile else ''}{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(
            f"{name:10} {memory(name):6.0f} MB  median {middle:.3f} s  ({min(values):.3f} - {max(values):.3f})  "
            f"{args.batch / middle:.2f} rows/s  first loss {losses[name]:.5f}"
        )
    ratio = statistics.median(seconds["original"]) / statistics.median(seconds["gridloom"])
    print(f"gridloom is {ratio:.2f} times as fast")
    if shares:
        mean = sum(share * statistics.median(seconds[f"on {side}"]) for side, share in shares.items())
        spread = [sum(share * pick(seconds[f"on {side}"]) for side, share in shares.items()) for pick in (min, max)]
        original = statistics.median(seconds["original"])
        print(
            f"canvases   mean {mean:.3f} s  ({spread[0]:.3f} - {spread[1]:.3f})  {args.batch / mean:.2f} rows/s: "
            f"{original / mean:.2f} times as fast as the original; shares "
            + ", ".join(f"{side}: {share:.0%}" for side, share in shares.items())
        )


def memory(name: str) -> float:
    """MiB that the first run of one of the sides takes, in a process of its own."""
    told = subprocess.run([sys.executable, *sys.argv, "--memory-of", name], check=True, capture_output=True, text=True)
    return float(told.stdout.splitlines()[-1])


def side_shares(canvases: list[int]) -> dict[int, float]:
    """Share of ARC-1's training pairs on each canvas."""
    if not canvases:
        return {}
    data = ArcData(subsets=("training", "evaluation"), holdout=("evaluation",), canvases=tuple(canvases))
    return dict(LocalFacts().data(data, ".").side_shares)


def example(
    batch: int, canvas: int, generator: torch.Generator, filled: float = 0.17
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows whose grids fill 17% of the canvas, as ARC-1 pairs do on average; a border stays free."""
    side = min(canvas - 1, max(1, round(canvas * filled**0.5)))
    tokens = torch.zeros(2, batch, canvas, canvas, dtype=torch.uint8)
    tokens[:, :, :side, :side] = torch.randint(2, 12, (2, batch, side, side), generator=generator, dtype=torch.uint8)
    tokens[:, :, side, :side] = tokens[:, :, :side, side] = 1
    return tokens[0].flatten(1), tokens[1].flatten(1), torch.arange(batch) % 7 + 1


def our_step(model: RecursiveNetwork, tokens: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor) -> Step:
    """One step of ours."""

    def step() -> float:
        model.zero_grad(set_to_none=True)
        with rounded_once(model):  # as the train stage does
            carry, output = model.act_step(model.initial_carry(len(tokens)), tokens, ids, labels=labels, heads=False)
            loss = row_losses(model, output, carry.labels).total() / len(tokens)
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    return step


def peer_step(
    ours: RecursiveNetwork, tokens: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor, compiled: bool
) -> Step:
    """One step of the original with our weights."""
    losses: Any = importlib.import_module("models.losses")
    networks: Any = importlib.import_module("models.recursive_reasoning.trm")

    arch = {key: value for key, value in original_config(ours).items() if key not in ("name", "loss")}
    peer = networks.TinyRecursiveReasoningModel_ACTV1(
        {**arch, "batch_size": len(tokens), "seq_len": tokens.shape[1], "num_puzzle_identifiers": 8, "vocab_size": 12}
    )
    peer.inner.load_state_dict(ours.state_dict(), strict=True)
    head = losses.ACTLossHead(peer, "stablemax_cross_entropy").to(tokens.device).train()
    run_head = torch.compile(head) if compiled else head  # as its pretrain.py does
    scored = torch.where(labels == 0, -100, labels.int())
    batch = {"inputs": tokens.int(), "labels": scored, "puzzle_identifiers": ids.int()}

    def step() -> float:
        head.zero_grad(set_to_none=True)
        with torch.device(tokens.device):
            carry = head.initial_carry(batch)
        _, loss, _, _, _ = run_head(return_keys=[], carry=carry, batch=batch)
        (loss / len(tokens)).backward()
        return float(loss.detach()) / len(tokens)

    return step


if __name__ == "__main__":
    main()
