"""Networks that pages run: attempts played again, checkpoints stepped through; one at a time, the last two kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from gridloom.errors import GridloomError, ModelError
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace
from gridloom.view.reader import find_artifact, reading_ledger

if TYPE_CHECKING:
    from gridloom.runtime.checkpoints.bundle import Bundle
    from gridloom.solvers.replay.playback import Playback
    from gridloom.solvers.replay.replay import Replayer
    from gridloom.view.stepping.items import Item
    from gridloom.view.stepping.steps import AnsweredItem, PlannedItem, Stepped

KEPT = 2
"""Checkpoints, datasets and replayers that stay in memory."""
MOST_STEPS = 64
SHIPPED = "shipped:"


class Networks:
    """Networks of a workspace. Calls are serialised, since each may use all cores and much memory."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._replayer: Replayer | None = None

    def play(self, attempt: str) -> Playback:
        """Return the ACT steps of an attempt. Raises GridloomError."""
        with self._lock:
            from gridloom.solvers.replay.playback import play
            from gridloom.solvers.replay.replay import Replayer

            if self._replayer is None or self._replayer.num_loaded >= KEPT:
                # with the settings of the pages' connection: a process opens a DuckDB file with one set of settings
                self._replayer = Replayer(self.workspace, ledger=reading_ledger(self.workspace))
            return play(self._replayer, attempt)

    def step(
        self, checkpoint: str, dataset: str, item: int, weights: Literal["use", "raw"], steps: int | None
    ) -> tuple[Stepped, dict[str, Any]]:
        """Return a checkpoint's answers to an item of a dataset, and facts of both.

        Args:
            checkpoint: key of an artifact, or `shipped:NAME`.
            dataset: key of a dataset or puzzle set of the workspace.
            item: number of the test input or puzzle, from 0.
            weights: `use` for the average that training kept, `raw` for the weights after the last step.
            steps: ACT steps; None for the network's own number.

        Raises:
            GridloomError: no such checkpoint, dataset or item, or one that does not fit the other.
        """
        if steps is not None and not 1 <= steps <= MOST_STEPS:
            raise GridloomError(f"{steps} ACT steps", f"1 to {MOST_STEPS}")
        with self._lock:
            from gridloom.view.stepping.steps import facts, stepped

            bundle, items = self._items(checkpoint, dataset, weights)
            one = items(item)
            return stepped(bundle, one, steps), facts(bundle, one)

    def plans(
        self, checkpoint: str, dataset: str, first: int, most: int, weights: Literal["use", "raw"], steps: int | None
    ) -> list[PlannedItem]:
        """Return the paths of up to `most` items from `first` on, in the last ACT step; the rest as for `step`.

        Raises GridloomError.
        """
        with self._lock:
            from gridloom.view.stepping.steps import planned_items

            bundle, items = self._items(checkpoint, dataset, weights)
            return planned_items(bundle, items, first, most, steps)

    def answers(self, checkpoint: str, dataset: str, first: int, most: int, steps: int | None) -> list[AnsweredItem]:
        """Return the answers of a checkpoint to up to `most` items from `first` on. Raises GridloomError."""
        with self._lock:
            from gridloom.view.stepping.steps import answered_items

            bundle, items = self._items(checkpoint, dataset, "use")
            return answered_items(bundle, items, first, most, steps)

    def _items(
        self, checkpoint: str, dataset: str, weights: Literal["use", "raw"]
    ) -> tuple[Bundle, Callable[[int], Item]]:
        """Return a checkpoint and its items of a dataset by number. Raises GridloomError."""
        from gridloom.view.stepping.items import ITEMS

        bundle, found = self._bundle(checkpoint, weights), self._artifact(dataset)
        if found.type not in ITEMS:
            raise GridloomError(
                f"{found.type} {dataset} has no items to step through", "choose ARC tasks, mazes, sudokus or sequences"
            )
        load, item_of = ITEMS[found.type]
        data = self._once(("data", found.key), lambda: load(found.path))
        return bundle, lambda number: item_of(bundle, data, number)

    def _once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > 2 * KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _artifact(self, key: str) -> Artifact:
        found = find_artifact(self.workspace, key)
        if found is None:
            raise GridloomError(f"no artifact {key} in {self.workspace.root}", "run its stage again")
        return found

    def _bundle(self, checkpoint: str, weights: Literal["use", "raw"]) -> Bundle:
        from gridloom.runtime.checkpoints.bundle import load_bundle
        from gridloom.runtime.checkpoints.description import checkpoint_folder

        def load() -> Bundle:
            if checkpoint.startswith(SHIPPED):
                folder = checkpoint_folder(checkpoint, ".")
            else:
                artifact = self._artifact(checkpoint)
                if artifact.type != "checkpoint":
                    raise ModelError(f"{checkpoint} is a {artifact.type}, no checkpoint", "choose a checkpoint")
                ArtifactStore(self.workspace).verify(artifact)
                folder = artifact.path
            return load_bundle(folder, weights=weights)

        made: Bundle = self._once(("bundle", checkpoint, weights), load)
        return made
