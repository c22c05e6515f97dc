"""The JSON Schema of the language: draft-07, complete, documented, and in agreement with the compiler."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gridloom.compiler.language import Spec
from gridloom.compiler.schema import json_schema
from gridloom.compiler.text.library import list_recipes, recipe_text
from gridloom.runtime.planning.starter import init_text
from gridloom.specs.base import SpecModel
from gridloom.specs.fields import docs, field_shape, keys


def models(model: type[SpecModel] = Spec, seen: set[type[SpecModel]] | None = None) -> set[type[SpecModel]]:
    """Return every model that a spec can hold."""
    seen = set() if seen is None else seen
    seen.add(model)
    for key in keys(model):
        place = field_shape(model, key)
        inner = place.values
        for found in (*place.models, *(inner.models if inner else ())):
            if found not in seen:
                models(found, seen)
    return seen


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(value)


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Judge a value by the keywords that the schema uses, as draft-07 defines them."""
    if "$ref" in schema:
        return fits(value, root["definitions"][schema["$ref"].rpartition("/")[2]], root)
    checks = {
        "anyOf": lambda options: any(fits(value, option, root) for option in options),
        "allOf": lambda parts: all(fits(value, part, root) for part in parts),
        "const": lambda wanted: value == wanted,
        "enum": lambda choices: value in choices,
        "type": lambda name: _is(value, name),
        "pattern": lambda text: not isinstance(value, str) or re.search(text, value) is not None,
        "minimum": lambda low: not _is(value, "number") or value >= low,
        "maximum": lambda high: not _is(value, "number") or value <= high,
        "exclusiveMinimum": lambda low: not _is(value, "number") or value > low,
        "exclusiveMaximum": lambda high: not _is(value, "number") or value < high,
        "multipleOf": lambda step: not _is(value, "number") or value % step == 0,
        "required": lambda names: not isinstance(value, dict) or set(names) <= set(value),
        "not": lambda inner: not fits(value, inner, root),
    }
    for keyword, argument in schema.items():
        if keyword in checks and not checks[keyword](argument):
            return False
    if "if" in schema and fits(value, schema["if"], root) and not fits(value, schema["then"], root):
        return False
    if isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        extra = schema.get("additionalProperties", True)
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, extra)
            if inner is False or (isinstance(inner, dict) and not fits(item, inner, root)):
                return False
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(fits(item, schema["items"], root) for item in value)
    return True


def _is(value: Any, name: str) -> bool:
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    return isinstance(value, kinds[name]) and not (isinstance(value, bool) and name in ("integer", "number"))


def test_schema_is_json_and_draft_07() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    modern = {"prefixItems", "$defs", "dependentRequired", "unevaluatedProperties", "discriminator"}
    for node in nodes(schema):
        assert not modern & set(node)
        if "$ref" in node:
            assert len(node) == 1, "draft-07 ignores what stands beside a $ref"
            assert node["$ref"].rpartition("/")[2] in schema["definitions"]


def test_every_field_of_the_language_is_in_the_schema_with_its_documentation() -> None:
    schema = json_schema()
    for model in models():
        full = f"{model.__module__}.{model.__name__}".replace(".", "__")  # where two models share a name
        shown = schema if model is Spec else schema["definitions"].get(model.__name__) or schema["definitions"][full]
        for key in keys(model):
            assert key in shown["properties"], (model, key)
            if key != "kind":
                assert docs(model).get(key), f"{model.__name__}.{key} has no documentation"
                assert shown["properties"][key].get("description"), (model, key)


@pytest.mark.parametrize("text", [*(recipe_text(recipe.name) for recipe in list_recipes()), init_text("mine")])
def test_specs_that_compile_fit_the_schema(text: str) -> None:
    schema = json_schema()
    assert fits(yaml.safe_load(text), schema, schema)


@pytest.mark.parametrize(
    "text",
    [
        "name: x\nstages: {}\n",
        "gridloom: 1\nname: x\n",
        "gridloom: 2\nextends: from-scratch\n",
        "gridloom: 1\nextends: from-scratch\nsede: 1\n",
        "gridloom: 1\nextends: from-scratch\nstages: {pretrain: {kind: train, stepz: 1}}\n",
        "gridloom: 1\nextends: from-scratch\nstages: {pretrain: {kind: train, steps: -1}}\n",
        "gridloom: 1\nextends: from-scratch\nmodels: {trm: {kind: trm, mixing: cnn}}\n",
        "gridloom: 1\nextends: from-scratch\nstages: {pretrain: {kind: trian}}\n",
    ],
)
def test_what_the_compiler_refuses_the_schema_refuses(text: str) -> None:
    schema = json_schema()
    assert not fits(yaml.safe_load(text), schema, schema)


def test_variables_and_removals_fit_anywhere() -> None:
    text = 'gridloom: 1\nextends: from-scratch\nstages: {joint: null, pretrain: {kind: train, steps: "${vars.n}"}}\n'
    schema = json_schema()
    assert fits(yaml.safe_load(text), schema, schema)


def test_names_of_other_packages_fit_and_built_in_ones_are_listed() -> None:
    schema = json_schema()
    solver = "{policy: theirs, proposer: theirs, verifier: {theirs: 1.5}}"
    text = f"gridloom: 1\nextends: from-scratch\nstages: {{solve: {{kind: solve, solver: {solver}}}}}\n"
    assert fits(yaml.safe_load(text), schema, schema)
    assert not fits(yaml.safe_load(text.replace("1.5", "heavy")), schema, schema)
    properties = schema["definitions"]["Solver"]["properties"]
    listed = {key: [node["enum"] for node in nodes(properties[key]) if "enum" in node] for key in properties}
    assert listed["policy"] == [["fixed", "escalate", "bandit"]]
    assert listed["proposer"] == [["auto", "trm", "text", "search"]]
