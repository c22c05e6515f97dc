"""Page of every field of the spec language; `python -m gridloom.compiler.reference.page docs/fields.md` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from gridloom.compiler.language import Spec
from gridloom.compiler.reference.fields import SECTIONS, default_text, kinds
from gridloom.specs.base import SpecModel
from gridloom.specs.fields import docs, expected, field_shape, keys, kind_of, kinds_of

HEAD = """\
# Every field of a spec

Written from the models that read a spec, by `python -m gridloom.compiler.reference.page docs/fields.md`.
`gridloom explain train.optimizer.lr` prints one field, `gridloom explain train` a kind; [specs.md](specs.md) is about
the language.
"""


def page() -> str:
    """Return the page: fields of the spec itself, then every kind by section, then the blocks that fields hold."""
    blocks: dict[str, type[BaseModel]] = {}
    parts = [HEAD, "## The spec itself\n", *_table(Spec, blocks)]
    for section in SECTIONS:
        parts.append(f"\n## {section}\n")
        for kind, (its, model) in kinds().items():
            if its == section:
                parts += [f"### {kind}\n", f"{_sentence(model)}\n", *_table(model, blocks), ""]
    parts.append("## Blocks\n")
    done: set[str] = set()
    while left := [title for title in blocks if title not in done]:
        title = left[0]
        done.add(title)
        parts += [f"### {title}\n", f"{_sentence(blocks[title])}\n", *_table(blocks[title], blocks), ""]
    return "\n".join(parts).rstrip() + "\n"


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _table(model: type[BaseModel], blocks: dict[str, type[BaseModel]]) -> Iterator[str]:
    yield "| field | takes | default | |"
    yield "|---|---|---|---|"
    for key in keys(model):
        if key == "kind" and len(kinds_of(model)) == 1:
            continue
        place = field_shape(model, key)
        below = place.values.models if place.values else ()
        inner = [] if model is Spec and key in SECTIONS else [*place.models, *below]
        takes = _cell(expected(place))
        if inner:
            takes += f": {', '.join(_link(one, blocks) for one in inner)}"
        default = default_text(model, key)
        shown = f"`{_cell(default)}`" if default else "must be written"
        yield f"| `{key}` | {takes} | {shown} | {_cell(docs(model).get(key, ''))} |"


def _link(model: type[SpecModel], blocks: dict[str, type[BaseModel]]) -> str:
    title = kind_of(model) or model.__name__
    if (known := blocks.get(title)) is not None and known is not model:
        title = model.__name__
    blocks[title] = model
    return f"[{title}](#{title.lower()})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
