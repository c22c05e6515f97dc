"""Plain technical English: no words of a private dialect in names, docstrings, comments, texts and docs of gridloom."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORDS = {
    r"\btold\b": "a program reports, records or is given something: 'reported', 'given', 'known from'",
    # distinguishing is a meaning of its own: 'the key that tells models apart', 'tells X from Y'
    r"\btells?\b(?!(?:\W+\w+){1,4}\W+(?:apart|from)\b)": "a program reports, records, holds, names or encodes",
    r"\b(?:came|comes?|coming|became|become|becomes) of (?!age\b)": "name the result, as in 'results of ...'",
    r"\bof no account\b": "the term is 'ignored' or 'has no effect'",
    r"\bin a circle\b": "the term is 'cycle': 'stages form a cycle'",
    r"\bsittings?\b": "name the thing: 'interruptions', 'runs', 'process'",
}
"""Pattern -> reason and what to write in its place; whole words in any case."""

NAMES = {r"\b(?:says|said)\b": "name the value: 'message', 'detail', 'failure'"}
"""Pattern -> reason for names alone, since prose of a person may say something."""

OF = r"\AOf\b"
"""Start of a docstring without its noun: 'Of the whole prompt.' is 'Number of tokens of the whole prompt.'"""


def words_of(name: str) -> str:
    """Return an identifier as separate words: `RowsTold` and `rows_told` become `rows told`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).lower()


def texts(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, text) of the comments, docstrings, strings and defined names of a module.

    A docstring is a string that stands as a statement: of a module, class or function, or below an attribute. The
    pieces of an f-string are joined around its values.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], "comment", token.string
    tree = ast.parse(source)
    seen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            seen.add(id(node.value))
            yield node.lineno, "docstring", node.value.value
        elif isinstance(node, ast.JoinedStr):
            seen.update(id(part) for part in node.values)
            pieces = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, "text", "".join(map(str, pieces))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in seen:
            yield node.lineno, "text", node.value
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, "name", words_of(node.name)
        elif isinstance(node, ast.arg):
            yield node.lineno, "name", words_of(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, "name", words_of(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, "name", words_of(node.attr)


def findings(source: str) -> list[str]:
    """Return 'line: kind with "word": reason' for each use of a word of the dialect in a module."""
    found = []
    for line, kind, text in texts(source):
        for pattern, reason in (WORDS | NAMES if kind == "name" else WORDS).items():
            found += [f'{line}: {kind} with "{hit[0].strip()}": {reason}' for hit in re.finditer(pattern, text, re.I)]
        if kind == "docstring" and re.match(OF, text.strip()):
            found.append(f'{line}: docstring that starts with "Of": begin with the noun')
    return found


def findings_of_page(text: str) -> list[str]:
    """Return 'line: "word": reason' for each use of a word of the dialect on a page of text."""
    return [
        f'{number}: "{hit[0].strip()}": {reason}'
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, reason in WORDS.items()
        for hit in re.finditer(pattern, line, re.I)
    ]


def test_no_module_uses_words_of_the_dialect() -> None:
    modules = sorted((ROOT / "gridloom").rglob("*.py"))
    assert len(modules) > 300
    found = [
        f"{module.relative_to(ROOT)}:{finding}"
        for module in modules
        for finding in findings(module.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


def test_no_page_and_no_recipe_uses_words_of_the_dialect() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "gridloom/specs/library").glob("*.yaml")]
    assert len(pages) > 20
    found = [f"{page.name}:{hit}" for page in pages for hit in findings_of_page(page.read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "hit"),
    [
        ('"""What became of them."""\n', '1: docstring with "became of"'),
        ('"""Of the whole prompt."""\n', '1: docstring that starts with "Of"'),
        ('x = 1\n"""Of a weight in NF4."""\n', '2: docstring that starts with "Of"'),
        ('def f(told: int) -> None:\n    """Return 1."""\n', '1: name with "told"'),
        ("told = 1\n", '1: name with "told"'),
        ("class RowsTold: ...\n", '1: name with "told"'),
        ("def what_came_of_it() -> None: ...\n", '1: name with "came of"'),
        ("self.told = 1\n", '1: name with "told"'),
        ("for said in names: ...\n", '1: name with "said"'),
        ("def what_it_says() -> None: ...\n", '1: name with "says"'),
        ("# the network is Told the view\n", '1: comment with "Told"'),
        ('print(f"stages run in {a} in a circle")\n', '1: text with "in a circle"'),
        ('print(f"{a} tells {b} scores")\n', '1: text with "tells"'),
        ('print("of no account without halt")\n', '1: text with "of no account"'),
        ('"""All\n\nsittings together."""\n', '1: docstring with "sittings"'),
        ('"""The text tells what to do, and then more of it from a file."""\n', '1: docstring with "tells"'),
    ],
)
def test_each_word_is_seen_wherever_it_stands(source: str, hit: str) -> None:
    assert [finding for finding in findings(source) if finding.startswith(hit)]


@pytest.mark.parametrize(
    "source",
    [
        '"""Key that tells models apart."""\n',
        '"""Return the shortest ends of paths that tell them apart."""\n',
        '"""Sign that tells a mean from a sum."""\n',
        '"""Numbers of all tasks; of these the first are kept."""\n',
        "# foretold, untold, babysitting, a circular buffer\n",
        "became = offset\n",
        'print("the manual says so")\n',
        'x = told.y if told else f(told=1)["of"]\n',
    ],
)
def test_other_words_are_not_taken_for_them(source: str) -> None:
    assert findings(source) == []
