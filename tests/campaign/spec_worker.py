"""Worker of the mutated specs: compiles the cases of a block in a forked process under a watchdog and a memory limit.

    python -m tests.campaign.spec_worker SEED SCRATCH

reads lines of case numbers and answers a JSON line for each, then `{}`. A case that hangs or ends its process is
reported, and the block goes on in a new process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import hashlib
import json
import os
import re
import resource
import sys
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

from . import mutate, places
from .state import case_random, group_of

PROGRAM = "specs"
HANG_S = 5.0
"""Processor time of one compilation that counts as a hang, s."""
WALL_S = 60.0
"""Time after which a compilation is ended, s: longer than `HANG_S`, since a machine may be busy."""
BLOCKED_S = 0.1
"""Processor time up to which a compilation that was ended had waited for something, s."""
SMALLER_S = 15.0
"""Time to make the input of a fault smaller, s."""
MAX_BYTES = 1_500_000_000
"""Memory that a compilation may map, bytes."""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that must not reach a terminal raw."""


def prepare(folder: Path) -> None:
    """Write what mutated specs name: tasks, a base spec, a FIFO, a link out, a folder."""
    places.write_project(folder, ("puzzles", "arc"))
    (folder / "base.yaml").write_text(mutate.bases()[0], encoding="utf-8")
    (folder / "folder").mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(folder / "fifo")
    with contextlib.suppress(FileExistsError):
        (folder / "link").symlink_to("/etc/passwd")


def verdict(case: mutate.Case) -> dict[str, Any]:
    """Compile `spec.yaml` in the current folder. Returns the digest of all that came out, or the fault."""
    from compiler_support import FACTS

    from gridloom.compiler.compile import compile_spec
    from gridloom.compiler.render import render, to_json
    from gridloom.errors import GridloomError, SpecError
    from gridloom.runtime.planning.facts import LocalFacts

    spec = Path("spec.yaml")
    spec.write_bytes(case.text)
    began = time.process_time()
    compiled = False
    try:
        facts: Any = LocalFacts() if case.local else FACTS
        try:
            made = compile_spec("spec.yaml", case.overrides, facts=facts)
        except SpecError as error:
            shown = render(error.diagnostics)
            text = shown + json.dumps(to_json(error.diagnostics))
            if not shown.strip():
                return {"fault": "a SpecError without a message", "detail": ""}
        except GridloomError as error:
            shown = text = str(error)
        else:
            compiled = True
            shown = render(made.warnings)
            text = shown + made.graph.to_json() + " ".join(node.key for node in made.graph.nodes)
    except BaseException as error:
        detail = "".join(traceback.format_exception(error, limit=-30))
        return {"fault": f"a traceback: {group_of(detail)}", "detail": detail[-6000:]}
    spent = time.process_time() - began
    if spent > HANG_S:
        return {"fault": f"a hang: {spent:.0f} s", "detail": shown[:3000]}
    if found := CONTROLS.search(shown):
        return {"fault": "a control character in a message", "detail": f"{found[0]!r} in {shown[:2000]!r}"}
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return {"compiled": compiled, "digest": digest}


