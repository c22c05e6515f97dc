"""Makers of further hostile inputs: collections of ARC tasks with wrong lines or ids, states of another machine, and
wrong command lines. As those of `hostile`, functions of the random numbers alone."""

from __future__ import annotations

import json
import random

from . import mutate
from .hostile import Commands, Maker, Place, damage, mutated_json

RUN = "@run"
"""Stands in a command for the run that the case made."""
CARRIED = "carried"
"""Folder of a state that was exported."""

COMMANDS = (
    "compile", "validate", "explain", "diff", "init", "plan", "run", "solve", "sql", "attempts", "attempt", "replay",
    "gc", "doctor", "specs list", "specs show", "specs import", "specs schema", "runs", "runs compare", "runs export",
    "models list", "models verify", "models import", "models export", "models publish", "plugins", "data show",
    "data sample", "data rows", "data stats", "data leaks", "data export", "data make", "data check", "state export",
    "state import", "stage finish", "nonsense", "", "--help", "--version",
)  # fmt: skip
"""Every command that uses no network and changes no settings of a shell."""
OPTIONS = (
    "--json", "--csv", "--parquet", "--limit", "--all", "--run", "--stage", "--home", "--set", "--seed", "--device",
    "--walltime", "--views", "--quiet", "-q", "--nope", "--", "-", "-1", "--limit=-1", "--limit=1e3", "--home=",
    "--set=", "--set==", "--set=a=", "--set=name=[", "--stage=learn", "--device=gpu", "--device=cuda:99", "--dry-run",
    "--journals", "--exit-code", "--wait", "--max-mb=0", f"--limit={10**30}", "--subset=evaluation", "--parquet=",
)  # fmt: skip
WRITERS = ("init", "models", "data", "runs", "state", "sql", "specs")
VALUES = (
    "", " ", "-", "arc.yaml", "puzzles.yaml", "./tasks", "tasks/training/aaaa0001.json", "aaaa0001", "nope", "learn",
    "solve", "quickstart", "shipped:nope", "missing.yaml", "fifo", "folder", ".gridloom", "/dev/null", "/dev/zero",
    "/dev/full", "/proc/self/mem", "/etc", "~nosuchuser/x", "../x", "x" * 300, "x" * 5000, "é" * 200, "a\nb",
    "\x1b[31mred", "[/b]", "[a/b]", "\udcff", "a\udc80.yaml", "GL101", "GL999", "gl1:00", "0", "-1", "1e400",
    str(10**30), "nan", "name=x", "seed=1", "seed=null", "stages=null", "stages.learn.steps=0", "=", "==", "a.b.c=1",
    "from runs", "select", "@file", "%s", "{}", "$HOME", "*", "?", "http://127.0.0.1:1/x.json", "file:///etc/passwd",
)  # fmt: skip
IDS = (
    "", ".", "..", "/", "../up", "../../up", "a/b", "a\\b", "/tmp/x", "~", "~nosuchuser", "a[/b]", "[red]", "\x1b[2J",
    "a\nb", "a\rb", "\u202eabc", "x" * 300, "é" * 200, "CON", "a:b", "a b", "#a", "-a", "--json", "a\0b", "\ud800",
    "\ufeffa", "576224", "0934a4d8", "20818e16", "NaN", "null", "a.json", "manifest.json", "ledger.duckdb", "*", "$x",
)  # fmt: skip
SPEC = (
    "gridloom: 1\nname: given\ndevice: cpu\n"
    "data: {{arc: {{kind: arc, source: {source}, subsets: [{subset}], holdout: [{subset}], canvas: auto,\n"
    "  augment: {{copies: 3}}}}}}\n"
    "stages:\n  given: {{kind: checkpoint, path: {path}}}\n"
    "  solve: {{kind: solve, with: given, data: arc, solver: {{max_attempts: 1, views: 1}}}}\n"
    "  score: {{kind: score, attempts: solve}}\n"
)


def _tasks(place: Place) -> dict[str, dict[str, list[dict[str, list[list[int]]]]]]:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((place.folder / "tasks").rglob("*.json"))
    }


def _checkpoint(place: Place) -> str:
    """Return the path of the trained checkpoint of the project."""
    found = sorted((place.folder / ".gridloom" / "artifacts").glob("*/bundle.json"))
    return f"./.gridloom/artifacts/{found[0].parent.name}"


