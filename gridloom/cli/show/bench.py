"""Measurements of a network as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridloom.wording import printable

if TYPE_CHECKING:
    from gridloom.runtime.model_check.bench import BenchReport


def report_lines(report: BenchReport) -> list[str]:
    """Return the lines of a report."""
    timed = report.latency
    clock = "CPU time" if report.device == "cpu" else "time"
    rows = f"{report.rows} row{'' if report.rows == 1 else 's'} of {report.cells} tokens"
    lines = [
        f"{printable(report.recipe)}: {report.kind}, {report.parameters:,} weights, "
        f"{report.weight_bytes / 1e6:,.1f} MB, {rows}, {report.act_steps:g} ACT steps",
        f"  {report.unit:<10} {clock} in ms: mean {timed.mean:.2f}, min {timed.min:.2f}, p50 {timed.p50:.2f}, "
        f"p95 {timed.p95:.2f}, p99 {timed.p99:.2f}, max {timed.max:.2f} ({timed.count} calls)",
    ]
    if report.prompt_ms is not None:
        lines.append(f"  question   {report.prompt_ms:.2f} ms, read once")
    rate = f"  tokens/s   {report.tokens_per_s:,.0f}"
    if report.tokens_per_s_without_cache is not None:
        size = (report.cache_bytes or 0) / 1e6
        rate += f" with the cache of {size:.2f} MB, {report.tokens_per_s_without_cache:,.0f} without"
    lines.append(rate)
    if report.peak_bytes is not None:
        lines.append(f"  memory     {report.peak_bytes / 1e6:,.1f} MB at the peak, above the weights")
    lines.append(f"  perplexity {report.perplexity:,.2f} of {report.vocabulary} tokens, on {report.perplexity_rows}")
    if report.parts:
        lines.append("  part                     weights    step ms   over     train ms   over     memory MB")
        for cost in report.parts:
            memory = "?" if cost.memory_bytes is None else f"{cost.memory_bytes / 1e6:+,.1f}"
            lines.append(
                f"  {cost.part:<22} {cost.weights:>9,} {cost.step_ms:>10.2f} {cost.step_ratio:>6.2f} "
                f"{cost.train_ms:>12.2f} {cost.train_ratio:>6.2f} {memory:>13}"
            )
        lines.append("  `over`: ratio to the core without the part, with the parts that it needs")
    return lines
