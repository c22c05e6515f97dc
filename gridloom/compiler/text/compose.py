"""Composition of a spec: extends and --set -> one tree in which every value keeps its position."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from gridloom import user_files
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.library import recipe_names, recipe_text
from gridloom.compiler.text.load import MAX_VALUES, decode, load, read_file, specs_in
from gridloom.compiler.text.overrides import apply_override
from gridloom.compiler.text.tree import Entry, Mapping, Node, Scalar, mapping_size, show
from gridloom.diagnostics import Span
from gridloom.wording import did_you_mean, listed

SECTIONS = ("data", "models", "stages")
MAX_FILES = 40
"""Longest chain of files that extend one another."""
_SHORTER = "merge some of the files into one"


class Source(NamedTuple):
    """A spec text with its origin."""

    text: str
    shown: str
    """Name in diagnostics: the path as typed, or `library:NAME`."""
    path: Path | None = None
    """Path of the file; None for a recipe or a text given directly."""


def open_source(spec: str | Path, session: Session) -> Source:
    """Find a spec by path (it ends in .yaml or .yml, or exists) or by recipe name. Records GL001-GL004 and GL030."""
    shown = str(spec)
    path = Path(spec)
    if isinstance(spec, Path) or path.suffix in (".yaml", ".yml") or (shown and user_files.exists(path)):
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
    return _merged(source, (), session)


def _merged(source: Source, chain: tuple[Source, ...], session: Session) -> Mapping:
    tree = load(source.text, source.shown, session)
    extends = tree.get("extends")
    if not isinstance(extends, Scalar) or not isinstance(extends.value, str):
        return tree  # absent, or of a wrong type, which validation reports
    chain = (*chain, source)
    if len(chain) > MAX_FILES:
        session.error("GL033", f"`extends` leads through more than {MAX_FILES} files", extends.span, _SHORTER)
        raise Stop
    # without the base the names in this file cannot be resolved, so a missing base stops the compilation
    base = _base(extends.value, extends.span, source, session)
    met = [_identity(one) for one in chain]
    if _identity(base) in met:
        loop = " -> ".join(one.shown for one in [*chain[met.index(_identity(base)) :], base])
        session.error("GL033", f"`extends` forms a cycle: {loop}", extends.span)
        raise Stop
    whole = merge(_merged(base, chain, session), tree)
    if whole.size > MAX_VALUES:
        session.error("GL011", f"the spec and what it extends hold more than {MAX_VALUES:,} values", extends.span)
        raise Stop
    return whole


def _identity(source: Source) -> str:
    return os.path.realpath(source.path) if source.path else source.shown


def _base(name: str, at: Span, here: Source, session: Session) -> Source:
    if not _is_path(name):
        return _recipe(name, at, session, "recipe")
    try:
        path = user_files.named_path(name, "" if here.path is None else here.path.parent)
    except OSError as error:
        session.error("GL031", f"`extends` cannot name {show(name)}: {error.strerror}", at)
        raise Stop from None
    if not user_files.exists(path):
        near = specs_in(path.parent)
        hint = did_you_mean(path.name, near, f"files there: {listed(near)}" if near else "")
        session.error("GL031", f"`extends` names '{path}', which does not exist", at, hint)
        raise Stop
    return Source(read_file(path, str(path), session), str(path), path)


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.startswith(".") or name.endswith((".yaml", ".yml"))


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
    return Mapping(entries, over.span, size=mapping_size(entries))


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _other_kind(a: Mapping, b: Mapping) -> bool:
    old, new = a.get("kind"), b.get("kind")
    return isinstance(old, Scalar) and isinstance(new, Scalar) and old.value != new.value
