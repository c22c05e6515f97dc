"""Runner of the checkpoint stage: copies a checkpoint's folder to an artifact of this workspace and checks it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from gridloom.compiler.graph import StageNode
from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import IDS, load_bundle
from gridloom.runtime.checkpoints.description import (
    DESCRIPTION,
    checkpoint_facts,
    checkpoint_folder,
    read_description,
)
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact


class CopyCheckpoint:
    """Runner of kind `checkpoint`, which has no inputs."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Copy the checkpoint's files and load the copy strictly. Raises ModelError for incomplete or changed files."""
        path = str(node.spec["path"])
        folder = checkpoint_folder(path, str(context.base))
        if checkpoint_facts(path, str(context.base)).digest != node.facts["digest"]:
            raise ModelError(
                f"the checkpoint in {folder} was changed since the spec was compiled",
                "run the command again: the checkpoint is read again",
            )
        files = [str(part["file"]) for part in read_description(folder)["parts"].values()]
        for name in (*files, IDS, DESCRIPTION):
            try:
                shutil.copyfile(folder / name, context.out / name)
            except FileNotFoundError as error:
                raise ModelError(f"{folder} lacks {name}", "fetch or train it again") from error
        bundle = load_bundle(context.out)
        context.notes["parameters"] = sum(parameter.numel() for parameter in bundle.network.parameters())
