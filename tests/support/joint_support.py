"""A real joint stage in miniature: the toy tasks, a tiny TRM, a tiny LLaMA in a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tiny_language_model import save_tiny
from train_support import MODEL, dataset_artifact, stage_context, toy_dataset

from gridloom.compiler.graph import StageNode
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.training.joint.loop import JointTrainer
from gridloom.runtime.training.joint.reader import JointReader
from gridloom.runtime.training.joint.train import JointTrain
from gridloom.specs.stages import AdamW, JointTrainStage
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

LLAMA = LlamaModel(weights="./tiny", max_prompt_tokens=512)
BRIDGE = TextToLatentModel(llm="llama", trm="trm", bottleneck=16)
BACK = LatentToTextModel(trm="trm", llm="llama", bottleneck=16, tokens=2)
STAGE = JointTrainStage(
    llm="llama",
    trm="trm",
    adapters=("bridge", "back"),
    data="toy",
    steps=6,
    batch_size=3,
    attempts=2,
    optimizer=AdamW(lr=1e-3),
    warmup_steps=2,
    checkpoint_every=2,
    embedding_lr=1e-2,
)


def joint_node(
    key: str = "gl1:joint",
    bridge: TextToLatentModel = BRIDGE,
    llama: LlamaModel = LLAMA,
    trm: TrmModel = MODEL,
    digest: str = "sha256:tiny",
    **changes: Any,
) -> StageNode:
    """The graph node of a joint stage."""
    stage = STAGE.model_copy(update=changes)
    models = {"llama": llama, "trm": trm, "bridge": bridge, "back": BACK}
    return StageNode(
        name="joint",
        kind="joint_train",
        version=1,
        produces="checkpoint",
        inputs={"data": "toy"},
        seed=3,
        key=key,
        spec=stage.model_dump(mode="json"),
        facts={"llama": {"llama": {"digest": digest}}},
        models={name: model.model_dump(mode="json") for name, model in models.items()},
    )


def kept_states(root: Path) -> dict[str, Any]:
    """The states in the workspace of a stage, by file."""
    files = (root / "home" / "artifacts" / ".states").glob("*/*.safetensors")
    return {str(file): load_file(file)["hidden"] for file in files}


def run_joint(root: Path, stop: Any = None, inputs: Any = None, **changes: Any) -> dict[tuple[int, str], float]:
    """Run the stage under `root` and return its metrics by step and name."""
    if not (root / "tiny").is_dir():
        save_tiny(root / "tiny")
    context = stage_context(root, stop)
    try:
        JointTrain().run(joint_node(**changes), {"data": dataset_artifact(root), **(inputs or {})}, context)
    finally:
        context.ledger.close()
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


def trainer_for(
    llama: Llama,
    bridge: TextToLatentModel = BRIDGE,
    with_back: bool = True,
    copies: int = 3,
    back: LatentToTextModel = BACK,
    network: TrmModel = MODEL,
    dataset: Dataset | None = None,
    **changes: Any,
) -> JointTrainer:
    """A trainer of the toy tasks, its adapters open; so are the additions of a language model with `lora`."""
    dataset = toy_dataset(copies) if dataset is None else dataset
    sampler = Sampler(dataset, 0)
    ids = PuzzleIds(sampler.views.names)
    stage = STAGE.model_copy(update=changes)
    generator = torch.Generator().manual_seed(5)
    trm = TRM(network, dataset.canvas, len(ids), task_of=ids.task_of, generator=generator)
    to_latent = TextToLatent.build(bridge, llama.hidden_size, trm, generator)
    with torch.no_grad():
        to_latent.out.weight.normal_(std=0.05, generator=generator)
        for weight in llama.lora.weights if llama.lora is not None else ():
            weight.normal_(std=0.05, generator=generator)
    to_text = LatentToText.build(back, llama.hidden_size, trm, generator) if with_back else None
    reader = JointReader(llama, dataset, stage, latent=with_back, num_states=to_latent.num_states)
    return JointTrainer(trm, to_latent, to_text, reader, sampler, stage)


def gradients(trainer: JointTrainer) -> dict[str, float]:
    """Largest gradient by parameter name, taken just before the optimiser moves."""
    seen: dict[str, float] = {}
    move = trainer.optimizer.step

    def keep(*args: Any, **kwargs: Any) -> Any:
        for name, p in trainer.trained.named_parameters():
            seen[name] = 0.0 if p.grad is None else float(p.grad.abs().max())
        return move(*args, **kwargs)

    trainer.optimizer.step = keep  # type: ignore[method-assign]
    trainer.step(trainer.sampler.batch(0, trainer.spec.batch_size))
    trainer.optimizer.step = move  # type: ignore[method-assign]
    return seen


def grid(*rows: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A grid from rows of digits."""
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.uint8)
