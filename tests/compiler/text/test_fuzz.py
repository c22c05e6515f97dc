"""The language under hypothesis: sound specs compile and come back the same, broken ones end in diagnostics."""

from __future__ import annotations

from typing import Any

import yaml
from compiler_support import FACTS, SPEC
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridloom.compiler.compile import compile_text
from gridloom.compiler.render import render, to_json
from gridloom.errors import SpecError

FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BASE = yaml.safe_load(SPEC)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["${vars.steps}", "${vars.nope}", "${", "$${x}", "arc1", "trm", "joint", ".inf", "0x1f", "1e-4"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def judged(text: str, overrides: tuple[str, ...] = ()) -> bool:
    """Compile; return whether it did. What it says must be drawable, and nothing but SpecError may come out."""
    try:
        graph = compile_text(text, overrides=overrides, facts=FACTS).graph
    except SpecError as error:
        said = error.diagnostics
    else:
        assert graph.to_json()
        return True
    assert said
    assert render(said)
    assert to_json(said)
    for diagnostic in said:
        assert diagnostic.span is not None
        assert diagnostic.span.line >= 1
        assert diagnostic.span.end_column >= diagnostic.span.column >= 1
    return False


@st.composite
def sound(draw: st.DrawFn) -> dict[str, Any]:
    """A spec that compiles: names, sizes and options drawn within the language."""
    trm, train = draw(st.lists(NAMES.filter(lambda n: n != "arc1"), min_size=2, max_size=2, unique=True))
    heads = draw(st.integers(1, 4))
    model = {
        "kind": "trm",
        "num_heads": heads,
        "hidden_size": heads * 2 * draw(st.integers(4, 40)),
        "layers": draw(st.integers(1, 4)),
        "mixing": draw(st.sampled_from(["attention", "mlp"])),
        "halt_exploration": draw(st.floats(0, 1)),
        "precision": draw(st.sampled_from(["fp32", "bf16"])),
    }
    stage = {
        "kind": "train",
        "model": trm,
        "data": "arc1",
        "steps": draw(st.integers(1, 10**6)),
        "optimizer": {"kind": draw(st.sampled_from(["adamw", "adam_atan2"])), "lr": draw(st.floats(1e-9, 1))},
        "clip_norm": draw(st.none() | st.floats(0.01, 10)),
    }
    return {
        "gridloom": 1,
        "name": draw(NAMES),
        "seed": draw(st.integers(0, 2**31 - 1)),
        "data": {"arc1": {"kind": "arc", "canvas": draw(st.integers(10, 30) | st.just("auto"))}},
        "models": {trm: model},
        "stages": {train: stage},
    }


@FAST
@given(sound())
def test_sound_specs_compile_and_round_trip(spec: dict[str, Any]) -> None:
    first = compile_text(yaml.safe_dump(spec), facts=FACTS)
    written = first.spec.model_dump(mode="json", by_alias=True)
    again = compile_text(yaml.safe_dump(written), facts=FACTS)
    assert again.spec == first.spec
    assert again.graph.to_json() == first.graph.to_json()


@FAST
@given(st.data())
def test_mutated_specs_end_in_diagnostics(data: st.DataObject) -> None:
    spec = yaml.safe_load(SPEC)
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = spec
        while True:
            step = data.draw(st.sampled_from(sorted(node)))
            if not isinstance(node[step], dict) or not node[step] or data.draw(st.booleans()):
                break
            node = node[step]
        match data.draw(st.sampled_from(["replace", "remove", "rename", "add"])):
            case "replace":
                node[step] = data.draw(VALUES)
            case "remove":
                del node[step]
            case "rename":
                node[data.draw(st.text(max_size=8))] = node.pop(step)
            case "add":
                node[data.draw(st.text(max_size=8))] = data.draw(VALUES)
        if not spec:
            break
    judged(yaml.safe_dump(spec, allow_unicode=True))


@FAST
@given(st.data())
def test_damaged_text_ends_in_diagnostics(data: st.DataObject) -> None:
    text = SPEC
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = (
            text[:at]
            + data.draw(st.text(alphabet="{}[]:,#&*!|>'\"%@`- \t\n$\x00\u2028aE1.", max_size=6))
            + text[at + cut :]
        )
    judged(text)


@FAST
@given(st.text(max_size=80))
def test_any_text_ends_in_diagnostics(text: str) -> None:
    judged(text)


@FAST
@given(
    st.text(max_size=40),
    st.sampled_from(["", "stages.joint.steps=", "models.trm=", "vars.steps=", "data.arc1.subsets.0="]),
)
def test_any_override_ends_in_diagnostics(text: str, head: str) -> None:
    judged(SPEC, (head + text,))


@FAST
@given(
    st.dictionaries(
        st.sampled_from(["seed", "vars.steps", "models.trm", "stages.joint.steps", "x"]), VALUES, max_size=2
    )
)
def test_any_sweep_ends_in_diagnostics(sweep: dict[str, Any]) -> None:
    judged(SPEC + yaml.safe_dump({"sweep": sweep}, allow_unicode=True))


def test_the_sample_itself_compiles() -> None:
    assert judged(SPEC)
    assert BASE["name"] == "sample"
