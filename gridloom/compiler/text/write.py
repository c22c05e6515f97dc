"""Plain data -> YAML text in which every value keeps its type: specs given as a dict, values given to `set`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

from gridloom.compiler.text.load import resolve_scalar
from gridloom.errors import GridloomError

_SAFE = re.compile(r"[A-Za-z0-9_./+-]+")
"""Text that needs no quotes in any place of a YAML document, unless it means a number or a word such as `true`."""


def spec_text(spec: Mapping[str, Any]) -> str:
    """Write a spec given as data: one line a key down to the fields of a section, values in flow style.

    Raises GridloomError for a value that YAML has no form for, with its path.
    """
    lines: list[str] = []
    for key, value in spec.items():
        if not isinstance(value, Mapping) or not value:
            lines.append(f"{_key(key, ())}: {value_text(value, (key,))}")
            continue
        lines.append(f"{_key(key, ())}:")
        lines += [f"  {_key(name, (key,))}: {value_text(inner, (key, name))}" for name, inner in value.items()]
    return "".join(f"{line}\n" for line in lines) or "{}\n"


def override_text(path: str, value: Any) -> str:
    """Write one override as `--set` takes it: PATH=VALUE. Raises GridloomError as `spec_text`."""
    return f"{path}={value_text(value, tuple(path.split('.')))}"


def value_text(value: Any, path: tuple[Any, ...] = ()) -> str:
    """Write a value in YAML's flow style, on one line. Raises GridloomError as `spec_text`; `path` names the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return _float(float(value))
    if isinstance(value, str | PurePath):
        return _quoted(str(value))
    if isinstance(value, Mapping):
        pairs = (f"{_key(key, path)}: {value_text(inner, (*path, key))}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(inner, (*path, i)) for i, inner in enumerate(value)) + "]"
    shown = ".".join(map(str, path)) or "the spec"
    raise GridloomError(
        f"{shown}: a spec has no form for {type(value).__name__} {value!r:.40}",
        "give a number, text, true or false, None, a list or a dict",
    )


def _key(key: Any, path: tuple[Any, ...]) -> str:
    if isinstance(key, str):
        return _quoted(key)
    where = ".".join(map(str, path)) or "the spec"
    raise GridloomError(f"{where}: the key {key!r:.40} is {type(key).__name__}, not text", "write it as a str")


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    return repr(value)


def _quoted(text: str) -> str:
    """Write text plain where it then is read as that text, else in double quotes."""
    if _SAFE.fullmatch(text) and not text.startswith("-") and resolve_scalar(text) == text:
        return text
    # JSON's escapes are YAML's too, but YAML has no surrogate pairs: beyond U+FFFF it takes eight digits
    escaped = (c if c.isprintable() else _escape(c) for c in json.dumps(text, ensure_ascii=False))
    return "".join(escaped)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
