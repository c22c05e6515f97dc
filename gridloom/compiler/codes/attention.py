"""Codes GL363-GL365: widths and signals of Universal Transformers."""

from __future__ import annotations

from gridloom.compiler.codes.code import Code, over

_HEADS = (
    "data: {bits: {kind: parity, layout: sequence}}\n"
    "models: {ut: {kind: universal_transformer, heads: %d}}\n"
    "stages: {learn: {kind: train, model: ut, data: bits}}\n"
)

ATTENTION = (
    Code(
        "GL363", "heads do not divide a depth",
        "`key_depth` or `value_depth` of a universal_transformer, or its `hidden_size` where the depth is 0, is not a "
        "multiple of `heads`.",
        "Each head takes an equal share of the keys and of the values.",
        over(_HEADS % 6), over(_HEADS % 8),
    ),
)  # fmt: skip
