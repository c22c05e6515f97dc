"""Composition of a spec: extends and --set -> one tree in which every value keeps its position."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.library import recipe_names, recipe_text
from gridloom.compiler.text.load import decode, load, read_file
from gridloom.compiler.text.overrides import apply_override
from gridloom.compiler.text.tree import Entry, Mapping, Node, Scalar
from gridloom.diagnostics import Span
from gridloom.wording import did_you_mean, listed

SECTIONS = ("data", "models", "stages")


class Source(NamedTuple):
    """A spec text with its origin."""

    text: str
    shown: str
    """Name in diagnostics: the path as typed, or `library:NAME`."""
    path: Path | None = None
    """Path of the file; None for a recipe or a text given directly."""


class Origin(NamedTuple):
    """File that holds an `extends`, with the chain that led to the file."""

    source: Source
    root: Path | None
    """Folder that relative `extends` may not leave."""


def open_source(spec: str | Path, session: Session) -> Source:
    """Find a spec by path (it ends in .yaml or .yml, or exists) or by recipe name. Records GL001-GL004 and GL030."""
    shown = str(spec)
    path = Path(spec)
    if isinstance(spec, Path) or path.suffix in (".yaml", ".yml") or path.is_file() or path.is_dir():
        return Source(read_file(path, shown, session), shown, path)
    return _recipe(shown, None, session, "spec file or recipe")


def compose(source: Source, session: Session) -> Mapping:
    """Load a spec, merge what it extends and apply `--set`. Raises Stop where no tree is left."""
    root = merged(source, session)
    for argument in session.overrides:
        root = apply_override(root, argument, session)
    return root


def merged(source: Source, session: Session) -> Mapping:
    """Load a spec merged with everything that it extends; the nearest file wins."""
    folder = source.path.parent if source.path else None
    return _merged(Origin(source, folder), (), session)


def _merged(origin: Origin, chain: tuple[Source, ...], session: Session) -> Mapping:
    tree = load(origin.source.text, origin.source.shown, session)
    extends = tree.get("extends")
    if not isinstance(extends, Scalar) or not isinstance(extends.value, str):
        return tree  # absent, or of a wrong type, which validation reports
    chain = (*chain, origin.source)
    # without the base the names in this file cannot be resolved, so a missing base stops the compilation
    base = _base(extends.value, extends.span, origin, session)
    met = [_identity(source) for source in chain]
    if _identity(base.source) in met:
        loop = " -> ".join(s.shown for s in [*chain[met.index(_identity(base.source)) :], base.source])
        session.error("GL033", f"`extends` forms a cycle: {loop}", extends.span)
        raise Stop
    return merge(_merged(base, chain, session), tree)


def _identity(source: Source) -> str:
    return str(source.path.resolve()) if source.path else source.shown


def _base(name: str, at: Span, origin: Origin, session: Session) -> Origin:
    if not _is_path(name):
        return Origin(_recipe(name, at, session, "recipe"), None)
    path = Path(name)
    if path.is_absolute():
        return Origin(_extended(path, name, at, session), path.parent)
    here = origin.source.path
    if here is None or origin.root is None:
        session.error(
            "GL032",
            f"'{name}' is a relative path, but {origin.source.shown} is not in a folder",
            at,
            f"recipes: {listed(recipe_names())}",
        )
        raise Stop
    target = here.parent / path
    if not target.resolve().is_relative_to(origin.root.resolve()):
        session.error(
            "GL032",
            f"'{name}' leaves the spec's folder '{origin.root}'",
            at,
            "keep it below that folder, or name it by its absolute path",
        )
        raise Stop
    return Origin(_extended(target, str(target), at, session), origin.root)


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.startswith(".") or name.endswith((".yaml", ".yml"))


def _extended(path: Path, shown: str, at: Span, session: Session) -> Source:
    if not path.is_file():
        near = [p.name for p in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near, f"files there: {listed(near)}" if near else "")
        session.error("GL031", f"`extends` names '{shown}', which does not exist", at, hint)
        raise Stop
    return Source(read_file(path, shown, session), shown, path)


def _recipe(name: str, at: Span | None, session: Session, what: str) -> Source:
    if name not in recipe_names():
        hint = did_you_mean(name, recipe_names(), f"recipes: {listed(recipe_names())}")
        session.error("GL030", f"unknown {what} '{name}'", at, hint, ("a path ends in .yaml or starts with ./",))
        raise Stop
    shown = f"library:{name}"
    return Source(decode(recipe_text(name).encode(), shown, session), shown)


def merge(base: Mapping, over: Mapping, path: tuple[str, ...] = ()) -> Mapping:
    """Merge deeply, `over` winning.

    A mapping of another `kind` replaces the one it meets, since the keys of one kind mean nothing to another. In the
    sections, `name: null` removes what the base defined.
    """
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        old = entries.get(key)
        if len(path) == 1 and path[0] in SECTIONS and old and _is_null(entry.value):
            del entries[key]
        elif old and isinstance(old.value, Mapping) and isinstance(entry.value, Mapping):
            if _other_kind(old.value, entry.value):
                entries[key] = entry
            else:
                entries[key] = Entry(entry.key_span, merge(old.value, entry.value, (*path, key)))
        else:
            entries[key] = entry
    return Mapping(entries, over.span, size=1 + sum(e.value.size for e in entries.values()))


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _other_kind(a: Mapping, b: Mapping) -> bool:
    old, new = a.get("kind"), b.get("kind")
    return isinstance(old, Scalar) and isinstance(new, Scalar) and old.value != new.value
