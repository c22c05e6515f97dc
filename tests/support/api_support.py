"""Specs and checks that tests of the public API share."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

SUDOKUS: dict[str, Any] = {
    "gridloom": 1,
    "name": "four",
    "device": "cpu",
    "data": {"sudokus": {"kind": "sudoku", "size": 4, "train": 12, "test": 6}},
    "models": {
        "trm": {
            "kind": "trm",
            "hidden_size": 8,
            "num_heads": 1,
            "layers": 1,
            "H_cycles": 1,
            "L_cycles": 1,
            "halt_max_steps": 1,
            "mixing": "mlp",
            "positions": "none",
            "puzzle_embedding_len": 1,
            "precision": "fp32",
        }
    },
    "stages": {
        "learn": {
            "kind": "train",
            "model": "trm",
            "data": "sudokus",
            "steps": 2,
            "batch_size": 2,
            "log_every": 1,
            "warmup_steps": 0,
            "optimizer": {"kind": "adam_atan2", "lr": 1e-3},
        },
        "judge": {"kind": "evaluate", "with": "learn", "data": "sudokus"},
    },
}
"""A run of seconds: a tiny network on 4x4 sudokus."""

VOID = {"br", "img", "hr", "input", "meta", "link"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def tags_of(html: str) -> list[str]:
    """Names of all elements; every one must be closed in its place. Of a subclass of str marimo shows nothing."""
    assert type(html) is str
    parser = _Tags()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.names
