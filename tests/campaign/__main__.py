"""`python -m tests.campaign PROGRAM`: kills, specs, files, ledger, or all of them side by side."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

from .state import ROOT, Limits, State

PROGRAMS = ("kills", "specs", "files", "ledger")
LANES = ((("kills", 0.75), ("ledger", 0.25)), (("specs", 0.75), ("files", 0.25)))
"""Programs that run one after the other, in two lanes side by side, each with its share of the time."""


def main() -> int:
    """Run a program; return 1 where it has findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("program", choices=(*PROGRAMS, "all"))
    parser.add_argument("--minutes", type=float, help="time of this process; of all programs together with `all`")
    parser.add_argument("--cases", type=int, help="end after so many cases")
    parser.add_argument("--case", type=int, help="run this case alone, and keep no state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=ROOT / ".campaign", help="folder of states and findings")
    parser.add_argument("--fresh", action="store_true", help="begin at case 0 again")
    parser.add_argument("--only", action="append", help="for kills: specs; for files: kinds of files")
    arguments = parser.parse_args()
    if arguments.program == "all":
        return _all(arguments)
    state = State.open(arguments.program, arguments.seed, arguments.state, fresh=arguments.fresh)
    known = sum(state.findings.values())
    seconds = None if arguments.minutes is None else arguments.minutes * 60
    limits = Limits(seconds, arguments.cases, arguments.case)
    module = importlib.import_module(f".{arguments.program}", __package__)
    if arguments.only:
        module.run(state, limits, tuple(arguments.only))
    else:
        module.run(state, limits)
    if arguments.case is None:
        state.save()
    print(state.summary(), flush=True)
    return int(sum(state.findings.values()) > known)


def _all(arguments: argparse.Namespace) -> int:
    """Run the lanes side by side; print the summaries at the end."""
    minutes = 60.0 if arguments.minutes is None else arguments.minutes
    worst, running = 0, []
    for lane in LANES:
        commands = []
        for program, share in lane:
            words = [sys.executable, "-m", "tests.campaign", program, "--minutes", str(minutes * share)]
            words += ["--seed", str(arguments.seed), "--state", str(arguments.state)]
            commands.append(" ".join([*words, *(["--fresh"] if arguments.fresh else [])]))
        script = "; ".join(f"{command} || worst=1" for command in commands)
        running.append(subprocess.Popen(["sh", "-c", f"worst=0; {script}; exit $worst"], cwd=ROOT))
    for process in running:
        worst = max(worst, process.wait())
    print()
    for program in PROGRAMS:
        print(State.open(program, arguments.seed, arguments.state).summary())
    return worst


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what is left of imported libraries has nothing to save
