"""The registry of kinds: built-in ones, those of other packages, and two packages with one name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from gridloom import plugins
from gridloom.compiler.fingerprint import parameters
from gridloom.compiler.graph import StageNode
from gridloom.errors import PluginError
from gridloom.plugins import Registry

POINTS = [
    EntryPoint("write", "json:dumps", "gridloom.things"),
    EntryPoint("read", "json:loads", "gridloom.things"),
    EntryPoint("read", "json:load", "gridloom.things"),
    EntryPoint("own", "json:load", "gridloom.things"),
    EntryPoint("text", "json:__name__", "gridloom.things"),
]


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> Registry:  # type: ignore[type-arg]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point for point in POINTS if point.group == group])
    return Registry("gridloom.things", {"own": "json:dumps"})


def test_names_are_known_before_anything_is_loaded(things: Registry) -> None:  # type: ignore[type-arg]
    assert things.names() == ("own", "read", "text", "write")
    assert [things.has(name) for name in ("own", "text", "other")] == [True, True, False]


def test_message_names_the_kind_and_those_that_are_known(things: Registry) -> None:  # type: ignore[type-arg]
    with pytest.raises(
        PluginError, match="no installed package brings the thing 'other'\n  known: own, read, text, write"
    ):
        things.get("other")


def test_list_has_the_reason_why_a_kind_cannot_be_used(things: Registry) -> None:  # type: ignore[type-arg]
    assert [(kind.name, kind.place, kind.problem) for kind in things.installed()] == [
        ("own", "json:load", "gridloom itself has the thing 'own', which is used instead"),
        ("read", "json:loads", ""),
        ("read", "json:load", "package (unknown) brings the thing 'read' too, which is used instead"),
        (
            "text",
            "json:__name__",
            "kind 'text' of package (unknown) (json:__name__) is a str, and group gridloom.things takes "
            "something to call",
        ),
        ("write", "json:dumps", ""),
    ]


def test_key_of_a_recorded_stage_covers_a_verifier_that_is_not_installed_here() -> None:
    verifier = {"agreement": 2.0, "theirs": 1.5}
    spec = {"kind": "solve", "with": "joint", "solver": {"verifier": verifier, "proposer": "auto", "policy": "theirs"}}
    node = StageNode(name="solve", kind="solve", version=1, produces="attempts", spec=spec)
    assert parameters(node)["solver"] == {"policy": "theirs", "verifier": verifier}
