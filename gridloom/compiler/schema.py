"""JSON Schema (draft-07) of the spec language for editors, generated from the models with the fields' docs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gridloom.compiler.language import Spec
from gridloom.specs.fields import docs

_VARIABLE = {"type": "string", "pattern": r"\$\{vars\.[^}]+\}"}
"""Schema of a variable, which an editor must accept in place of any value."""


class _WithDocs(GenerateJsonSchema):
    """Generator that adds the fields' docs to the schema of each model."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for key, text in docs(model).items():
            made["properties"][key].setdefault("description", text)
        return made


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a spec file.

    The schema accepts more than the compiler where a file may be a part of a spec: with `extends`, missing keys may
    come from the base, and null removes an entry.
    """
    raw = Spec.model_json_schema(by_alias=True, ref_template="#/definitions/{model}", schema_generator=_WithDocs)
    definitions = {name: _convert(value) for name, value in raw.pop("$defs", {}).items()}
    top = _convert(raw)
    for section in ("data", "models", "stages"):
        entries = top["properties"][section]["additionalProperties"]
        top["properties"][section]["additionalProperties"] = {"anyOf": [entries, {"type": "null"}]}
    top["properties"]["gridloom"] = {"const": 1, "description": top["properties"]["gridloom"].get("description", "")}
    top["required"] = ["gridloom"]
    top["if"] = {"not": {"required": ["extends"]}}
    top["then"] = {"required": ["gridloom", "name", "stages"]}
    head: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gridloom spec",
    }
    return {**head, **top, "definitions": definitions}


def _convert(node: Any) -> Any:
    """Rewrite one schema node for draft-07, accepting variables as leaves."""
    if isinstance(node, list):
        return [_convert(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _convert(value) for key, value in node.items() if key not in ("discriminator", "title", "required")}
    if "properties" in node:
        # pydantic's titles repeat the keys, and a field may be called `title` or `required`
        out["properties"] = {key: _convert(value) for key, value in node["properties"].items()}
    if "patternProperties" in out:
        ((pattern, values),) = out.pop("patternProperties").items()
        out |= {"propertyNames": {"pattern": pattern}, "additionalProperties": values}
    if "$ref" in out and len(out) > 1:
        out["allOf"] = [{"$ref": out.pop("$ref")}]  # draft-07 ignores keywords beside a $ref
    if "prefixItems" in out:
        out["items"] = out.pop("prefixItems")
        out["additionalItems"] = False
    if "oneOf" in out:
        # without `required` several kinds may match a half-written entry
        out["anyOf"] = out.pop("oneOf")
    return _or_variable(out) if _is_leaf(out) else out


def _is_leaf(node: dict[str, Any]) -> bool:
    return node.get("type") in ("integer", "number", "boolean", "array") or ("enum" in node and "const" not in node)


def _or_variable(node: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {key: node.pop(key) for key in ("description", "default") if key in node}
    return {"anyOf": [node, dict(_VARIABLE)], **out}
