"""Makers of hostile inputs: checkpoints, task files, damaged workspaces, SQL. Each writes into a case's folder and
returns the commands that read it. A function of the random numbers alone."""

from __future__ import annotations

import base64
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import mutate

CANARY = "canary-7f3a9c"
"""Content of a file outside of the folder; it must appear in no output."""


@dataclass(frozen=True)
class Place:
    """Where a case lives."""

    folder: Path
    """Folder of the case, where commands are typed; a copy of a project with a run in `.gridloom`."""
    marker: Path
    """File that a payload would create."""
    secret: Path
    """File with the canary."""
    attempts: tuple[str, ...]
    """Ids of attempts in the workspace."""


Commands = list[tuple[str, ...]]
Maker = Callable[[random.Random, Place], Commands]


class _Payload:
    def __init__(self, function: str, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        module, _, name = self.function.rpartition(".")
        return getattr(__import__(module), name), self.arguments


def payload(chance: random.Random, marker: Path) -> Any:
    """Return an object whose unpickling would create the marker."""
    return chance.choice(
        (
            _Payload("os.system", f"touch {marker}"),
            _Payload("builtins.exec", f"open({str(marker)!r}, 'w')"),
            _Payload("builtins.eval", f"open({str(marker)!r}, 'w')"),
            _Payload("subprocess.call", ["touch", str(marker)]),
            _Payload("builtins.open", str(marker), "w"),
            _Payload("os.mkdir", str(marker)),
        )
    )


def _pickled(chance: random.Random, place: Place) -> bytes:
    hostile = payload(chance, place.marker)
    tree = chance.choice((hostile, {"model": hostile}, {"a.weight": hostile}, [hostile], {hostile: 1}))
    return pickle.dumps(tree, protocol=chance.choice((0, 2, 4, 5)))


def _zipped(chance: random.Random, place: Place) -> bytes:
    """A file in torch's zip layout with a hostile pickle, a name that climbs out, or a bomb."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", _pickled(chance, place))
        archive.writestr("archive/version", "3\n")
        archive.writestr(chance.choice(("../../marker", str(place.marker), "archive/data/0")), b"x")
        if chance.random() < 0.3:
            archive.writestr("archive/data/1", bytes(64_000_000))
    return out.getvalue()


def safetensors(chance: random.Random) -> bytes:
    """Weights whose header has wrong lengths, offsets, dtypes, names or JSON."""
    header: Any = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    entry = header["a"]
    what = chance.randrange(9)
    if what == 0:
        entry["data_offsets"] = chance.choice(([0, 2**62], [-1, 4], [16, 0], [0], "x", None, [0, 1e300]))
    elif what == 1:
        entry["shape"] = chance.choice(([2**40, 2**40], [-1], [], "x", None, [0.5], [2**63]))
    elif what == 2:
        entry["dtype"] = chance.choice(("F7", "", None, 3, "OBJECT"))
    elif what == 3:
        header = chance.choice(([], None, 3, "x", {"__metadata__": {"a": 3}}, {"a": []}, {"": entry}))
    elif what == 4:
        header = {f"t{i}": entry for i in range(2000)}
    text = json.dumps(header).encode()
    if what == 5:
        text = b"[" * 100_000
    length = len(text)
    if what == 6:
        length = chance.choice((0, 2**63, 2**64 - 1, length + 1, length - 1, 10**8))
    data = struct.pack("<Q", length) + text + bytes(16)
    return data[: chance.randrange(len(data))] if what == 7 else data


def damage(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with flipped bits, a part left out, doubled or overwritten, or nothing."""
    what = chance.randrange(6)
    if what == 0 or not data:
        return chance.choice((b"", b"\0" * 4096, b"{}", b"[]", b"null", b"(" * 200_000, b"\xff\xfe", b"{" * 5000))
    if what == 1:
        return data[: chance.randrange(len(data))]
    made = bytearray(data)
    if what == 2:
        for _ in range(chance.choice((1, 1, 8, 100))):
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        return bytes(made)
    at, size = chance.randrange(len(made)), chance.choice((1, 16, 512, 4096))
    if what == 3:
        del made[at : at + size]
    elif what == 4:
        made[at:at] = made[at : at + size]
    else:
        made[at : at + size] = chance.randbytes(size)
    return bytes(made)


def mutated_json(chance: random.Random, tree: Any) -> bytes:
    """Return JSON with values of other types, missing keys or doubled ones."""
    holder = {"": tree}
    for _ in range(chance.choice((1, 1, 2, 4))):
        node, key = chance.choice(mutate._spots(holder))
        if chance.random() < 0.2 and node is not holder:
            del node[key]
        else:
            node[key] = chance.choice([value for value in mutate.SCALARS if not isinstance(value, bytes)])
    try:
        return json.dumps(holder.get("")).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        return b"{"


def checkpoint(chance: random.Random, place: Place) -> Commands:
    """A checkpoint of TinyRecursiveModels that executes code, or is none."""
    folder = place.folder / "theirs"
    folder.mkdir()
    name = chance.choice(("step_10", "checkpoint_step_10.pt", "weights.safetensors"))
    content = chance.choice((_pickled, _zipped))(chance, place)
    if name.endswith("safetensors"):
        content = safetensors(chance)
    elif chance.random() < 0.3:
        content = damage(chance, content)
    (folder / name).write_bytes(content)
    if chance.random() < 0.6:
        config: Any = {"arch": {"hidden_size": 16, "num_heads": 2, "L_layers": 1, "H_cycles": 1, "L_cycles": 1}}
        (folder / "all_config.yaml").write_bytes(
            mutate.draw(chance).text if chance.random() < 0.3 else mutated_json(chance, config)
        )
    return [("models", "import", f"theirs/{name}", "ours"), ("models", "verify", "theirs")]


def bundle(chance: random.Random, place: Place) -> Commands:
    """A checkpoint of gridloom of which one file was changed."""
    found = sorted((place.folder / ".gridloom" / "artifacts").glob("*/bundle.json"))
    source = chance.choice(found).parent
    folder = place.folder / "theirs"
    shutil.copytree(source, folder)
    path = chance.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    if path.suffix == ".json" and chance.random() < 0.7:
        path.write_bytes(mutated_json(chance, json.loads(path.read_text(encoding="utf-8"))))
    elif path.suffix == ".safetensors" and chance.random() < 0.5:
        path.write_bytes(chance.choice((safetensors(chance), _pickled(chance, place))))
    else:
        path.write_bytes(damage(chance, path.read_bytes()))
    spec = (
        "gridloom: 1\nname: given\ndevice: cpu\n"
        "data: {arc: {kind: arc, source: ./tasks, subsets: [training, evaluation], canvas: auto,\n"
        "  augment: {copies: 3}}}\n"
        "stages:\n  given: {kind: checkpoint, path: ./theirs}\n"
        "  judge: {kind: evaluate, with: given, data: arc, views: 2}\n"
    )
    (place.folder / "given.yaml").write_text(spec, encoding="utf-8")
    return [("models", "verify", "theirs"), ("compile", "given.yaml"), ("run", "given.yaml", "-q")]


def task_file(chance: random.Random, place: Place) -> Commands:
    """A task file, or a file of many tasks, that is none."""
    tree = json.loads((place.folder / "tasks" / "training" / "aaaa0001.json").read_text(encoding="utf-8"))
    name = chance.choice(("t.json", "task #1.json", "a: b.json", "[b].json", "x_challenges.json", "t.jsonl"))
    content = mutated_json(chance, {"aaaa0001": tree} if "challenges" in name else tree)
    if chance.random() < 0.3:
        content = damage(chance, content)
    if chance.random() < 0.1:
        content = chance.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"")) + content
    (place.folder / name).write_bytes(content)
    leaf = f"gridloom: 1\nname: t\ndata: {{d: {{kind: arc, source: {json.dumps('./' + name)}, subsets: [tasks]}}}}\n"
    (place.folder / "t.yaml").write_text(
        leaf + "models: {trm: {kind: trm, hidden_size: 16, num_heads: 2}}\n"
        "stages: {learn: {kind: train, model: trm, data: d}}\n",
        encoding="utf-8",
    )
    choices: Commands = [("data", "show", name), ("data", "stats", f"./{name}"), ("compile", "t.yaml")]
    return [chance.choice(choices), ("compile", "t.yaml")]


