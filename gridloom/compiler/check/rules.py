"""Pass that refuses a spec which would fail, or give a misleading result, once it runs.

A rule is a function of the bound spec with its facts. Rules skip sections whose own values were refused, since errors
that follow from a refused value would only repeat the first one.
"""

from __future__ import annotations

from collections.abc import Callable

from gridloom.compiler.bind import Bound
from gridloom.compiler.check.data import (
    answers_are_held_out,
    answers_are_known,
    calibration_needs_a_checkpoint,
    canvas_holds_grids,
    evaluate_options_fit,
    sequences_are_scored,
    sources_are_not_generated,
    subsets_exist,
    tasks_fit_training,
    training_keeps_canvas,
    verifier_has_demonstrations,
)
from gridloom.compiler.check.fit import (
    canvases_fit_network,
    checkpoint_fits_data,
    given_checkpoint_fits,
    positions_fit_rows,
    rows_fit_network,
)
from gridloom.compiler.check.halting import initial_states_exist, restarts_can_be_done, study_has_rows
from gridloom.compiler.check.leaks import (
    calibration_sees_no_task_it_judges,
    given_weights_hold_no_held_out_answer,
    subsets_share_no_task,
    training_draws_no_test_puzzle,
    training_sees_no_held_out_answer,
)
from gridloom.compiler.check.models import (
    adapters_fit,
    language_model_is_frozen,
    language_model_is_here,
    lora_is_trained,
    packages_are_here,
    pondering_ends,
    proposer_fits,
    text_fits_context,
    values_agree,
    weights_are_whole,
)
from gridloom.compiler.check.packed import packed_options_agree, packed_rows_fit_network, token_budgets_hold_a_row
from gridloom.compiler.check.validation import validation_can_be_done, validation_reads_no_scored_answer
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, read_facts

RULES: tuple[Callable[[SpecFacts, Session], None], ...] = (
    values_agree,
    pondering_ends,
    language_model_is_frozen,
    lora_is_trained,
    proposer_fits,
    language_model_is_here,
    packages_are_here,
    weights_are_whole,
    adapters_fit,
    text_fits_context,
    subsets_exist,
    sources_are_not_generated,
    canvas_holds_grids,
    answers_are_held_out,
    answers_are_known,
    evaluate_options_fit,
    sequences_are_scored,
    verifier_has_demonstrations,
    calibration_needs_a_checkpoint,
    tasks_fit_training,
    training_keeps_canvas,
    rows_fit_network,
    positions_fit_rows,
    canvases_fit_network,
    packed_options_agree,
    packed_rows_fit_network,
    token_budgets_hold_a_row,
    checkpoint_fits_data,
    given_checkpoint_fits,
    training_sees_no_held_out_answer,
    given_weights_hold_no_held_out_answer,
    subsets_share_no_task,
    training_draws_no_test_puzzle,
    calibration_sees_no_task_it_judges,
    validation_can_be_done,
    validation_reads_no_scored_answer,
    study_has_rows,
    restarts_can_be_done,
    initial_states_exist,
)


def check(bound: Bound, session: Session) -> SpecFacts:
    """Read facts and apply every rule. Records GL301-GL406."""
    spec_facts = read_facts(bound, session)
    for rule in RULES:
        rule(spec_facts, session)
    return spec_facts
