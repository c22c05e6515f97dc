"""The language that a tree is written in: built-in kinds, and those of other packages that it names."""

from __future__ import annotations

from collections.abc import Iterator

from gridloom.compiler.language import Spec, language
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.tree import Mapping, Scalar
from gridloom.diagnostics import Span
from gridloom.errors import PluginError
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.kinds import STAGES


def language_of(root: Mapping, session: Session) -> type[Spec]:
    """Return the spec model that knows every kind in the tree that some package brings. Records GL111."""
    written = {section: tuple(_kinds(root, section)) for section in ("models", "stages")}
    for section, registry in (("models", MODELS), ("stages", STAGES)):
        for kind, at in written[section]:
            try:
                registry.find(kind)
            except PluginError as error:
                session.error("GL111", error.message, at, error.remedy)
                raise Stop from error
    return language(*((kind for kind, _ in written[section]) for section in ("models", "stages")))


def _kinds(root: Mapping, section: str) -> Iterator[tuple[str, Span]]:
    """Yield the kinds that the entries of a section write, with their places."""
    node = root.get(section)
    for entry in node.entries.values() if isinstance(node, Mapping) else ():
        kind = entry.value.get("kind") if isinstance(entry.value, Mapping) else None
        if isinstance(kind, Scalar) and isinstance(kind.value, str):
            yield kind.value, kind.span
