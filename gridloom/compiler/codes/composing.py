"""Codes GL030-GL055: extends, vars, overrides and sweeps."""

from __future__ import annotations

from gridloom.compiler.codes.code import HEAD, Code, Example, over

_SOUND = Example(HEAD)

COMPOSING = (
    Code(
        "GL030", "unknown recipe",
        "A name that is not a path was looked up among the recipes of the library and not found.",
        "`gridloom specs list` shows the recipes. A path ends in .yaml or starts with ./",
        Example("gridloom: 1\nextends: quikstart\nname: example\n"), _SOUND,
    ),
    Code(
        "GL031", "extended file is missing",
        "`extends` names a path, and there is no file there.",
        "Relative paths start from the folder of the file that has `extends`.",
        Example("gridloom: 1\nextends: ./comon.yaml\nname: example\n", files={"common.yaml": HEAD}),
        Example("gridloom: 1\nextends: ./common.yaml\nname: example\n", files={"common.yaml": HEAD}),
    ),
    Code(
        "GL033", "cycle of extends",
        "A spec extends itself, directly or through other specs, or leads through more than 40 files.",
        "There would be no first file to start from.",
        Example("gridloom: 1\nextends: ./b.yaml\nname: a\n", files={"b.yaml": "extends: ./spec.yaml\n"}),
        Example("gridloom: 1\nextends: ./b.yaml\nname: a\n", files={"b.yaml": HEAD}),
    ),
    Code(
        "GL034", "unknown variable",
        "`${vars.NAME}` uses a name that `vars` does not have.",
        "A variable without a value would leave a value of the spec undefined.",
        over('stages: {pretrain: {steps: "${vars.step}"}}\nvars: {steps: 50}\n'),
        over('stages: {pretrain: {steps: "${vars.steps}"}}\nvars: {steps: 50}\n'),
    ),
    Code(
        "GL035", "not a variable",
        "`${...}` holds something else than vars.NAME, or is not closed.",
        "Only variables are filled in: no environment, no expressions. Write $${ for the characters '${' themselves.",
        over('description: "${HOME}"\n'), over('description: "$${HOME}"\n'),
    ),
    Code(
        "GL036", "list or mapping inside a text",
        "A variable that holds a list or mapping is used in the middle of a text.",
        "A list or mapping has no single textual form. As a whole value it keeps its type.",
        over('vars: {which: [training]}\ndata: {arc1: {subsets: ["${vars.which}!"]}}\n'),
        over('vars: {which: [training]}\ndata: {arc1: {subsets: "${vars.which}"}}\n'),
    ),
    Code(
        "GL037", "cycle of variables",
        "A variable uses itself, directly or through other variables.",
        "None of them has a value to start from.",
        over('vars: {a: "${vars.b}", b: "${vars.a}"}\n'), over('vars: {a: "${vars.b}", b: 2}\n'),
    ),
    Code(
        "GL038", "variables expand too far",
        "Variables that use variables stand for more than 100,000 values, 40 levels, or a chain of 40.",
        "A few lines can stand for billions of values, as with aliases. A bound keeps them from filling the memory.",
        over(
            "vars:\n  a: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(
                f"  {n}: [{', '.join([chr(34) + '${vars.' + p + '}' + chr(34)] * 10)}]\n"
                for p, n in zip("abcde", "bcdef", strict=True)
            )
        ),
        over('vars:\n  a: [1, 1, 1]\n  b: ["${vars.a}", "${vars.a}"]\n'),
    ),
    Code(
        "GL040", "override without '='",
        "An argument of --set is not PATH=VALUE.",
        "Without a value there is nothing to set.",
        Example(HEAD, ("seed",)), Example(HEAD, ("seed=1",)),
    ),
    Code(
        "GL041", "override of nothing",
        "The path of a --set leads to a section, entry or field that does not exist.",
        "A typo in an override must not silently become a new key that nothing reads.",
        Example(HEAD, ("stages.pretrian.steps=50",)), Example(HEAD, ("stages.pretrain.steps=50",)),
    ),
    Code(
        "GL042", "override is not YAML",
        "The value of a --set is not a YAML scalar, list or mapping.",
        "Values are read as in a spec: 1e-4 is a number, [a, b] a list, {kind: adamw} a mapping.",
        Example(HEAD, ("data.arc1.subsets=[training",)), Example(HEAD, ("data.arc1.subsets=[training]",)),
    ),
    Code(
        "GL043", "override that nothing reads",
        "A --set changes a variable that no value of the spec uses. This is a warning.",
        "The run would be the same without it. A YAML alias of the value repeats the file, not the override.",
        Example(HEAD + "vars: {width: &width 64}\nmodels: {trm: {hidden_size: *width}}\n", ("vars.width=128",)),
        Example(HEAD + 'vars: {width: 64}\nmodels: {trm: {hidden_size: "${vars.width}"}}\n', ("vars.width=128",)),
        severity="warning",
    ),
    Code(
        "GL050", "axis without values",
        "`sweep` is not a mapping of paths to lists of values.",
        "A sweep runs every combination of its lists, so each axis needs a list.",
        over("sweep: {stages.pretrain.steps: 50}\n"), over("sweep: {stages.pretrain.steps: [50, 100]}\n"),
    ),
    Code(
        "GL051", "axis leads nowhere",
        "The path of an axis leads to a section, entry or field that does not exist.",
        "As with --set: a typo must not become a key that nothing reads.",
        over("sweep: {stages.pretrain.step: [50, 100]}\n"), over("sweep: {stages.pretrain.steps: [50, 100]}\n"),
    ),
    Code(
        "GL052", "too many combinations",
        "The axes multiply to more than 4,096 combinations, or are more than 64, or make 2,000,000 values together.",
        "So many combinations are usually a mistake; several specs can hold more.",
        over(f"sweep: {{seed: {list(range(70))}, vars.attempts: {list(range(1, 61))}}}\n"),
        over("sweep: {seed: [0, 1, 2], vars.attempts: [1, 2]}\n"),
    ),
    Code(
        "GL053", "value twice on an axis",
        "An axis has the same value twice.",
        "Both would be the same run.",
        over("sweep: {seed: [0, 1, 1]}\n"), over("sweep: {seed: [0, 1]}\n"),
    ),
    Code(
        "GL054", "axes overlap",
        "One axis sets a value inside what another sets.",
        "Which of the two holds would depend on their order.",
        over("sweep:\n  stages.pretrain.optimizer: [{kind: adamw}]\n  stages.pretrain.optimizer.lr: [0.1, 0.01]\n"),
        over("sweep:\n  stages.pretrain.optimizer: [{kind: adamw, lr: 0.1}, {kind: adamw, lr: 0.01}]\n"),
    ),
    Code(
        "GL055", "override of a swept value",
        "A --set changes what an axis of the sweep sets in every variant.",
        "The axis comes after the override, so that no variant would have its value.",
        Example(HEAD + "sweep: {stages.pretrain.steps: [50, 100]}\n", ("stages.pretrain.steps=70",)),
        Example(HEAD + "sweep: {stages.pretrain.steps: [50, 100]}\n", ("sweep.stages.pretrain.steps=[70]",)),
    ),
)  # fmt: skip
