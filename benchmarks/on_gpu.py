"""All that waits for a GPU, in one command: the tests marked `gpu`, then the benchmarks, a log of each in a folder.

    python benchmarks/on_gpu.py OUT --peer /path/to/TinyRecursiveModels [--minutes 10] [--only tests floor ...]
    python benchmarks/on_gpu.py OUT --device cpu --small             # does this script itself run

Each part is a process with a time limit, so that one that fails or hangs costs the others nothing. OUT/NAME.log has
what it printed, OUT/summary.json its command, exit code and seconds; a part that ran out of time has exit code 124.
Parts that need the original are left out without --peer, and said to be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
CANVASES = ("7", "11", "16", "21", "25")


@dataclass(frozen=True, slots=True)
class Part:
    """A command and what came of it."""

    name: str
    command: tuple[str, ...]
    limit_s: float
    code: int | None = None
    seconds: float = 0.0


def main() -> None:
    """Run the parts in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peer", type=Path, help="a checkout of TinyRecursiveModels")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=5, help="of training, for each side")
    parser.add_argument("--limit", type=float, default=600, help="seconds a part may take")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in parts(options) if not options.only or part.name in options.only]
    if options.peer is None:
        print("without --peer nothing is measured beside the original")
    done: list[Part] = []
    for part in chosen:
        done.append(run(part, options.out, options.device))
        print(f"{done[-1].name:12} exit {done[-1].code}  {done[-1].seconds:6.1f} s", flush=True)
        (options.out / "summary.json").write_text(json.dumps([asdict(one) for one in done], indent=1))
    raise SystemExit(any(part.code for part in done))


def parts(options: argparse.Namespace) -> list[Part]:
    """What there is to run."""
    device, small = options.device, options.small
    size = ("--width", "64", "--canvas", "6") if small else ("--width", "512")
    sprint: tuple[str, ...] = ("trm-arc1-small", "train") if small else ("trm-arc1-sprint", "sprint")
    loops = ("off",) if small else ("off", "on", "graphs")
    found = [
        *(
            script(
                f"floor_{how}",
                "step_floor",
                *sprint,
                "--device",
                device,
                "--set",
                f"stages.{sprint[1]}.compile={how}",
                limit=options.limit,
            )
            for how in loops
        ),
        script(
            "flight",
            "solve_in_flight",
            "--alone",
            "--device",
            device,
            "--max-side",
            "6",
            "--attempts",
            "1" if small else "3",
            "--new-tokens",
            "4" if small else "64",
            "--tasks",
            "2" if small else "16",
            "--in-flight",
            "1",
            "2" if small else "16",
            limit=options.limit,
        ),
        script("four_bit", "four_bit", "--device", device, "--tasks", "1" if small else "4", limit=options.limit),
        script("joint", "joint_step", "--rounds", "1" if small else "5", limit=options.limit),
        script("joint_8b", "joint_8b", *(("--tiny",) if small else ()), limit=options.limit),
    ]
    # a small set of tests stands for all where the script itself is tried
    tests = ("-k", "meter") if small else ()
    found.insert(0, Part("tests", (sys.executable, "-m", "pytest", "-m", "gpu", "tests", *tests), options.limit))
    if options.peer is None:
        return found
    peer = str(options.peer.resolve())
    batch = ("--batch", "2") if small else ("--batch", "64", "--precision", "bf16", "--compile")
    rows = ("--rows", "2", "--act-steps", "1") if small else ("--rows", "64", "--precision", "bf16", "--compile")
    wide = () if small else ("--canvas", "30")
    found += [
        script("training", "train_peer", peer, *size, *wide, *batch, "--device", device, limit=options.limit),
        script("evaluation", "evaluate_peer", peer, *size, *wide, *rows, "--device", device, limit=options.limit),
    ]
    if not small:
        found += [
            script(
                "training_on_canvases",
                "train_peer",
                peer,
                *batch,
                "--canvases",
                *CANVASES,
                "--device",
                device,
                limit=options.limit,
            ),
            script(
                "evaluation_on_canvases",
                "evaluate_peer",
                peer,
                *rows,
                "--canvases",
                *CANVASES,
                "--device",
                device,
                limit=options.limit,
            ),
            script(
                "minutes",
                "minutes_peer",
                peer,
                "--recipe",
                "trm-arc1-sprint",
                "--max-side",
                "30",
                "--device",
                device,
                "--minutes",
                f"{options.minutes:g}",
                "--views",
                "64",
                "--out",
                str(options.out.resolve() / "minutes-peer"),
                limit=options.limit + 120 * options.minutes,
            ),
        ]
    return found


def script(name: str, file: str, *words: str, limit: float) -> Part:
    """A benchmark of this folder."""
    return Part(name, (sys.executable, str(HERE / f"{file}.py"), *words), limit)


def run(part: Part, out: Path, device: str) -> Part:
    """Run one part from the project's root; its log is written as it comes."""
    began = time.monotonic()
    with (out / f"{part.name}.log").open("w") as log:
        print("$", *shown(part.command), file=log, flush=True)
        try:
            code = subprocess.run(
                part.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=HERE.parent,
                timeout=part.limit_s,
                check=False,
                env={**os.environ, "GRIDLOOM_TEST_DEVICE": device},
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    return Part(part.name, part.command, part.limit_s, code, round(time.monotonic() - began, 1))


def shown(command: Sequence[str]) -> list[str]:
    """The command as a person types it."""
    return ["python" if word == sys.executable else word for word in command]


if __name__ == "__main__":
    main()
