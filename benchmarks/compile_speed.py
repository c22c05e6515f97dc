"""How long compiling takes: in process, from the shell, and for a sweep of 2,000 nodes.

    python benchmarks/compile_speed.py [--repeats 9]

Prints medians of CPU seconds (user and system) and, for commands, of the wall clock. The shell's runs are warm: the
first, which reads the task files and fills the cache of facts, is shown by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from processor import conditions

from gridloom.compiler.text.library import list_recipes
from gridloom.runtime.planning.local import compile_local, plan_local
from gridloom.stores.workspace import Workspace

SWEEP = "gridloom: 1\nextends: from-scratch\nname: swept\nsweep:\n  stages.pretrain.steps: [{values}]\n"


def cpu_s(function: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of this process."""
    took = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        took.append(time.process_time() - began)
    return statistics.median(took)


def shell_s(words: list[str], cache: Path) -> tuple[float, float]:
    """CPU and wall seconds of one command."""
    # byte code is written as for any user, whatever this environment says
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).parent / "gridloom"), *words],
        env={**environment, "GRIDLOOM_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after, wall = os.times(), time.perf_counter() - began
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats: int = parser.parse_args().repeats
    print(conditions())
    print("in process, CPU ms")
    for recipe in list_recipes():
        compile_local(recipe.name)
        print(f"  {recipe.name:<20} {1000 * cpu_s(partial(compile_local, recipe.name), repeats):8.1f}")
    with tempfile.TemporaryDirectory() as folder:
        swept = Path(folder) / "swept.yaml"
        swept.write_text(SWEEP.format(values=", ".join(str(n) for n in range(1, 501))), encoding="utf-8")
        workspace = Workspace(Path(folder) / "gridloom")
        nodes = len(compile_local(str(swept)).graph.nodes)
        planning = cpu_s(lambda: plan_local(str(swept), (), workspace), 3)
        print(f"sweep of {nodes:,} nodes, compile and plan: {planning:.2f} s CPU")
        cache = Path(folder) / "cache"
        cold = shell_s(["compile", "quickstart"], cache)
        print("from the shell, s        CPU    wall")
        print(f"  compile, cold     {cold[0]:8.2f}{cold[1]:8.2f}")
        for words in (["compile", "quickstart"], ["validate", "quickstart"], ["plan", "quickstart"], ["--help"]):
            runs = [shell_s(words, cache) for _ in range(repeats)]
            cpu, wall = (statistics.median(run[part] for run in runs) for part in (0, 1))
            print(f"  {' '.join(words):<18}{cpu:8.2f}{wall:8.2f}")


if __name__ == "__main__":
    main()
