"""Body of the model engine: construction from the spec, reading of rows, and the recursion.

Shapes: B rows, L tokens of a row, A answers, S positions (see `layout`), D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.engine.capsules import CapsulePool, Encoded, hierarchy_bias
from gridloom.runtime.models.engine.carry import EngineCarry
from gridloom.runtime.models.engine.concepts import ConceptCodebook
from gridloom.runtime.models.engine.halting import EXTRA, HaltingQ
from gridloom.runtime.models.engine.layers import SLOT_STD, EngineBlock, EngineStack, Place, prefix_mask
from gridloom.runtime.models.engine.layout import Layout, layout_of, num_pages
from gridloom.runtime.models.engine.memory import MemoryBank, position_signs
from gridloom.runtime.models.engine.pages.tokens import Drawing
from gridloom.runtime.models.engine.planning import Planner
from gridloom.runtime.models.engine.prediction import MultiTokenPrediction
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.engine.tape import Tape
from gridloom.runtime.models.engine.vision import VisionEncoder
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.layers import Rope, line_angles, truncated_normal
from gridloom.runtime.models.steps import Rows


class EngineBody(RecursiveCore):
    """Core and parts of the network of kind `engine`."""

    CARRY: ClassVar[type[Any]] = EngineCarry

    H_init: Tensor
    L_init: Tensor
    mask: Tensor | None
    """bool [S, S], True where a query may read a key."""
    signs: Tensor
    """int8 [pooled, D], by which an address of the memory depends on the order of tokens."""
    hierarchy: Tensor
    """fp32 [S, S], attention bias between capsules and their children."""

    def __init__(
        self, spec: EngineModel, rows: RowShape, ids: PuzzleIds, per_task: bool, generator: torch.Generator | None
    ) -> None:
        """Build with fresh weights. Raises ModelError for values or rows that do not go together."""
        if rows.num_features:
            raise ModelError("an engine reads tokens; these rows are vectors", "use puzzles, ARC tasks or tokens")
        super().__init__(
            spec,
            rows.canvas,
            len(ids),
            task_of=ids.task_of if per_task else None,
            vocabulary=rows.vocabulary,
            num_cells=rows.num_cells,
            generator=generator,
        )
        self.spec: EngineModel
        width = spec.hidden_size
        self.layout: Layout = layout_of(spec, self.rows)
        self.register_buffer("mask", prefix_mask(self.layout), persistent=False)
        self.answer_slots: nn.Parameter | None = None
        if self.layout.source:
            slots = truncated_normal((self.layout.answers, width), SLOT_STD, generator=generator)
            self.answer_slots = nn.Parameter(slots)
        self.source_slots: nn.Parameter | None = None
        if spec.vision is not None and spec.capsules is None:
            slots = truncated_normal((self.layout.source, width), SLOT_STD, generator=generator)
            self.source_slots = nn.Parameter(slots)
        self.roles = nn.Parameter(truncated_normal((2, width), 0.02, generator=generator)) if spec.unified else None
        self.drawing: Drawing | None = None
        self.vision: VisionEncoder | None = None
        self.capsules: CapsulePool | None = None
        if spec.vision is not None:
            self.drawing = Drawing(spec, self.rows)
            own = None if spec.unified else self._stack(spec.vision.layers, generator)
            self.vision = VisionEncoder(spec, self.rows, own, generator)
        if spec.capsules is not None:
            self.capsules = CapsulePool(spec, self.rows, generator)
        if spec.capsules is not None and spec.capsules.open != "none" and spec.capsules.hierarchy:
            links = hierarchy_bias(num_pages(spec, rows.cells) * spec.capsules.capsules, spec.capsules.children)
            after = self.layout.answers
            self.register_buffer("hierarchy", F.pad(links, (0, after, 0, after)), persistent=False)
        self.planner = Planner(spec, generator) if spec.planning is not None else None
        self.multi_token = MultiTokenPrediction(spec, generator) if spec.multi_token is not None else None
        self.memory = MemoryBank(spec, generator) if spec.memory is not None else None
        if self.memory is not None:
            self.register_buffer("signs", position_signs(self.layout.pooled, width), persistent=False)
        self.concepts = ConceptCodebook(spec, generator) if spec.concepts is not None else None
        self.halting_q = HaltingQ(spec, generator) if spec.dqn is not None else None
        self.tape: Tape | None = None
        self._encoded: dict[str, tuple[Tensor, Encoded | None]] | None = None
        self._seen: dict[str, int] = {}

    @classmethod
    def for_rows(
        cls,
        spec: EngineModel,
        rows: RowShape,
        ids: PuzzleIds,
        *,
        per_task: bool = False,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Build a network with fresh weights. Raises ModelError if the spec's values or the rows do not fit."""
        return cls(spec, rows, ids, per_task, generator)

    def _stack(self, layers: int, generator: torch.Generator | None) -> EngineStack:
        spec = self.spec
        blocks = [
            EngineBlock(spec.hidden_size, spec.num_heads, spec.kv_heads, spec.expansion, generator=generator)
            for _ in range(layers)
        ]
        return EngineStack(blocks, spec.gradient_checkpointing)

    def build(self, generator: torch.Generator | None) -> None:
        """Create the core's stack and the two initial states."""
        self.L_level = self._stack(self.spec.layers, generator)
        self.register_start("H_init", generator)
        self.register_start("L_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return H_init and L_init as [1, 1, D]."""
        return self.H_init.view(1, 1, -1), self.L_init.view(1, 1, -1)

    def count_positions(self) -> int:
        """Return the number of positions S of a state: prefix, source and answers."""
        return layout_of(self.spec, self.rows).positions

    def _rope(self, head_width: int) -> Rope | None:
        layout = layout_of(self.spec, self.rows)
        if self.spec.positions != "rope" or self.spec.vision is None:
            return (
                Rope(line_angles(head_width, layout.positions))
                if self.spec.positions == "rope"
                else super()._rope(head_width)
            )
        # the source has slots or 2-D positions; rotary positions belong to the 1-D answer alone
        flat = torch.zeros(layout.first_answer, head_width // 2)
        return Rope(torch.cat((flat, line_angles(head_width, layout.answers))))

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights of the linear maps of the stacks, for Muon."""
        stacks = [self.L_level] + ([self.vision.stack] if self.vision is not None and self.vision.stack else [])
        return [p for stack in stacks for p in stack.parameters()]

    def undecayed(self) -> list[nn.Parameter]:
        """Return norms, biases and single values."""
        return [p for p in self.parameters() if p.ndim < 2]

    def initial_carry(  # type: ignore[override]  # the engine's carry is a type of its own
        self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None
    ) -> EngineCarry:
        """Return a carry whose rows are all halted. Raises ModelError for rows of another length than the network's."""
        device = self.device if device is None else torch.device(device)
        if num_cells is not None and num_cells != self.num_cells:
            raise ModelError(f"this engine reads rows of {self.num_cells} tokens, not {num_cells}")
        width, layout = self.spec.hidden_size, self.layout
        pages = num_pages(self.spec, self.num_cells)
        capsules = 0 if self.spec.capsules is None else pages * self.spec.capsules.capsules
        decides = self.halting_q is not None
        state = torch.zeros(batch, layout.positions, width, dtype=self.dtype, device=device)
        tokens = torch.zeros(batch, self.num_cells, dtype=torch.uint8, device=device)
        return EngineCarry(
            z_H=state,
            z_L=state,
            steps=torch.zeros(batch, dtype=torch.int32, device=device),
            halted=torch.ones(batch, dtype=torch.bool, device=device),
            inputs=tokens,
            labels=tokens,
            puzzle_ids=torch.zeros(batch, dtype=torch.int64, device=device),
            opened=torch.zeros(batch, capsules, dtype=torch.bool, device=device),
            mean=torch.zeros(batch, width if decides else 0, device=device),
            view=torch.zeros(batch, width + EXTRA if decides else 0, device=device),
            action=torch.zeros(batch, int(decides), dtype=torch.int64, device=device),
            accuracy=torch.zeros(batch, int(decides), device=device),
        )

    def start_rows(self, carry: EngineCarry, rows: Rows) -> EngineCarry:
        """Return the carry with halted rows on the given data and in their initial states."""
        new = carry.halted
        start_H, start_L = self.starts()
        column, cube = new[:, None], new[:, None, None]
        labels = torch.zeros_like(carry.labels) if rows.labels is None else rows.labels.to(torch.uint8)
        return replace(
            carry,
            z_H=torch.where(cube, start_H.to(self.dtype), carry.z_H),
            z_L=torch.where(cube, start_L.to(self.dtype), carry.z_L),
            steps=torch.where(new, 0, carry.steps),
            halted=torch.zeros_like(new),
            inputs=torch.where(column, rows.inputs.to(torch.uint8), carry.inputs),
            labels=torch.where(column, labels, carry.labels),
            puzzle_ids=torch.where(new, rows.puzzle_ids.to(torch.int64), carry.puzzle_ids),
            opened=torch.where(
                column, self.spec.capsules is not None and self.spec.capsules.open == "all", carry.opened
            ),
            mean=torch.where(column, 0.0, carry.mean),
        )

    def encode(self, tokens: Tensor) -> tuple[Tensor, Encoded | None]:
        """Draw token rows [B, L] and encode them: states [B, pages, N, D], and capsules if the part is on."""
        assert self.drawing is not None
        assert self.vision is not None
        patches = self.drawing(tokens)
        role = None if self.roles is None else self.roles[0]
        states = self.vision(patches, self.L_level, role, self.dtype)
        return states, None if self.capsules is None else self.capsules(states, patches)

    def _encode_once(self, tokens: Tensor) -> tuple[Tensor, Encoded | None]:
        if self._encoded is None:
            return self.encode(tokens)
        if "rows" not in self._encoded:
            self._encoded["rows"] = self.encode(tokens)
        return self._encoded["rows"]

    def read_rows(self, carry: EngineCarry, puzzle: Tensor) -> tuple[Tensor, Place, Tensor | None, Encoded | None]:
        """Return the input x [B, S, D], its place, the open source slots bool [B, pooled] or None, and capsules."""
        found: Encoded | None = None
        valid: Tensor | None = None
        before = F.pad(carry.labels[:, :-1], (1, 0))
        first = self.layout.first_answer
        if self.vision is None:
            tokens = carry.inputs if self.spec.decoder is None else torch.cat((carry.inputs, before), dim=1)
            x = self.embed(tokens, carry.puzzle_ids, puzzle)
        else:
            states, found = self._encode_once(carry.inputs)
            if found is None or self.capsules is None:
                source = states.flatten(1, 2)
                if self.source_slots is not None:
                    source = source + self.source_slots.to(source.dtype)
            else:
                source, valid = self.capsules.fill_slots(found, carry.opened)
            tokens = torch.zeros_like(before) if self.spec.decoder is None else before
            x = torch.cat((source, self.embed_tokens(tokens.int(), self.dtype) * self.scale), dim=1)
            if self.embed_pos is not None:
                x = (x + self.embed_pos.embedding_weight.to(self.dtype) * self.scale) * 0.5**0.5
        if self.answer_slots is not None:
            x = torch.cat((x[:, :first], x[:, first:] + self.answer_slots.to(x.dtype)), dim=1)
        if self.roles is not None:
            x = x + self.roles[1].to(x.dtype)
        cos, sin = (None, None) if self.rope is None else self.rope.tables(x.shape[1])
        return x, Place(cos, sin, self._mask(valid, x), self.tape), valid, found

    def answer_input(self, before: Tensor, place: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the input [B, 1, D] of answer `place`, which reads token `before` uint8 [B], and its cos and sin."""
        at = self.layout.first_answer + place
        x = self.embed_tokens(before[:, None].int(), self.dtype) * self.scale
        if self.embed_pos is not None:
            x = (x + self.embed_pos.embedding_weight[at].to(self.dtype) * self.scale) * 0.5**0.5
        if self.answer_slots is not None:
            x = x + self.answer_slots[place].to(x.dtype)
        if self.roles is not None:
            x = x + self.roles[1].to(x.dtype)
        if self.rope is None:
            return x, None, None
        return x, self.rope.cos[at : at + 1], self.rope.sin[at : at + 1]

    def _mask(self, valid: Tensor | None, x: Tensor) -> Tensor | None:
        """Return the attention mask: causal order, closed slots, and the bias between capsules and their children."""
        part, length = self.spec.capsules, x.shape[1]
        allowed = self.mask
        if valid is not None:
            readable = torch.ones(len(x), length, dtype=torch.bool, device=x.device)
            readable[:, : valid.shape[1]] = valid
            allowed = readable[:, None, None] if allowed is None else allowed & readable[:, None, None]
        if part is None or part.open == "none" or not part.hierarchy:
            return allowed
        bias = self.hierarchy
        return bias if allowed is None else torch.where(allowed, bias, float("-inf"))

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles of one ACT step without masks and earlier losses."""
        cos, sin = (None, None) if self.rope is None else self.rope.tables(x.shape[1])
        z_H, z_L, _ = self.cycles(z_H, z_L, x, Place(cos, sin, self.mask), grad_all_rounds)
        return z_H, z_L

    def cycles(
        self, z_H: Tensor, z_L: Tensor, x: Tensor, place: Place, grad_all_rounds: bool = False
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Run the H cycles; return z_H, z_L and, in training, the states of earlier supervised cycles.

        The last cycle is differentiated, each supervised one from its own start, or all with `grad_all_rounds`.
        """
        spec, earlier = self.spec, []
        supervised: tuple[int, ...] = ()
        if self.training and spec.deep_supervision is not None:
            supervised = supervised_cycles(spec.H_cycles, spec.deep_supervision.steps)
        # a position that is decoded on its own is an answer, and codes are added to capsules alone
        alone = place.tape is not None and not place.tape.recording
        refines = self.concepts is not None and self.concepts_ready() and not alone
        for cycle in range(spec.H_cycles):
            learns = grad_all_rounds or cycle == spec.H_cycles - 1 or cycle in supervised
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                if refines and cycle:
                    z_H = self._refined(z_H)
                for _ in range(spec.L_cycles):
                    z_L = self.L_level(z_L, z_H + x, place)
                z_H = self.L_level(z_H, z_L, place)
            if cycle in supervised:
                earlier.append(z_H)
                z_H, z_L = z_H.detach(), z_L.detach()
        return z_H, z_L, tuple(earlier)

    def _refined(self, z_H: Tensor) -> Tensor:
        """Add the codes of the capsules' states to them, straight-through."""
        assert self.concepts is not None
        assert self.spec.capsules is not None
        count = num_pages(self.spec, self.num_cells) * self.spec.capsules.capsules
        codes = self.concepts.quantize(z_H[:, :count]).z_q
        return torch.cat((z_H[:, :count] + self.concepts.part.refinement * codes, z_H[:, count:]), dim=1)

    def concepts_ready(self) -> bool:
        """Whether the codebook exists."""
        return self.concepts is not None and self.concepts.is_ready()

    def first_of_step(self, what: str) -> bool:
        """Return True once an optimizer step for each `what`, on its first micro-batch."""
        first = self._seen.get(what) != self.optimizer_step
        self._seen[what] = self.optimizer_step
        return first

    def predict(self, z_H: Tensor) -> Tensor:
        """Return the logits of the answers, [B, A, V]."""
        logits: Tensor = self.lm_head(z_H[:, self.layout.first_answer :])
        return logits


def supervised_cycles(cycles: int, steps: int) -> tuple[int, ...]:
    """Return the H cycles before the last that get a loss, `steps` of them evenly spaced, or all if there are fewer."""
    before = cycles - 1
    count = min(steps, before)
    return tuple((number + 1) * before // count - 1 for number in range(count)) if count else ()
