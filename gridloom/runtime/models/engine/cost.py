"""Cost of the engine: parameters by part, operations of the matrix products, bytes of activations and stores."""

from __future__ import annotations

from typing import NamedTuple

from gridloom.runtime.models.engine.layout import layout_of, num_pages, num_patches, slots_of_page
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.flops import BYTES, Flops
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.recursive.cost import inner_width

CHECKSUM_HIDDEN, RND_HIDDEN, EXTRA_FEATURES = 128, 128, 3


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


class EngineCost(NamedTuple):
    """Cost of an engine on rows of one shape."""

    spec: EngineModel
    rows: RowShape

    @property
    def positions(self) -> int:
        """Positions S of a state."""
        return layout_of(self.spec, self.rows).positions

    @property
    def block_parameters(self) -> int:
        """Weights of a block: q, k, v, output; gate, up and down of the SwiGLU."""
        spec = self.spec
        width, head = spec.hidden_size, spec.hidden_size // spec.num_heads
        attention = width * head * (2 * spec.num_heads + 2 * spec.kv_heads)
        return attention + 3 * width * inner_width(spec.expansion, width)

    def parts(self) -> dict[str, int]:
        """Return the trained weights of the core and of each part that is on."""
        spec, rows = self.spec, self.rows
        width, layout = spec.hidden_size, layout_of(spec, rows)
        found = {
            "core": spec.layers * self.block_parameters
            + 2 * rows.vocabulary * width
            + (layout.positions * width if spec.positions == "learned" else 0)
            + 2 * width
            + 2
            + (layout.answers * width if layout.source else 0)
            + (layout.source * width if spec.vision is not None and spec.capsules is None else 0)
        }
        if spec.vision is not None:
            pages = num_pages(spec, rows.cells)
            found["vision"] = (
                _linear(3 * spec.vision.patch**2, width)
                + num_patches(spec) * width
                + (pages * width if pages > 1 else 0)
                + 2 * width
                + (0 if spec.unified else spec.vision.layers * self.block_parameters)
            )
        if spec.unified:
            found["unified"] = 2 * width
        if spec.capsules is not None:
            part = spec.capsules
            found["capsules"] = (
                (_linear(width, part.capsules) if part.pooling == "attention" else 0)
                + _linear(width, width)
                + _linear(width, CHECKSUM_HIDDEN)
                + _linear(CHECKSUM_HIDDEN, part.checksum)
                + (width + 1 if part.open == "learned" else 0)
                + num_pages(spec, rows.cells) * slots_of_page(spec) * width
            )
        if spec.planning is not None:
            plan = spec.planning
            layer = 4 * width + _linear(width, 3 * width) + _linear(width, width)
            layer += _linear(width, 4 * width) + _linear(4 * width, width)
            found["planning"] = (
                2 * plan.paths * _linear(width, width)
                + plan.paths * width
                + plan.depth * layer
                + _linear(2 * width, width // 2)
                + _linear(width // 2, 1)
                + _linear(width, width)
                + 4 * width
                + ((_linear(width, width // 4) + _linear(width // 4, 1)) if plan.gate else 0)
            )
        if spec.multi_token is not None:
            reads = 1 + spec.multi_token.between
            found["multi_token"] = spec.multi_token.depths * (reads * width * width + self.block_parameters)
        if spec.memory is not None:
            found["memory"] = 3 * width * width + 2 * width + 1 + 1
        if spec.concepts is not None:
            found["concepts"] = _linear(width, width) + 1
        if spec.dqn is not None:
            features, dqn = width + EXTRA_FEATURES, spec.dqn
            actions = 3 if spec.capsules is not None and spec.capsules.open == "learned" else 2
            found["dqn"] = (
                _linear(features, dqn.hidden)
                + (dqn.layers - 1) * _linear(dqn.hidden, dqn.hidden)
                + _linear(dqn.hidden, actions)
            )
            if dqn.rnd_curiosity:
                found["dqn"] += _linear(features, RND_HIDDEN) + 2 * _linear(RND_HIDDEN, RND_HIDDEN)
        return found

    @property
    def parameters(self) -> int:
        """Number of trained weights; excludes the puzzle table and the stores, which are buffers."""
        return sum(self.parts().values())

    def _stack(self, rows: int, length: int, layers: int) -> Flops:
        """Return the operations of a call of `layers` blocks on rows of `length` positions."""
        spec = self.spec
        heads = spec.hidden_size // spec.num_heads * spec.num_heads
        return Flops(2 * rows * length * self.block_parameters, 4 * rows * length * length * heads) * layers

    def _encoder(self, rows: int) -> Flops:
        """Return the operations of encoding the pages of rows once."""
        spec, vision = self.spec, self.spec.vision
        if vision is None:
            return Flops()
        width, count = spec.hidden_size, num_patches(spec)
        images = rows * num_pages(spec, self.rows.cells)
        total = Flops(first=2 * images * count * 3 * vision.patch**2 * width)
        total = total + self._stack(images, count, vision.layers) * (vision.H_cycles * (vision.L_cycles + 1))
        if spec.capsules is not None:
            part = spec.capsules
            pool = 4 * images * count * part.capsules * width
            children = 2 * images * part.capsules * part.children * width * width
            checksum = 2 * images * part.capsules * CHECKSUM_HIDDEN * (width + part.checksum)
            total = total + Flops(pool + children + checksum)
        return total

    def _parts(self, rows: int) -> Flops:
        """Return the operations of planning, memory and Q network in an ACT step."""
        spec, width, length = self.spec, self.spec.hidden_size, self.positions
        total = Flops()
        if spec.planning is not None:
            plan = spec.planning
            lines = rows * plan.paths * length
            mlp, merge = 4 * lines * width * width, 2 * rows * length * width * width
            layers = plan.depth * 24 * lines * width * width
            total = total + Flops(mlp + merge + layers, plan.depth * 4 * lines * length * width)
        if spec.memory is not None:
            memory = spec.memory
            read = min(memory.read, memory.capacity)
            total = total + Flops(2 * rows * (2 * width * width + memory.capacity * width + read * width * width))
        if spec.dqn is not None:
            total = total + Flops(2 * rows * (width + EXTRA_FEATURES) * spec.dqn.hidden)
        return total

    def act_step(self, rows: int) -> Flops:
        """Return the operations of an ACT step without gradient."""
        spec = self.spec
        core = self._stack(rows, self.positions, spec.layers) * (spec.H_cycles * (spec.L_cycles + 1))
        heads = Flops(
            2 * rows * self.rows.cells * spec.hidden_size * self.rows.vocabulary + 4 * rows * spec.hidden_size
        )
        return core + heads + self._encoder(rows) + self._parts(rows)

    def _learnt_cycles(self, all_rounds: bool) -> int:
        spec = self.spec
        if all_rounds:
            return spec.H_cycles
        supervised = 0 if spec.deep_supervision is None else min(spec.deep_supervision.steps, spec.H_cycles - 1)
        return 1 + supervised

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Return the operations of an ACT step with its backward pass."""
        spec = self.spec
        cycle = self._stack(rows, self.positions, spec.layers) * (spec.L_cycles + 1)
        learnt = cycle * self._learnt_cycles(all_rounds)
        again = learnt.forward if spec.gradient_checkpointing else 0
        heads = Flops(2 * rows * self.rows.cells * spec.hidden_size * self.rows.vocabulary) * self._learnt_cycles(
            all_rounds
        )
        encoder = 0
        if spec.vision is not None:
            encoder = self._encoder(rows).backward // spec.vision.H_cycles
        ahead = Flops()
        if spec.multi_token is not None:
            for depth in range(1, spec.multi_token.depths + 1):
                length = max(0, self.rows.cells - depth)
                ahead = ahead + self._stack(rows, length, 1)
                reads = (1 + spec.multi_token.between) * spec.hidden_size
                ahead = ahead + Flops(2 * rows * length * spec.hidden_size * (reads + self.rows.vocabulary))
        replay = 0
        if spec.dqn is not None:
            replay = 10 * spec.dqn.batch * (spec.hidden_size + EXTRA_FEATURES) * spec.dqn.hidden
        parts = self._parts(rows)
        backward = learnt.backward + heads.backward + parts.backward + encoder + ahead.forward + ahead.backward
        return self.act_step(rows).forward + again + backward + replay

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Return the estimated bytes stored for the backward pass: 7 D + 3 I values per token and block call."""
        spec, width, length = self.spec, self.spec.hidden_size, self.positions
        inner = inner_width(spec.expansion, width)
        size = BYTES[spec.precision]
        block = 7 * width + 3 * inner
        calls = (spec.L_cycles + 1) * self._learnt_cycles(all_rounds)
        tokens = rows * length
        if spec.gradient_checkpointing:
            core = tokens * (calls * width + spec.layers * block)
        else:
            core = tokens * calls * spec.layers * block
        casts = self.block_parameters * spec.layers if spec.precision != "fp32" else 0
        total = size * (core + casts)
        if spec.vision is not None:
            patches = rows * num_pages(spec, self.rows.cells) * num_patches(spec)
            total += size * patches * (spec.vision.L_cycles + 1) * spec.vision.layers * block
            total += 4 * patches * 3 * spec.vision.patch**2
        if spec.planning is not None:
            total += size * tokens * spec.planning.paths * (4 * width + spec.planning.depth * 16 * width)
        if spec.multi_token is not None:
            total += size * rows * self.rows.cells * spec.multi_token.depths * (4 * width + block)
        if spec.memory is not None:
            read = min(spec.memory.read, spec.memory.capacity)
            total += 4 * rows * (read * 4 * width + spec.memory.capacity) + self._projected_bytes
        return total

    @property
    def _projected_bytes(self) -> int:
        return 0 if self.spec.memory is None else 4 * self.spec.memory.capacity * self.spec.hidden_size

    @property
    def store_bytes(self) -> int:
        """Bytes of the buffers of memory bank, codebook, replay and target network."""
        spec, width = self.spec, self.spec.hidden_size
        total = 0
        if spec.memory is not None:
            total += spec.memory.capacity * (4 * width + 29)
        if spec.concepts is not None:
            total += spec.concepts.concepts * (12 * width + 8)
        if spec.dqn is not None:
            total += spec.dqn.capacity * (4 * (width + EXTRA_FEATURES) + 11) + 4 * self.parts()["dqn"]
        return total

    def state_bytes(self, rows: int) -> int:
        """Return the bytes of stores, carry and the temporaries of a step without gradient."""
        spec = self.spec
        inner = inner_width(spec.expansion, spec.hidden_size)
        carry = BYTES[spec.precision] * rows * self.positions * (8 * spec.hidden_size + 3 * inner)
        return carry + self.store_bytes + self._projected_bytes

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Return the bytes of the fp32 puzzle table: a row per id and per task."""
        return 4 * self.spec.hidden_size * (num_ids + num_tasks)
