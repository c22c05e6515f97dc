"""What a joint spec can get wrong: each is told when compiling, by place, value and remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compiler_support import FACTS, LLAMA, SPEC

from gridloom.compiler.compile import compile_text
from gridloom.diagnostics import Diagnostic
from gridloom.errors import SpecError


def problems(*overrides: str, text: str = SPEC, facts: object = FACTS) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as error:
        compile_text(text, overrides=overrides, facts=facts)  # type: ignore[arg-type]
    return error.value.diagnostics


@pytest.mark.parametrize(
    "path",
    [
        "stages.joint.attempts",
        "stages.solve.solver.max_attempts",
        "stages.joint.batch_size",
        "models.llama.lora.rank",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1"])
def test_numbers_that_must_be_above_zero_are_named_with_their_place(path: str, value: str) -> None:
    [found] = problems(f"{path}={value}")
    assert (found.code, value in found.message) == ("GL106", True)
    assert path.rpartition(".")[2] in found.message


def test_adapters_between_other_widths_are_refused_with_both() -> None:
    wide = "  wide: {kind: trm, hidden_size: 128, num_heads: 4}\n  bridge:"
    found = problems("models.bridge.trm=wide", text=SPEC.replace("  bridge:", wide, 1))
    assert found[0].code == "GL310"
    assert "hidden_size 128" in found[0].message
    assert "hidden_size 64" in found[0].message
    other = "  other: {kind: llama, weights: ./llama}\n  bridge:"
    narrow = replace(FACTS, llamas={**FACTS.llamas, "./llama": replace(LLAMA, hidden_size=320)})
    found = problems("models.bridge.llm=other", text=SPEC.replace("  bridge:", other, 1), facts=narrow)
    assert found[0].code == "GL311"
    assert "hidden_size 320" in found[0].message
    assert "hidden_size 576" in found[0].message


def test_matrices_that_no_llama_has_are_refused_by_name() -> None:
    found = problems("models.llama.lora.targets=[q_prj]")
    assert any("q_prj" in diagnostic.message for diagnostic in found)
    assert problems("models.llama.lora.targets=[]")


def test_a_missing_language_model_says_how_to_use_a_local_folder() -> None:
    from gridloom.runtime.planning.facts import LocalFacts

    mixed = replace(FACTS)
    local = LocalFacts()

    class Both:
        data, checkpoint, task_keys, llama = mixed.data, mixed.checkpoint, mixed.task_keys, local.llama
        has_package = mixed.has_package

    found = problems("models.llama.weights=nobody/no-such-model", facts=Both())
    assert found[0].code == "GL322"
    assert "not in the Hugging Face cache" in found[0].message
    assert "weights: ./FOLDER" in (found[0].hint or "")


@pytest.mark.parametrize(
    ("override", "package", "extra"),
    [
        ("stages.joint.wandb={}", "wandb", "wandb"),
        ("stages.pretrain.wandb={mode: online}", "wandb", "wandb"),
        ("models.llama.lora={rank: 4}", "peft", "lora"),
        ("models.llama.quantize=nf4", "bitsandbytes", "quant"),
    ],
)
def test_an_absent_package_is_a_warning_that_names_the_extra(override: str, package: str, extra: str) -> None:
    assert not compile_text(SPEC, overrides=[override], facts=FACTS).warnings
    [found] = compile_text(SPEC, overrides=[override], facts=replace(FACTS, absent=frozenset({package}))).warnings
    assert (found.code, found.severity) == ("GL326", "warning")
    assert f"the package {package} is not installed" in found.message
    assert f"pip install 'gridloom[{extra}]'" in found.hint
    assert override.partition("=")[0] in str(found.span)


def test_an_absent_package_is_told_at_the_line_that_asks_for_it() -> None:
    text = SPEC.replace("weights: smollm2-135m}", "weights: smollm2-135m,\n          lora: {rank: 4}}")
    [found] = compile_text(text, facts=replace(FACTS, absent=frozenset({"peft", "wandb"}))).warnings
    assert found.span is not None
    assert text.splitlines()[found.span.line - 1].strip() == "lora: {rank: 4}}"


def test_packages_are_looked_for_and_not_imported() -> None:
    from gridloom.runtime.planning.facts import LocalFacts

    assert LocalFacts().has_package("json")
    assert not LocalFacts().has_package("no_such_package_anywhere")
