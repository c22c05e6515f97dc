"""HTML files that stand alone: style and script are inside, and a policy lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gridloom.errors import StoreError
from gridloom.stores.files.write_aside import replacing
from gridloom.version import __version__
from gridloom.view.html import FOLDER, render


def alone(template: str, **values: Any) -> str:
    """Return a template filled with values as one file, which loads nothing and runs only the viewer's own script."""
    style, script = ((FOLDER / "static" / name).read_text(encoding="utf-8") for name in ("view.css", "view.js"))
    # inserted as they are: both are files of this package, and hold neither </style> nor </script>
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    common = {"style": Markup(style), "script": Markup(script), "policy": policy, "version": __version__}
    return render(template, **(common | values))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. Raises StoreError where it cannot be written."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with replacing(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise StoreError(message, "name a file in a folder that can be written") from error
