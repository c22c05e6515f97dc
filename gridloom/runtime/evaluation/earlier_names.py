"""Names of figures in the earlier halting lab, beside gridloom's own, for networks that ponder.

| gridloom | earlier lab |
|---|---|
| loss | loss_total |
| loss_classification, loss_ponder | the same |
| exact_match; exact | accuracy_sequence (addition, copy, sort, string_addition), puz_acc (puzzles) |
| cell_accuracy | accuracy (parity, logic), accuracy_place (addition, copy, sort, string_addition), cell_acc (puzzles) |
| step_accuracy | accuracy_step |
| act_steps, act_steps_p50, act_steps_p90 | steps, steps_p50, steps_p90 |
| halt_natural, halt_forced | halt_natural_ratio, halt_forced_ratio |
| remainder_mean, remainder_std, focus_precision, focus_recall, focus_f1 | the same |
| ponder_weight | time_penalty_current |

The ledger has both names, those of a validation after `validation_`. Weights & Biases has the earlier ones after
`train/`, `val/` or `test/`.
"""

from __future__ import annotations

from collections.abc import Mapping

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.pondering_spec import PonderingSpec

VALIDATION = "validation_"
"""Prefix of the figures of a validation."""
TEST_NAMES = "test/"
"""Prefix of the earlier names of an evaluation at Weights & Biases."""
_OF_ALL = {
    "loss": "loss_total",
    "loss_classification": "loss_classification",
    "loss_ponder": "loss_ponder",
    "step_accuracy": "accuracy_step",
    "act_steps": "steps",
    "act_steps_p50": "steps_p50",
    "act_steps_p90": "steps_p90",
    "halt_natural": "halt_natural_ratio",
    "halt_forced": "halt_forced_ratio",
    "remainder_mean": "remainder_mean",
    "remainder_std": "remainder_std",
    "focus_precision": "focus_precision",
    "focus_recall": "focus_recall",
    "focus_f1": "focus_f1",
    "ponder_weight": "time_penalty_current",
}
_PUZZLES = {"exact_match": "puz_acc", "exact": "puz_acc", "cell_accuracy": "cell_acc"}
_ONE_ANSWER_A_STEP = {"cell_accuracy": "accuracy"}
_DIGITS = {"exact_match": "accuracy_sequence", "exact": "accuracy_sequence", "cell_accuracy": "accuracy_place"}
_OF_KIND = {"parity": _ONE_ANSWER_A_STEP, "logic": _ONE_ANSWER_A_STEP} | dict.fromkeys(
    ("addition", "copy", "sort", "string_addition"), _DIGITS
)


def earlier_kind(spec: NetworkSpec, kind: str) -> str | None:
    """Return the kind of data by which figures have earlier names; None for a network that does not ponder."""
    return kind if isinstance(spec, PonderingSpec) else None


def earlier_names(kind: str | None, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that the ledger holds under an earlier name too; none where `kind` is None."""
    return {} if kind is None else {name: value for name, value in _named(kind, figures) if name not in figures}


def wandb_names(kind: str | None, figures: Mapping[str, float], of: str = "train/") -> dict[str, float]:
    """Return the figures under the earlier names with their prefix: `of`, and `val/` for those of a validation."""
    if kind is None:
        return {}
    found = {}
    for name, value in _named(kind, figures):
        plain = name.removeprefix(VALIDATION)
        found[("val/" if plain != name else of) + plain] = value
    return found


def _named(kind: str, figures: Mapping[str, float]) -> list[tuple[str, float]]:
    names = _OF_ALL | _OF_KIND.get(kind, _PUZZLES)
    found = []
    for name, value in figures.items():
        plain = name.removeprefix(VALIDATION)
        if plain in names:
            found.append((name[: len(name) - len(plain)] + names[plain], value))
    return found
