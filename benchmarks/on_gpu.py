"""All that waits for a GPU, in one command of at most 12 minutes: tests, profile, the original beside it, a training.

    python benchmarks/on_gpu.py OUT --peer /path/to/TinyRecursiveModels
    python benchmarks/on_gpu.py OUT --device cpu --small            # rehearsal: does every part run
    python benchmarks/on_gpu.py --packages                          # what this machine lacks, as arguments of pip

Parts run in turn, each a process with a budget of its own, so that one that fails or hangs costs the others nothing:

    tests       the tests marked `gpu`
    floor_*     step_floor.py on trm-arc1-sprint: floor and measured, share of the peak; compiled, and as CUDA graphs
    training    train_peer.py on canvases, compiled, beside TinyRecursiveModels' own code
    evaluation  evaluate_peer.py, the same
    sprint      trm-arc1-sprint for the time that is left: training, evaluation, weights with their card

OUT gets at most eight files, written as the parts run: summary.json (command, exit status and seconds of each part),
log.txt (all that they printed) and card/ (the published checkpoint). A part that ran out of time has exit status 124.
Without --peer the comparisons are left out. --more adds, before the sprint, the benchmarks of the language model.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPE, STAGE = "trm-arc1-sprint", "sprint"
CANVASES = ("7", "11", "16", "21", "25")
SPRINT_S = 360.0
"""Least time of the sprint in seconds; the other parts share what `--minutes` leaves before it."""
AFTER_TRAINING_S = 100.0
"""Share of the sprint for data, compilation, evaluation and the card, in seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command, its budget in seconds, and its outcome."""

    name: str
    command: tuple[str, ...]
    budget_s: float
    code: int | None = None
    seconds: float = 0.0


def main() -> None:
    """Run the parts; exit 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--peer", type=Path, help="a checkout of TinyRecursiveModels")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=12, help="for everything")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--more", action="store_true", help="language-model benchmarks too; give them --minutes")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--packages", action="store_true", help="print the requirements that this machine lacks")
    options = parser.parse_args()
    if options.packages:
        print("\n".join(lacking()))
        return
    if options.out is None:
        parser.error("OUT is missing")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.peer is None:
        print("without --peer nothing is measured beside the original")
    # everything but results lies here; the compiler's cache is shared, so that the sprint does not compile anew
    with tempfile.TemporaryDirectory(prefix="gridloom-gpu-") as work:
        raise SystemExit(any(part.code for part in run_all(options, Path(work))))


def run_all(options: argparse.Namespace, work: Path) -> list[Part]:
    """Run the chosen parts within the budget; the summary is written after each."""
    ends = time.monotonic() + 60 * options.minutes
    done: list[Part] = []

    def record(part: Part) -> None:
        done.append(part)
        print(f"{part.name:12} exit {part.code}  {part.seconds:6.1f} s", flush=True)
        (options.out / "summary.json").write_text(json.dumps([asdict(one) for one in done], indent=1), "utf-8")

    for part in parts(options):
        if chosen(part.name, options):
            left = ends - time.monotonic() - (SPRINT_S if chosen("sprint", options) and not options.small else 0)
            budget_s = left if options.small else min(part.budget_s, left)
            record(run(part, budget_s, options.out, options.device, work))
    if chosen("sprint", options):
        for make in sprint(options, work):
            part = make(ends - time.monotonic())
            record(run(part, part.budget_s, options.out, options.device, work))
            if part.name == "sprint" and done[-1].code:
                break
    return done


def chosen(name: str, options: argparse.Namespace) -> bool:
    """Return whether a part is to run."""
    return not options.only or name in options.only


def parts(options: argparse.Namespace) -> list[Part]:
    """Return all parts before the sprint, with their budgets."""
    device, small = options.device, options.small
    # the files are named, since collecting the others takes as long as these tests do
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if is_of_gpu(path))
    # a small set of tests stands for all where the script itself is tried
    tests = (*files, "-k", "meter") if small else tuple(files)
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", *tests)
    stage = ("trm-arc1-small", "train") if small else (RECIPE, STAGE)
    found = [Part("tests", pytest, 120)]
    for how in ("off",) if small else ("on", "graphs"):
        words = (*stage, "--device", device, "--set", f"stages.{stage[1]}.compile={how}")
        found.append(script(f"floor_{how}", "step_floor", *words, budget_s=50))
    if options.peer is not None:
        found += beside_the_original(str(options.peer.resolve()), device, small)
    return found + (language(device, small) if options.more else [])


def is_of_gpu(path: Path) -> bool:
    """Return whether a test file has tests marked `gpu`."""
    return "pytest.mark.gpu" in path.read_text("utf-8")


