"""Registries of kinds: built-in ones in a table of name -> place, those of other packages by entry points.

A registry loads a kind at the first lookup of its name. Entry points are read only for a name that the table lacks, so
a spec of built-in kinds spends no time on them. The module imports `gridloom.errors` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from gridloom.errors import PluginError

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Installed:
    """A kind that a package other than gridloom brings, as `gridloom plugins` lists it."""

    group: str
    name: str
    value: str
    """Place of the kind, `module:attribute`."""
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
            kind: class of the kinds; not checked where None.
        """
        self.group = group
        self.built_in = dict(built_in)
        self._kind = kind
        self._loaded: dict[str, Kind] = {}

    def find(self, name: str) -> Kind | None:
        """Return the kind called `name`, or None where neither gridloom nor an installed package brings it.

        Raises:
            PluginError: a package brings the kind, and loading it failed.
        """
        if name not in self._loaded:
            place = self.built_in.get(name)
            if place is not None:
                self._loaded[name] = self._at(place)
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
                f"no installed package brings {self.group.partition('.')[2]} kind {name!r}",
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
        for point in sorted(self._points(), key=lambda point: point.name):
            distribution = point.dist
            package, version = (distribution.name, distribution.version) if distribution else ("", "")
            problem = ""
            if point.name in self.built_in:
                problem = f"gridloom itself has a kind {point.name!r}, which is used instead"
            else:
                try:
                    self._loaded.setdefault(point.name, self._load(point))
                except PluginError as error:
                    problem = error.message
            yield Installed(self.group, point.name, point.value, package, version, problem)

    def _points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self.group))

    def _at(self, place: str) -> Kind:
        module, _, attribute = place.partition(":")
        found: Kind = getattr(importlib.import_module(module), attribute)
        return found

    def _load(self, point: EntryPoint) -> Kind:
        package = point.dist.name if point.dist else "an unknown package"
        try:
            found: Any = point.load()
        except Exception as error:
            # importing a module of another package can raise anything
            raise PluginError(
                f"kind {point.name!r} of package {package} ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}",
                f"repair or uninstall {package}; `gridloom plugins` lists what is installed",
            ) from error
        if self._kind is not None and not isinstance(found, self._kind):
            raise PluginError(
                f"kind {point.name!r} of package {package} ({point.value}) is a "
                f"{type(found).__name__}, and group {self.group} takes a {self._kind.__name__}",
                f"repair or uninstall {package}",
            )
        return found  # type: ignore[no-any-return]
