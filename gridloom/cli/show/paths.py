"""Records of latent planning, and rows read by their concepts, as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridloom.runtime.model_check.concept_table import Reading
    from gridloom.runtime.model_check.paths import PathRecord


def path_rows(records: list[PathRecord], every_step: bool) -> list[dict[str, Any]]:
    """Return a table row for each record of the last ACT step, or of all."""
    last = max(record.step for record in records)
    return [
        {
            "row": record.row,
            "step": record.step,
            "gate": f"{record.gate:.3f}",
            "path": "skipped" if record.chosen is None else record.chosen,
            "weights": " ".join(f"{weight:.3f}" for weight in record.weights),
            "values": " ".join(f"{value:+.2f}" for value in record.values),
            "thoughts": " | ".join(" ".join(f"{norm:.1f}" for norm in norms) for norms in record.thoughts),
        }
        for record in records
        if every_step or record.step == last
    ]


def reading_rows(readings: list[Reading]) -> list[dict[str, Any]]:
    """Return a table row for each row of the data."""
    return [
        {
            "row": number,
            "text": reading.text,
            "by its concepts": reading.decoded,
            "words": f"{reading.right:.0%}",
            "unknown": reading.unknown,
        }
        for number, reading in enumerate(readings)
    ]