def beside_the_original(peer: str, device: str, small: bool) -> list[Part]:
    """Return the comparisons with TinyRecursiveModels, at the published width."""
    size = ("--width", "64", "--canvas", "6") if small else ("--width", "512", "--canvas", "30")
    how = () if small else ("--precision", "bf16", "--compile", "--canvases", *CANVASES)
    batch = ("--batch", "2") if small else ("--batch", "64")
    rows = ("--rows", "2", "--act-steps", "1") if small else ("--rows", "64")
    return [
        script("training", "train_peer", peer, *size, *batch, *how, "--device", device, budget_s=70),
        script("evaluation", "evaluate_peer", peer, *size, *rows, *how, "--device", device, budget_s=60),
    ]


def language(device: str, small: bool) -> list[Part]:
    """Return the benchmarks of the language model."""
    flight = ("--attempts", "1" if small else "3", "--new-tokens", "4" if small else "64")
    tasks = ("--tasks", "2" if small else "16", "--in-flight", "1", "2" if small else "16")
    alone = ("--alone", "--device", device, "--max-side", "6")
    return [
        script("flight", "solve_in_flight", *alone, *flight, *tasks, budget_s=600),
        script("four_bit", "four_bit", "--device", device, "--tasks", "1" if small else "4", budget_s=600),
        script("joint", "joint_step", "--rounds", "1" if small else "5", budget_s=600),
        script("joint_8b", "joint_8b", *(("--tiny",) if small else ()), budget_s=600),
    ]


def sprint(options: argparse.Namespace, work: Path) -> list[Callable[[float], Part]]:
    """Return training with evaluation, then the card: each made when the seconds that are left for it are known."""
    recipe, stage = ("trm-arc1-small", "train") if options.small else (RECIPE, STAGE)
    home, gridloom = ("--home", str(work / "workspace")), (sys.executable, "-m", "gridloom")

    def train(left: float) -> Part:
        changes: tuple[str, ...]
        if options.small:
            changes = ("vars.steps=4", "vars.copies=3", "stages.evaluate.views=2")
        else:
            changes = (f"vars.budget={max(left - AFTER_TRAINING_S, 30):.0f}s",)
            if left < SPRINT_S:
                print(f"the sprint has {left:.0f} s, less than the {SPRINT_S:.0f} s that it should have", flush=True)
        sets = [word for change in changes for word in ("--set", change)]
        command = (*gridloom, "run", recipe, *home, "--device", options.device, *sets)
        return Part("sprint", command, left - 10)

    def publish(left: float) -> Part:
        shutil.rmtree(options.out / "card", ignore_errors=True)
        return Part("card", (*gridloom, "models", "publish", stage, str(options.out / "card"), *home), max(left, 30))

    return [train, publish]


def script(name: str, file: str, *words: str, budget_s: float) -> Part:
    """Return a part that runs a benchmark of this folder."""
    return Part(name, (sys.executable, str(HERE / f"{file}.py"), *words), budget_s)


def run(part: Part, budget_s: float, out: Path, device: str, work: Path) -> Part:
    """Run one part from the project's root; the log is written as it comes, and a part out of time is killed whole."""
    began = time.monotonic()
    environment = {
        **os.environ,
        "GRIDLOOM_TEST_DEVICE": device,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TRITON_CACHE_DIR": str(work / "triton"),
    }
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        print(f"\n=== {part.name}, {budget_s:.0f} s\n$", *shown(part.command), file=log, flush=True)
        if budget_s <= 0:
            print("no time is left for it", file=log)
            return Part(part.name, part.command, budget_s, 124)
        with subprocess.Popen(
            part.command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
        ) as process:
            try:
                code = process.wait(budget_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = 124
    return Part(part.name, part.command, round(budget_s, 1), code, round(time.monotonic() - began, 1))


def shown(command: Sequence[str]) -> list[str]:
    """Return the command as a person types it."""
    return ["python" if word == sys.executable else word for word in command]


def lacking() -> list[str]:
    """Return what gridloom and its GPU tests require and this machine lacks, `name==version` as pinned, without torch.

    Reads pyproject.toml and constraints.txt alone, so it runs where only Python is. A requirement that is here is
    taken with all that it requires in turn; one that is not brings its own requirements in by pip.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split() if "==" in line)
    by_name = {plain(name): f"{name}=={version}" for name, version in pinned.items()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["quant"]]
    wanted += ["peft", "pytest", "pytest-asyncio", "hypothesis"]
    found = []
    for requirement in wanted:
        name = re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]
        if plain(name) != "torch" and not is_here(name):
            found.append(by_name.get(plain(name), requirement))
    return sorted(found, key=str.lower)


def plain(name: str) -> str:
    """Return the normalised name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_here(name: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