def heavy(chance: random.Random, place: Place) -> Commands:
    """A file of tasks as ARC-Heavy has them, a JSON line each, of which some are wrong."""
    lines = []
    for task in [*_tasks(place).values()] * chance.choice((1, 1, 3)):
        examples = [[pair["input"], pair["output"]] for pair in (*task["train"], *task["test"])]
        tree: object = {"examples": examples, "source": "x"}
        what = chance.random()
        if what < 0.25:
            lines.append(mutated_json(chance, tree))
        elif what < 0.35:
            lines.append(damage(chance, json.dumps(tree).encode()))
        elif what < 0.5:
            odd = chance.choice((b"", b" ", b"null", b"[]", b"{}", b"[[[]]]", b"[" * 5000, b"1e400", b'{"examples":'))
            lines.append(odd)
        else:
            lines.append(json.dumps(tree).encode())
    end = chance.choice((b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b"\0\n"))
    (place.folder / "heavy.jsonl").write_bytes(end.join(lines) + chance.choice((b"", end)))
    leaf = "gridloom: 1\nname: t\ndata: {d: {kind: arc, source: ./heavy.jsonl, subsets: [tasks], holdout: []}}\n"
    (place.folder / "t.yaml").write_text(
        leaf + "models: {trm: {kind: trm, hidden_size: 16, num_heads: 2}}\n"
        "stages: {learn: {kind: train, model: trm, data: d}}\n",
        encoding="utf-8",
    )
    choices: Commands = [("data", "stats", "./heavy.jsonl"), ("data", "leaks", "./heavy.jsonl"), ("compile", "t.yaml")]
    return [chance.choice(choices[:2]), ("compile", "t.yaml")]


def ids(chance: random.Random, place: Place) -> Commands:
    """Tasks of Kaggle's form whose ids are paths, markup or controls; they are solved, shown and exported."""
    given = _tasks(place)
    names = [chance.choice(IDS) if chance.random() < 0.5 else name for name in ("cccc0003", "dddd0004")]
    challenges = {name: given[key] for name, key in zip(names, ("cccc0003", "dddd0004"), strict=True)}
    folder = place.folder / "kaggle"
    folder.mkdir()
    path = folder / "arc-agi_evaluation_challenges.json"
    path.write_bytes(json.dumps(challenges).encode())
    spec = SPEC.format(source="./kaggle", subset="evaluation", path=_checkpoint(place))
    (place.folder / "given.yaml").write_text(spec, encoding="utf-8")
    return [
        ("run", "given.yaml", "-q"),
        ("attempts",),
        ("runs", "export", RUN, "out"),
        ("data", "stats", f"./kaggle/{path.name}"),
    ]


def state(chance: random.Random, place: Place) -> Commands:
    """The exported state of a training of which one file was changed, is missing, or is something else."""
    folder = place.folder / CARRIED
    path = chance.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    what = chance.random()
    if path.suffix == ".json" and what < 0.7:
        path.write_bytes(mutated_json(chance, json.loads(path.read_text(encoding="utf-8"))))
    elif what < 0.85:
        path.write_bytes(damage(chance, path.read_bytes()))
    else:
        path.unlink()
        if chance.random() < 0.7:
            path.symlink_to(chance.choice((place.secret, "missing", path.name, "/dev/zero")))
    return [("state", "import", "puzzles.yaml", CARRIED), ("run", "puzzles.yaml", "-q")]


def words(chance: random.Random, place: Place) -> Commands:
    """A command line with wrong arguments, or too many, or too few."""
    (place.folder / "folder").mkdir()
    (place.folder / "bad.yaml").write_bytes(mutate.draw(chance).text)
    made: Commands = []
    for _ in range(4):
        line = [*chance.choice(COMMANDS).split(" ")]
        values = (*VALUES, "bad.yaml", *place.attempts)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3))):
            line.append(chance.choice(values) if chance.random() < 0.8 else chance.choice(OPTIONS))
        if line[0] in WRITERS:  # what a user names is written there, wherever that is
            line = [word for word in line if not word.startswith((".", "/", "~", "--home"))]
        made.append(tuple(word for word in line if "\0" not in word))
    return made


MAKERS: dict[str, Maker] = {"heavy": heavy, "ids": ids, "state": state, "words": words}