def workspace(chance: random.Random, place: Place) -> Commands:
    """A workspace of which one file is damaged, missing, or something else."""
    root = place.folder / ".gridloom"
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".states" not in path.parts]
    kinds = sorted({_sort(path) for path in files})
    kind = chance.choice(kinds)
    path = chance.choice([path for path in files if _sort(path) == kind])
    what = chance.random()
    if path.suffix == ".jsonl" and path.parent.name == "journal" and what < 0.5:
        path.write_bytes(_wrong_line(chance, path.read_bytes()))
    elif path.suffix == ".json" and what < 0.5:
        path.write_bytes(mutated_json(chance, json.loads(path.read_text(encoding="utf-8"))))
    elif what < 0.9:
        path.write_bytes(damage(chance, path.read_bytes()))
    else:
        path.unlink()
        if chance.random() < 0.6:
            path.mkdir() if chance.random() < 0.5 else path.symlink_to(
                chance.choice((place.secret, "missing", path.name))
            )
    attempt = chance.choice(place.attempts)
    choices: Commands = [
        ("sql", "from v_attempts"), ("attempts",), ("attempts", "--json"), ("runs",), ("attempt", attempt),
        ("replay", attempt), ("plan", "arc.yaml"), ("gc", "--dry-run"), ("gc", "--journals"),
    ]  # fmt: skip
    return [*chance.sample(choices, 2), ("run", "arc.yaml", "-q")]


