"""Registries of kinds: built-in ones in a table of name -> place, those of other packages by entry points.

A registry loads a kind at the first lookup of its name. Entry points are read only for a name that the table lacks, so
a spec of built-in kinds spends no time on them. The module imports `gridloom.errors` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from gridloom.errors import PluginError

Kind = TypeVar("Kind")


def load_place(place: str) -> Any:
    """Import what a place, `module:attribute`, names."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Installed(NamedTuple):
    """A kind that a package other than gridloom brings, as `gridloom plugins` lists it."""

    group: str
    name: str
    place: str
    """`module:attribute`."""
    package: str
    version: str
    problem: str = ""
    """Reason why the kind cannot be used; empty where it can."""


class Registry(Generic[Kind]):
    """Kinds of one sort, by name."""

    def __init__(self, group: str, built_in: Mapping[str, str], kind: type[Kind] | None = None) -> None:
        """Declare a registry.

        Args:
            group: entry-point group of other packages, such as `gridloom.models`.
            built_in: place of each built-in kind, `module:attribute`, by name; messages list them in this order.
            kind: class whose instances the places hold; functions or classes to call where None.
        """
        self.group = group
        self.built_in = dict(built_in)
        self._kind = kind
        self._loaded: dict[str, Kind] = {}
        self._brought: set[str] = set()

    @property
    def noun(self) -> str:
        """What one kind is called in a message: 'model', 'policy'."""
        many = self.group.partition(".")[2]
        return f"{many[:-3]}y" if many.endswith("ies") else many.removesuffix("s")

    def has(self, name: str) -> bool:
        """Whether gridloom or an installed package brings the kind. Loads nothing, so the kind may be broken."""
        if name in self.built_in or name in self._brought:
            return True
        if any(point.name == name for point in self._points()):
            self._brought.add(name)
        return name in self._brought

    def find(self, name: str) -> Kind | None:
        """Return the kind called `name`, or None where neither gridloom nor an installed package brings it.

        Raises:
            PluginError: a package brings the kind, and loading it failed.
        """
        if name not in self._loaded:
            place = self.built_in.get(name)
            if place is not None:
                self._loaded[name] = load_place(place)
            else:
                point = next((point for point in self._points() if point.name == name), None)
                if point is None:
                    return None
                self._loaded[name] = self._load(point)
        return self._loaded[name]

    def get(self, name: str) -> Kind:
        """Return the kind called `name`. Raises PluginError where no package brings the kind, or loading it failed."""
        found = self.find(name)
        if found is None:
            raise PluginError(
                f"no installed package brings the {self.noun} {name!r}",
                f"known: {', '.join(self.names())}; `gridloom plugins` lists what is installed",
            )
        return found

    def names(self) -> tuple[str, ...]:
        """Return the names of all kinds: built-in ones in the table's order, then those of other packages."""
        return (*self.built_in, *sorted({point.name for point in self._points()} - set(self.built_in)))

    def built_ins(self) -> Iterator[tuple[str, Kind]]:
        """Yield the built-in kinds by name, in the table's order."""
        for name in self.built_in:
            kind = self.find(name)
            assert kind is not None
            yield name, kind

    def installed(self) -> Iterator[Installed]:
        """Yield the kinds of other packages, each loaded once to find out whether it can be used."""
        used: dict[str, str] = {}
        for point in sorted(self._points(), key=lambda point: point.name):
            package, version = _package(point), point.dist.version if point.dist else ""
            problem = ""
            if point.name in self.built_in:
                problem = f"gridloom itself has the {self.noun} {point.name!r}, which is used instead"
            elif point.name in used:
                problem = f"package {used[point.name]} brings the {self.noun} {point.name!r} too, which is used instead"
            else:
                used[point.name] = package
                try:
                    self._loaded.setdefault(point.name, self._load(point))
                except PluginError as error:
                    problem = error.message
            yield Installed(self.group, point.name, point.value, package, version, problem)

    def _points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self.group))

    def _load(self, point: EntryPoint) -> Kind:
        package = _package(point)
        try:
            found: Any = point.load()
        except Exception as error:
            # importing a module of another package can raise anything
            raise PluginError(
                f"kind {point.name!r} of package {package} ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}",
                f"repair or uninstall {package}; `gridloom plugins` lists what is installed",
            ) from error
        takes = "something to call" if self._kind is None else f"a {self._kind.__name__}"
        if not (callable(found) if self._kind is None else isinstance(found, self._kind)):
            raise PluginError(
                f"kind {point.name!r} of package {package} ({point.value}) is a "
                f"{type(found).__name__}, and group {self.group} takes {takes}",
                f"repair or uninstall {package}",
            )
        return found  # type: ignore[no-any-return]


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "(unknown)"
