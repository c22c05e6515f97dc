"""Codes GL101-GL207: keys, values and names."""

from __future__ import annotations

from gridloom.compiler.codes.code import HEAD, Code, Example, over

VALIDATING = (
    Code(
        "GL101", "unknown key",
        "A key is not part of the language at this place.",
        "An ignored misspelt key would leave the default in force unnoticed.",
        over("stages: {pretrain: {stepz: 500}}\n"), over("stages: {pretrain: {steps: 500}}\n"),
    ),
    Code(
        "GL102", "wrong type",
        "A value is of another type than the field takes.",
        "Values are not converted: the text \"5\" is not a number, and true is not an integer.",
        over('stages: {pretrain: {steps: "500"}}\n'), over("stages: {pretrain: {steps: 500}}\n"),
    ),
    Code(
        "GL103", "missing key",
        "A section lacks a key that has no default.",
        "No default value would suit every spec.",
        over("stages: {again: {kind: train, data: arc1}}\n"),
        over("stages: {again: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL104", "unknown kind",
        "`kind` names no kind of this section.",
        "The kind decides which other keys there are.",
        over("stages: {again: {kind: trian, model: trm, data: arc1}}\n"),
        over("stages: {again: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL105", "no kind",
        "A section has no `kind`.",
        "The kind decides which other keys the section has.",
        over("stages: {again: {model: trm, data: arc1}}\n"),
        over("stages: {again: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL106", "out of range",
        "A number or a list's length lies outside of what the field takes.",
        "The value could not be run, or would not mean anything.",
        over("stages: {pretrain: {batch_size: -8}}\n"), over("stages: {pretrain: {batch_size: 8}}\n"),
    ),
    Code(
        "GL107", "not one of the choices",
        "The field takes one of a few words, and this is none of them.",
        "Other words have no meaning in this field.",
        over("models: {bridge: {mode: carrry}}\n"), over("models: {bridge: {mode: carry}}\n"),
    ),
    Code(
        "GL108", "not a name",
        "A name has characters that are not allowed in names, or `device` is not a device.",
        "Names become nodes of the graph, columns of the ledger and parts of paths.",
        over("stages: {my stage: {kind: train, model: trm, data: arc1}}\n"),
        over("stages: {my_stage: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL110", "unknown language version",
        "`gridloom` gives a version of the spec language that this program does not read.",
        "A later version may give the same words another meaning.",
        Example("gridloom: 2\nextends: from-scratch\nname: example\n"), Example(HEAD),
    ),
    Code(
        "GL111", "kind that cannot be loaded",
        "An installed package brings this kind of model, stage or proposer, and importing it failed.",
        "Its fields are not known, so no use of it can be checked; `gridloom plugins` lists what is installed.",
        over("models: {mine: {kind: broken_net}}\n"), over("models: {mine: {kind: trm}}\n"),
    ),
    Code(
        "GL201", "one name in two sections",
        "The same name stands in two of `data`, `models` and `stages`.",
        "`model: x` can mean a model or the checkpoint of a stage, so a name must have one meaning.",
        over("stages: {trm: {kind: train, model: trm, data: arc1}}\n"),
        over("stages: {train_trm: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL204", "unknown name",
        "A field names a dataset, model or stage that the spec does not have.",
        "The edge of the run graph would lead nowhere.",
        over("stages: {again: {kind: train, model: trm, data: arc2}}\n"),
        over("stages: {again: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL205", "model of another kind",
        "A field names a model, but one of a kind that it cannot use.",
        "A stage that trains a TRM cannot train a language model, and an adapter joins one of each.",
        over("stages: {again: {kind: train, model: llama, data: arc1}}\n"),
        over("stages: {again: {kind: train, model: trm, data: arc1}}\n"),
    ),
    Code(
        "GL206", "artifact of another type",
        "A field names a stage or dataset that makes something else than the field reads.",
        "Each stage publishes one type of artifact: a dataset, a checkpoint, attempts, a report.",
        over("stages: {again: {kind: train, model: solve, data: arc1}}\n"),
        over("stages: {again: {kind: train, model: pretrain, data: arc1}}\n"),
    ),
    Code(
        "GL207", "cycle of stages",
        "Stages that read each other's artifacts form a cycle.",
        "None of them could be the first to run.",
        over("stages:\n  a: {kind: train, model: b, data: arc1}\n  b: {kind: train, model: a, data: arc1}\n"),
        over("stages:\n  a: {kind: train, model: trm, data: arc1}\n  b: {kind: train, model: a, data: arc1}\n"),
    ),
)  # fmt: skip
