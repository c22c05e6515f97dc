"""Optional packages: the error where one is needed and not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gridloom.errors import GridloomError


@contextmanager
def needed(package: str, extra: str, what_for: str, otherwise: str = "") -> Iterator[None]:
    """Guard imports of an optional package. Raises GridloomError with the extra to install where it is missing.

    Args:
        otherwise: remedy without the package.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise GridloomError(
            f"{what_for} needs the package {package}, which is not installed",
            f"pip install 'gridloom[{extra}]'" + (f", or {otherwise}" if otherwise else ""),
        ) from error