def _sort(path: Path) -> str:
    return f"{path.parent.name if path.parent.name == 'journal' else ''}{path.name if path.suffix != '.jsonl' else 'x'}"


def _wrong_line(chance: random.Random, data: bytes) -> bytes:
    """Put a line with the right checksum and the wrong shape into a journal."""
    lines = data.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    tree = json.loads(lines[at][9:])
    shapes: tuple[Any, ...] = ({}, {"s": "a"}, {"s": 1, "r": [1]}, [], {"s": None, "r": {}}, {"h": 3, "s": 0})
    body = json.dumps(chance.choice(shapes)).encode() if chance.random() < 0.4 else mutated_json(chance, tree)
    line = b"%08x %b\n" % (zlib.crc32(body), body)
    if chance.random() < 0.5:
        lines[at] = line
    else:
        lines.insert(at, line)
    return b"".join(lines)


def sql(chance: random.Random, place: Place) -> Commands:
    """A statement that would write, read files, load code, or reach the network."""
    secret, marker = str(place.secret), str(place.marker)
    statement = chance.choice(
        (
            f"copy (select 1) to '{marker}'", f"copy runs to '{marker}' (format parquet)",
            f"export database '{marker}'",
            f"attach '{marker}' as m", f"attach '{secret}' as m", f"select * from read_text('{secret}')",
            f"from '{secret}'", f"select * from read_csv('{secret}')", f"select * from read_blob('{secret}')",
            f"select * from read_json('{secret}')", f"select * from glob('{place.secret.parent}/*')",
            "install httpfs", "load httpfs", "install spatial from community", "select getenv('HOME')",
            "set enable_external_access = true", "set allow_unsigned_extensions = true", "pragma disable_profiling",
            f"pragma enable_profiling = 'json'; pragma profiling_output = '{marker}'",
            f"set profiling_output = '{marker}'",
            f"set log_query_path = '{marker}'", f"set temp_directory = '{marker}'", "set lock_configuration = false",
            "drop table attempts", "delete from runs", "update runs set status = 'x'", "create table x as select 1",
            "create or replace view v_runs as select 1", "insert into runs (run_id) values ('x')", "checkpoint",
            "vacuum",
            "begin; drop table runs; commit", "select 1; drop table runs", "call pragma_version()", "use memory",
            f"create secret s (type s3, key_id 'a', secret '{secret}')", "from duckdb_secrets()",
            "prepare p as delete from runs", "execute p",
            "explain analyze delete from runs",
            f"with x as (select * from read_text('{secret}')) select * from x", "select * from sniff_csv('x.csv')",
            f"create macro m() as table select * from read_text('{secret}')", f"import database '{marker}'",
            f"select * from parquet_scan('{secret}')", f"select * from parquet_metadata('{secret}')",
            "select repeat('x', 100000000000)",
            "select * from range(10) limit -1", "from runs, runs, runs, runs",
            "select '\x1b[31mred', chr(27) || ']0;x' || chr(7) as \"a\nb\"",
            "select date '290000-01-01'",
            "select timestamp '294247-01-10 04:00:54.775806'", "select 'x' as \"[/b]\", '[b]y[/b]' as y",
            "select 1 a, 2 a",
            "select interval 99999 years, 170141183460469231731687303715884105727::hugeint, 'nan'::double",
            "", ";", "--", "\\",
            "select '" + "x" * 100_000 + "'", "(" * 5000 + "1" + ")" * 5000, "select " + "1+" * 3000 + "1",
            "select ?", "select $a",
        )
    )  # fmt: skip
    if chance.random() < 0.3:
        statement = mutate._mutated_text(chance, statement).replace("\0", "").encode("utf-8", "replace").decode()
    return [("sql", statement, *chance.choice(((), ("--json",), ("--csv",))))]


MAKERS: dict[str, Maker] = {
    "checkpoint": checkpoint,
    "bundle": bundle,
    "task_file": task_file,
    "workspace": workspace,
    "sql": sql,
}


def encoded(data: bytes) -> str:
    """Return bytes for a report."""
    return base64.b64encode(data[:4000]).decode()
