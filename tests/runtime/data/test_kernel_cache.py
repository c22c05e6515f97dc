"""Compiled kernels where no folder can hold their machine code."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core import caching

from gridloom.runtime.data.kernels import kernel


def test_kernels_run_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(value: np.uint64) -> np.uint64:
        return value + value

    monkeypatch.setattr(caching.FunctionCache, "_impl_class", caching.CompileResultCacheImpl)
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        caching.FunctionCache(doubled)
    assert kernel(doubled)(np.uint64(21)) == 42
