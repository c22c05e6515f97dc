"""Measurement of a device's speed, in under a minute."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.runtime.machine.device import device_memory
from gridloom.runtime.machine.speeds import cpu_name, gpu_name, num_threads, save_speeds
from gridloom.runtime.models.language.cost import LlamaCost
from gridloom.runtime.models.language.spec import LlamaModel, Quantize
from gridloom.runtime.models.recursive.cost import TrmCost
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.base import Precision
from gridloom.specs.stages import TrainStage

SIZES = (128, 512, 2048)
PROMPT = 128
"""Tokens of the timed prompt."""
SMALL, CANVAS, ROWS, NUM_STEPS = {"hidden_size": 128, "num_heads": 4, "H_cycles": 2, "L_cycles": 3}, 10, 16, 3
"""Timed network, sized for a CPU; larger networks reach more operations per second, not fewer."""


def measure_speeds(device: str, say: Callable[[str], None]) -> Path:
    """Measure a torch device and save its speeds. Raises StoreError when the cache folder cannot be written."""
    import torch

    kind = torch.device(device).type
    figures: dict[str, float] = {}
    flops: dict[str, float] = {}
    for precision in ("fp32", "bf16"):
        for size in SIZES:
            name = f"matmul {size} {precision}, GFLOP/s"
            figures[name] = _matmul(device, precision, size) / 1e9
            say(f"{name}: {figures[name]:.1f}")
        step_s, count, infer_s = _trm(device, "fp32" if precision == "fp32" else "bf16")
        flops[precision] = count / step_s
        figures[f"TRM train step {precision}, s"] = step_s
        figures[f"TRM ACT step {precision}, s"] = infer_s
        flops[f"{precision} ACT"] = _act_flops() / infer_s
        say(
            f"TRM train step {precision}: {step_s:.3f} s, {flops[precision] / 1e9:.1f} GFLOP/s; "
            f"ACT step in inference {infer_s:.3f} s"
        )
    with warnings.catch_warnings():
        # libraries warn of forms that are slow on this device, which is what is being measured
        warnings.simplefilter("ignore")
        flops.update(_llama(device, say, figures))
    figures["copy, GB/s"] = _bandwidth(device)
    say(f"memory copy: {figures['copy, GB/s']:.1f} GB/s")
    name = (gpu_name() or torch.cuda.get_device_name(device)) if kind == "cuda" else cpu_name()
    memory = device_memory(device)
    say(f"memory: {memory / 1e9:.1f} GB")
    found = DeviceSpeeds(
        device=name,
        memory_bytes=memory,
        flops_per_s=flops,
        measured_at=time.time(),
        torch=version("torch"),
        cores=num_threads(),
        figures=figures,
    )
    return save_speeds(kind, found)


def _timed(work: Callable[[], Any], device: str, times: int) -> float:
    """Return the minimum seconds of `work` after a warm-up run; other load on the machine only adds time."""
    import torch

    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def _matmul(device: str, precision: str, size: int) -> float:
    import torch

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    a = torch.randn(size, size, device=device).to(dtype)
    return float(2 * size**3 / _timed(lambda: a @ a, device, 3))


def _bandwidth(device: str) -> float:
    import torch

    source = torch.zeros(1 << 24, device=device)
    target = torch.empty_like(source)
    return float(2 * source.numel() * 4 / _timed(lambda: target.copy_(source), device, 3) / 1e9)


def _trm(device: str, precision: Precision) -> tuple[float, int, float]:
    """Return seconds and operations of a full training step, and seconds of an ACT step in inference."""
    import numpy as np
    import torch

    from gridloom.runtime.data.sequences.tokens import TokenRows
    from gridloom.runtime.models.recursive.build import build_network
    from gridloom.runtime.training.loop import ActTrainer

    spec = TrmModel.model_validate({**SMALL, "precision": precision})
    model = build_network(spec, CANVAS, 2, generator=torch.Generator().manual_seed(0)).to(device)
    trainer = ActTrainer(model, TrainStage(model="trm", data="arc", batch_size=ROWS), seed=0)
    tokens = np.random.default_rng(0).integers(2, 12, (ROWS, CANVAS**2), dtype=np.uint8)
    ones = np.ones(ROWS, dtype=np.int32)
    batch = TokenRows(tokens, tokens, ones, ones)
    step_s = _timed(lambda: trainer.step(batch), device, NUM_STEPS)
    model.eval()
    inputs = torch.from_numpy(tokens).to(device)
    ids = torch.ones(ROWS, dtype=torch.int64, device=device)
    infer_s = _timed(lambda: trace(model, inputs, ids, steps=1), device, NUM_STEPS)
    return step_s, TrmCost(spec, CANVAS).train_step(ROWS), infer_s


def _act_flops() -> int:
    return TrmCost(TrmModel.model_validate(SMALL), CANVAS).act_step(ROWS).forward


def _llama(device: str, say: Callable[[str], None], figures: dict[str, float]) -> dict[str, float]:
    """Return operations per second of a managed language model, if one is cached, for prompts and for new tokens."""
    from gridloom.runtime.models.language.weights.managed import MANAGED, list_models

    ready = next((status.name for status in list_models() if status.ready), None)
    if ready is None:
        say(
            "no language model is cached: times of prompts will use the TRM's operations per second; "
            "run gridloom models pull NAME, then calibrate again"
        )
        return {}
    import torch

    from gridloom.runtime.models.language.llama import Llama

    cost, rates = LlamaCost(MANAGED[ready].facts), {}
    for precision, quantize in _forms():
        llama = Llama.load(LlamaModel(weights=ready, precision=precision, quantize=quantize), device)
        with torch.no_grad():
            read_s, token_s = _llama_times(llama, device)
        held = "" if quantize == "none" else f" {quantize}"
        rates[f"{precision} prompt{held}"] = cost.read(1, PROMPT).forward / read_s
        rates[f"{precision} token{held}"] = (cost.read_tail(1, 1, PROMPT).forward + cost.head(1)) / token_s
        figures[f"{ready} prompt token {precision}{held}, s"] = read_s / PROMPT
        figures[f"{ready} new token {precision}{held}, s"] = token_s
        say(f"{ready} {precision}{held}: {PROMPT / read_s:.0f} prompt tokens/s, {1 / token_s:.1f} new tokens/s")
    return rates


def _forms() -> Iterator[tuple[Precision, Quantize]]:
    """Yield the precisions to measure a language model in, with 4 bits if the package for it is installed."""
    held: tuple[Quantize, ...] = ("none", "nf4") if find_spec("bitsandbytes") else ("none",)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    yield from ((precision, quantize) for quantize in held for precision in precisions)


def _llama_times(llama: Any, device: str) -> tuple[float, float]:
    """Return seconds per prompt and seconds per new token after it."""
    import torch
    from transformers import DynamicCache

    embeds = torch.randn(1, PROMPT, llama.hidden_size, device=device, dtype=llama.dtype)
    mask = torch.ones(1, PROMPT, dtype=torch.long, device=device)
    read_s = _timed(lambda: llama.forward(embeds, mask), device, 2)
    cache = DynamicCache()
    llama.forward(embeds, mask, cache)
    seen = [PROMPT]

    def write() -> None:
        seen[0] += 1
        states = llama.forward(embeds[:, :1], torch.ones(1, seen[0], dtype=torch.long, device=device), cache)
        llama.head(states[:, -1])

    return read_s, _timed(write, device, 3)
