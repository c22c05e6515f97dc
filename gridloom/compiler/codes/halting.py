"""Codes GL369-GL371: halting studies, restarts and initial states."""

from __future__ import annotations

from gridloom.compiler.codes.code import Code, over

_JUDGED = (
    "data: {sudokus: {kind: sudoku}}\nmodels: {small: {kind: trm, hidden_size: 64, num_heads: 4}}\n"
    "stages: {learn: {kind: train, model: small, data: sudokus}, judge: {%s, with: learn, data: sudokus}}\n"
)
_PARITY = (
    "data: {bits: {kind: parity}}\nmodels: {rnn: {kind: act_rnn}}\n"
    "stages: {learn: {kind: train, model: rnn, data: bits%s}}\n"
)

HALTING = (
    Code(
        "GL369", "nothing to study",
        "A halting_study stage reads ARC tasks, or puzzles without a test split.",
        "It compares answers of test rows that a network answers in one pass with the right ones.",
        over("stages: {study: {kind: halting_study, with: pretrain, data: arc1}}\n"),
        over(_JUDGED % "kind: halting_study"),
    ),
    Code(
        "GL370", "restarts that cannot be done",
        "`restarts` are set for ARC tasks, with `halt`, with an `ensemble` or for a network without states; or their "
        "options `noise`, `noise_at` or `choose` are set without restarts.",
        "Restarts add noise to the states of a recursive network, run every ACT step, and choose one of the answers.",
        over(_JUDGED % "kind: evaluate, choose: rules"), over(_JUDGED % "kind: evaluate, choose: rules, restarts: 8"),
    ),
    Code(
        "GL371", "no initial states to draw",
        "A train stage has `initial_state: random`, and its network has no states that rows start from.",
        "Only recursive networks keep states between ACT steps.",
        over(_PARITY % ", initial_state: random"), over(_PARITY % ""),
    ),
)  # fmt: skip
