"""Codes GL001-GL018: the text of a spec."""

from __future__ import annotations

from gridloom.compiler.codes.code import HEAD, Code, Example, over

_SOUND = Example(HEAD)

READING = (
    Code(
        "GL001", "no such file",
        "The given spec is a path, and there is no file at that path.",
        "A name without a slash and without .yaml is looked up among the recipes instead.",
        Example("", spec="missing.yaml"), _SOUND,
    ),
    Code(
        "GL002", "unreadable file",
        "The path exists but cannot be read as a file: it is a folder, or its permissions forbid it.",
        "A spec that cannot be read cannot be checked.",
        Example("", files={"folder.yaml/note": "a file in a folder"}, spec="folder.yaml"), _SOUND,
    ),
    Code(
        "GL003", "not UTF-8",
        "The file holds bytes that are not UTF-8 text.",
        "YAML is UTF-8. Another encoding would be read as other characters, silently.",
        Example(HEAD + "description: café\n", encoding="latin-1"), Example(HEAD + "description: café\n"),
    ),
    Code(
        "GL004", "too large",
        "The file is larger than 1 MiB.",
        "A spec holds settings; data belongs in files that the spec names.",
        Example(HEAD, filler=1_100_000), _SOUND,
    ),
    Code(
        "GL005", "empty spec",
        "The file has no content beside comments.",
        "A spec has at least `gridloom`, `name` and `stages`, or `extends` a recipe that has them.",
        Example("# nothing yet\n"), _SOUND,
    ),
    Code(
        "GL006", "several documents",
        "The file holds more than one YAML document, divided by '---'.",
        "One file is one spec; it would be unclear which of them is meant.",
        Example(HEAD + "---\nseed: 1\n"), Example(HEAD + "seed: 1\n"),
    ),
    Code(
        "GL007", "not YAML",
        "The text breaks the rules of YAML at this place.",
        "Text after a syntax error is ambiguous, so the rest of this file is not checked.",
        over("vars: {attempts: 2\n"), over("vars: {attempts: 2}\n"),
    ),
    Code(
        "GL008", "tab as indentation",
        "A line begins with a tab.",
        "YAML indents with spaces only, since a tab has no fixed width.",
        over("vars:\n\tattempts: 2\n"), over("vars:\n  attempts: 2\n"),
    ),
    Code(
        "GL009", "key given twice",
        "The same key occurs twice in one mapping.",
        "Most programs silently use the last value; one of the two would be lost.",
        over("vars: {attempts: 2, attempts: 3}\n"), over("vars: {attempts: 3}\n"),
    ),
    Code(
        "GL010", "nested too deeply",
        "Values are nested deeper than 40 levels.",
        "No part of the language is nested that deep; a bound keeps hostile files from costing memory.",
        over(f"vars: {{attempts: {'[' * 40}2{']' * 40}}}\n"), over("vars: {attempts: 2}\n"),
    ),
    Code(
        "GL011", "aliases expand too far",
        "Aliases that repeat aliases stand for more than 100,000 values.",
        "A few lines can stand for billions of values. A bound keeps them from filling the memory.",
        Example(
            HEAD + "vars:\n  a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"  {n}: &{n} [{', '.join([f'*{p}'] * 10)}]\n" for p, n in zip("abcde", "bcdef", strict=True))
        ),
        over("vars:\n  a: &a [1, 1, 1]\n  b: [*a, *a]\n"),
    ),
    Code(
        "GL012", "alias inside its own anchor",
        "An alias stands inside the value that its anchor marks.",
        "The value would contain itself without end.",
        over("vars:\n  a: &a [1, *a]\n"), over("vars:\n  a: &a [1]\n  b: [*a]\n"),
    ),
    Code(
        "GL013", "unknown alias",
        "An alias names an anchor that does not stand above it in this file.",
        "Anchors are known from their place on, and only in their own file.",
        over("vars: {attempts: *many}\n"), over("vars: {few: &few 2, attempts: *few}\n"),
    ),
    Code(
        "GL014", "tag",
        "A value carries a YAML tag such as !!python/object or !env.",
        "Specs are data: no tag can make one run code or change its type unseen.",
        over("vars: {attempts: !!int '2'}\n"), over("vars: {attempts: 2}\n"),
    ),
    Code(
        "GL015", "key is not a name",
        "A key is itself a list or a mapping.",
        "Keys of a spec are names.",
        over("vars: {[a, b]: 2}\n"), over("vars: {a: 2, b: 2}\n"),
    ),
    Code(
        "GL016", "not a mapping",
        "The file holds a list or a single value, not keys with values.",
        "A spec is a mapping that begins with `gridloom: 1`.",
        Example("- gridloom: 1\n- extends: from-scratch\n"), _SOUND,
    ),
    Code(
        "GL017", "merge key",
        "A mapping uses the key '<<' of YAML 1.1.",
        "YAML 1.2 has no merge keys. `extends` merges whole specs and records the position of each value.",
        over("vars: &v {attempts: 2}\nmodels:\n  trm: {<<: *v}\n"), over("models:\n  trm: {layers: 2}\n"),
    ),
    Code(
        "GL018", "forbidden character",
        "The text holds a control character, such as NUL or a terminal escape.",
        "YAML forbids them; they usually mean that the file is not text.",
        over("description: a\x07b\n"), over("description: ab\n"),
    ),
)  # fmt: skip
