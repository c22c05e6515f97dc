"""Names that become parts of paths: ids of tasks, names of stages and subsets. Checked when read and before writing."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from gridloom.errors import DataError

MAX_BYTES = 200
"""Longest name in bytes of UTF-8; file systems take 255 with what a writer puts around the name."""
_SEPARATORS = re.compile(r"[/\\:]")
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that Windows opens as devices, with any suffix."""


def why_not_plain(name: str) -> str:
    """Return why a name cannot be that of a file in any folder on any system; empty for a plain name."""
    if not name:
        return "it is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not UTF-8 text"
    if size > MAX_BYTES:
        return f"it has {size:,} bytes, more than {MAX_BYTES}"
    if match := _SEPARATORS.search(name):
        return f"it holds '{match[0]}'"
    if control := next((c for c in name if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")), None):
        return f"it holds the character U+{ord(control):04X}"
    if name[0] in ". " or name[-1] in ". ":
        return "it begins or ends with a dot or a space"
    if _RESERVED.fullmatch(name):
        return "some systems open a device of that name"
    return ""


def check_plain(name: str, what: str, where: str) -> str:
    """Return a plain name. Raises DataError that names the place and the name.

    Args:
        what: what the name is of, such as `task id`.
        where: file or record that holds the name.
    """
    if problem := why_not_plain(name):
        # an id of a hostile file can be of any length and hold what moves a terminal's cursor
        shown = ascii(name if len(name) <= 80 else f"{name[:77]}...")
        raise DataError(
            f"{where}: {what} {shown} is no plain name: {problem}",
            "ids become names of files: rename it, without / \\ : and without a dot at the start",
        )
    return name


def file_named(folder: Path, name: str, suffix: str = "", what: str = "task id") -> Path:
    """Return FOLDER/NAME+SUFFIX for a name from data. Raises DataError unless the name is plain.

    Every writer of a file that is called by an id comes here, since records can be older than the check of the reader.
    """
    return folder / f"{check_plain(name, what, str(folder))}{suffix}"