def compile_cases(cases: list[tuple[int, mutate.Case]], out: int) -> None:
    """Compile in this process; a line `begin` before every case and its verdict after it go to `out`."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MAX_BYTES, mapped + MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for number, case in cases:
        os.write(out, f"begin {number} {time.process_time()}\n".encode())
        faulthandler.dump_traceback_later(WALL_S, exit=True)
        found = verdict(case)
        faulthandler.cancel_dump_traceback_later()
        os.write(out, json.dumps({"case": number, **found}).encode() + b"\n")


def supervise(cases: list[tuple[int, mutate.Case]]) -> list[dict[str, Any]]:
    """Compile the cases in forked processes; a case that ends its process is reported with what it left."""
    results: list[dict[str, Any]] = []
    tries = 0
    while cases:
        reading, writing = os.pipe()
        stderr = Path("stderr.txt")
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                log = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 2)
                compile_cases(cases, writing)
            finally:
                os._exit(0)
        os.close(writing)
        current, began = None, 0.0
        with os.fdopen(reading, "r", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("begin "):
                    _, number, at = line.split()
                    current, began = int(number), float(at)
                elif line.endswith("\n"):
                    results.append(json.loads(line))
                    current, tries = None, 0
        _, status, usage = os.wait4(pid, 0)
        done = {result["case"] for result in results}
        cases = [case for case in cases if case[0] not in done]
        if current is None:
            continue
        spent = usage.ru_utime + usage.ru_stime - began
        detail = stderr.read_text(encoding="utf-8", errors="replace")[-6000:]
        if "Timeout (" in detail and BLOCKED_S < spent < HANG_S and tries < 3:
            tries += 1  # the machine was busy with something else
            continue
        signal = os.waitstatus_to_exitcode(status)
        fault = f"a hang: {group_of(detail)}" if "Timeout (" in detail else f"its process ended with {signal}"
        results.append({"case": current, "fault": fault, "detail": f"{spent:.1f} s of processor time\n{detail}"})
        cases = [case for case in cases if case[0] != current]
    return results


def drawn(seed: int, number: int) -> mutate.Case:
    """Return the case of a number."""
    return mutate.draw(case_random(PROGRAM, seed, number))


def smaller(case: mutate.Case) -> mutate.Case:
    """Return a smaller case with the same fault: lines and then pieces are left out while it stays."""
    until, fault = time.monotonic() + SMALLER_S, supervise([(0, case)])[0].get("fault")

    def holds(candidate: mutate.Case) -> bool:
        return supervise([(0, candidate)])[0].get("fault") == fault

    for separator in (b"\n", b" "):
        pieces, size = case.text.split(separator), 0
        size = max(len(pieces) // 2, 1)
        while size and time.monotonic() < until:
            at = 0
            while at < len(pieces) and time.monotonic() < until and len(pieces) > 1:
                fewer = [*pieces[:at], *pieces[at + size :]]
                candidate = mutate.Case(separator.join(fewer), case.overrides, case.local)
                if holds(candidate):
                    pieces, case = fewer, candidate
                else:
                    at += size
            size //= 2
    return case


def load() -> None:
    """Import what compiling needs, before the forks."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.path.insert(0, str(places.SUPPORT))
    import numpy  # noqa: F401
    from compiler_support import SPEC

    import gridloom.compiler.compile
    import gridloom.compiler.render
    import gridloom.plugins
    import gridloom.runtime.checkpoints.description
    import gridloom.runtime.data.arc.read
    import gridloom.runtime.models.language.weights.managed
    import gridloom.runtime.planning.facts
    from gridloom.runtime.planning import facts_cache

    # packages and code do not change while a worker lives, and a look at all of them takes longer than a compilation
    installed: Any = gridloom.plugins
    installed.entry_points = cache(installed.entry_points)
    facts_cache._code_identity = cache(facts_cache._code_identity)
    with contextlib.suppress(ImportError):  # a second for each block, where a spec names its digits
        import sklearn.datasets  # noqa: F401
    mutate.trees()
    texts = [SPEC, *mutate.bases()[:8], *mutate.broken()[:8]]
    for text in texts:  # forked processes inherit what these import and keep
        verdict(mutate.Case(text.encode("utf-8", "surrogateescape")))
    for name in ("puzzles", "arc"):
        verdict(mutate.Case(Path(f"{name}.yaml").read_bytes(), local=True))
    gc.collect()
    gc.freeze()


def main() -> None:
    """Answer blocks of case numbers until the input ends."""
    seed, scratch = int(sys.argv[1]), Path(sys.argv[2])
    scratch.mkdir(parents=True, exist_ok=True)
    prepare(scratch)
    os.chdir(scratch)
    load()
    for line in sys.stdin:
        if line.startswith("smaller "):
            case = smaller(drawn(seed, int(line.split()[1])))
            print(json.dumps({"text": case.text.hex(), "overrides": case.overrides, "local": case.local}))
            print("{}", flush=True)
            continue
        for result in supervise([(number, drawn(seed, number)) for number in map(int, line.split())]):
            print(json.dumps(result), flush=True)
        print("{}", flush=True)


if __name__ == "__main__":
    main()
