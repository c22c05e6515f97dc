"""A backend of torch.compile that compiles nothing and counts: is a loop one graph, and how often is one made?"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gridloom.runtime.models.recursive import torch_compile as compiled


def count_graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let loops be traced and differentiated, then run as they are; returns a list that each graph is put into."""
    graphs: list[Any] = []

    def traced(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(compiled, "BACKEND", traced)
    torch._dynamo.reset()
    return graphs
