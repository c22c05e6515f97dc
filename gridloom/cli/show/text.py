"""Figures of a generated text, and verdicts on checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridloom.runtime.checkpoints.verify import Verdict
    from gridloom.runtime.generation.text import Generated, Sampling

ENDS = {"stop": "end of the document", "text": "stop text", "length": "token limit"}


def result_line(result: Generated) -> str:
    """Return a line on tokens, time, ACT steps and cache."""
    count = len(result.tokens)
    rate = f", {count / result.seconds:,.0f} tokens/s" if result.seconds and count else ""
    cache = f", cache {result.cache_bytes / 1e6:.1f} MB" if result.cache_bytes else ""
    return (
        f"{count} tokens in {result.seconds:.1f} s{rate}, {result.act_steps} ACT steps a token{cache}; "
        f"ended at the {ENDS[result.stopped]}"
    )


def result_json(prompt: str, sampling: Sampling, result: Generated) -> dict[str, Any]:
    """Return prompt, sampling and result as JSON values."""
    return {
        "prompt": prompt,
        "text": result.text,
        "tokens": list(result.tokens),
        "stopped": result.stopped,
        "act_steps": result.act_steps,
        "seconds": round(result.seconds, 3),
        "cache_bytes": result.cache_bytes,
        "sampling": asdict(sampling),
    }


def verdict_lines(verdicts: list[Verdict]) -> list[str]:
    """Return a line for each checkpoint, and one with their counts."""
    words = {"ok": "ok", "bad": "BAD", "unrecorded": "no hash"}
    lines = [f"{words[verdict.status]:<8} {verdict.path}: {verdict.detail}" for verdict in verdicts]
    counts = [sum(verdict.status == status for verdict in verdicts) for status in words]
    return [*lines, f"{counts[0]} ok, {counts[1]} bad, {counts[2]} without a recorded hash"]
