"""Sequences in validation and evaluation: streams apart, rows of other lengths, GL343, GL346, GL366, GL406."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gridloom.compiler.compile import Compiled, compile_text
from gridloom.compiler.facts import CheckpointFacts, Facts
from gridloom.errors import SpecError
from gridloom.runtime.planning.facts import LocalFacts

SPEC = """\
gridloom: 1
name: halting
data:
  bits: {kind: parity, bits: 16, width: 32}
  more: {kind: parity, bits: 32, min_bits: 17%s}
  reseeded: {kind: parity, bits: 16, width: 32, seed: 1}
  steps: {kind: logic, steps: 4}
  longer: {kind: logic, steps: 9}
  words: {kind: copy, length: 6}
  letters: {kind: copy, length: 9}
  sums: {kind: addition, numbers: %d}
models:
  rnn: {kind: act_rnn}
  trm: {kind: trm, hidden_size: 64, num_heads: 4}
stages:
  learn: {kind: train, model: %s, data: %s, steps: 100%s}
  judge: {kind: evaluate, with: learn, data: %s}
"""


def compiled(
    data: str, judged: str, *, model: str = "rnn", more: str = "", width: str = "", numbers: int = 3
) -> Compiled:
    return compile_text(SPEC % (width, numbers, model, data, more, judged), facts=LocalFacts())


def refused(*given: str, **named: object) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as error:
        compiled(*given, **named)  # type: ignore[arg-type]
    return [(one.code, one.message) for one in error.value.diagnostics]


def test_rows_of_other_lengths_are_taken_where_the_network_runs_on_any() -> None:
    compiled("bits", "bits")
    compiled("bits", "more")
    compiled("steps", "longer")
    made = "the network of 'learn' cannot take the rows of '%s' in 'judge': %s"
    assert refused("bits", "more", width=", width: 40") == [
        ("GL343", made % ("more", "they are vectors of 40, not vectors of 32"))
    ]
    assert refused("words", "letters", model="trm") == [
        ("GL343", made % ("letters", "they have 10 tokens, not 7, and a trm runs on one length only"))
    ]
    assert [code for code, _ in refused("bits", "steps")] == ["GL343"]


def test_a_given_checkpoint_is_judged_by_the_form_that_its_network_reads() -> None:
    text = SPEC.replace(
        "  learn: {kind: train, model: %s, data: %s, steps: 100%s}", "  learn: {kind: checkpoint, path: ./rnn}"
    )
    rnn = {"kind": "act_rnn", "hidden_size": 128}
    given = CheckpointFacts("rnn", "act_rnn", 128, "logic", 0, 4, 3, network_spec=rnn, row_form=(102, 1, 0))

    class Given(LocalFacts):
        facts = given

        def checkpoint(self, path: str, base: str) -> CheckpointFacts:
            return self.facts

    def judged(facts: Facts, data: str) -> Compiled:
        return compile_text(text % ("", 3, data), facts=facts)

    judged(Given(), "longer")
    narrow = Given()
    narrow.facts = replace(given, row_form=(22, 1, 0))
    with pytest.raises(SpecError, match="they are vectors of 102, not vectors of 22"):
        judged(narrow, "longer")
    with pytest.raises(SpecError, match="GL343"):
        judged(Given(), "bits")


def test_weights_chosen_by_the_test_stream_are_not_evaluated_on_it() -> None:
    compiled("bits", "bits", more=", validate: {split: validation}")
    counts = "'judge' counts rows of the test stream of '%s', by which 'learn' chose its weights"
    for judged in ("bits", "more"):  # rows of one seed share their random numbers, whatever their lengths
        assert refused("bits", judged, more=", validate: {split: test}") == [("GL406", counts % judged)]
    compiled("bits", "reseeded", more=", validate: {split: test}")
    assert refused("bits", "bits", more=", validate: {split: tests}") == [
        ("GL349", "'bits' has no split 'tests' to validate on")
    ]


def test_an_addition_of_one_number_asks_for_nothing() -> None:
    message = "no row of 'sums' has a second number, so no sum is asked for and nothing is scored"
    assert refused("bits", "bits", numbers=1) == [("GL366", message)]


def test_options_of_votes_do_not_apply() -> None:
    assert refused("bits", "bits, views: 4") == [("GL346", "'views' is for ARC tasks, and 'bits' is a parity dataset")]


def test_the_estimate_counts_the_rows_of_an_evaluation() -> None:
    def batches(judged: str) -> int:
        cost = compiled("bits", judged).graph.node("judge").cost
        assert cost is not None
        return cost.num_steps

    assert batches("bits") == 40  # 10,000 rows in batches of 256
    assert batches("bits, limit: 100, batch_size: 10") == 10
