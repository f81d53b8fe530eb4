"""The evolution of a state through a plan's stages, and its adjoint.

Both are plain sequences of differentiable tensor operations. :class:`Evolution` makes them one node of the
autograd graph: a backward pass runs the adjoint on the states that the forward pass kept. When the backward
pass is itself to be differentiated (``create_graph=True``), it computes the states again, so that autograd
sees how they depend on the inputs.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.batch import Batch
from qflsec.circuits.permute import Gather
from qflsec.circuits.plan import Block, Plan
from qflsec.circuits.unitaries import BlockFamily, Built

__all__ = ["BlockStage", "Evolution", "Trace", "TurnStage"]


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product in which either batch may be 1."""
    if a.size(0) != b.size(0):
        rows = max(a.size(0), b.size(0))
        a, b = a.expand(rows, -1, -1), b.expand(rows, -1, -1)
    return torch.bmm(a, b)


@dataclass(frozen=True)
class BlockStage:
    """A unitary on the wires that ``gather`` brings to the front.

    Attributes:
        gather: What happens first.
        family: The family of its unitary.
        position: Its position there.
        size: Rows of the unitary; a state of half as many on these wires is real.
    """

    gather: Gather
    family: int
    position: int
    size: int

    def enter(self, psi: Tensor, *, real: bool) -> Tensor:
        """The state that the unitary acts on, as its columns."""
        psi = psi if self.gather.idle else self.gather(psi)
        return psi.reshape(psi.size(0), self.size // 2 if real else self.size, -1)

    def apply(self, columns: Tensor, unitary: Tensor, samples: int) -> Tensor:
        """The unitary on the first wires, the others riding along."""
        after = _matmul(self._block(columns, unitary), columns)
        return after.view(after.size(0), -1, samples)

    def gradient(self, columns: Tensor, costate: Tensor) -> Tensor:
        """The gradient of the unitary, from the state that entered and the costate behind."""
        gradient = _matmul(costate.view(costate.size(0), self.size, -1), columns.transpose(1, 2))
        missing = self.size - columns.size(1)
        return pad(gradient, (0, missing)) if missing else gradient

    def adjoint(self, columns: Tensor, costate: Tensor, unitary: Tensor) -> Tensor:
        """The costate before the stage."""
        block = self._block(columns, unitary)
        before = _matmul(block.transpose(1, 2), costate.view(costate.size(0), self.size, -1))
        before = before.view(before.size(0), -1, costate.size(2))
        return before if self.gather.idle else self.gather.back(before)

    def _block(self, columns: Tensor, unitary: Tensor) -> Tensor:
        return unitary if columns.size(1) == self.size else unitary[..., : self.size // 2]


@dataclass(frozen=True)
class TurnStage:
    """A Pauli rotation: cos(a/2) psi + sin(a/2) gather(psi).

    Attributes:
        gather: The action of -i times the Pauli word.
        by_feature: Whether the angle depends on features.
        position: Its position among the angles of its kind.
    """

    gather: Gather
    by_feature: bool
    position: int

    def apply(self, psi: Tensor, cos_sin: Tensor) -> Tensor:
        """The rotated state."""
        cosine, sine = cos_sin.split_with_sizes((1, 1), 1)
        return cosine * psi + sine * self.gather(psi)

    def gradient(self, psi: Tensor, costate: Tensor) -> Tensor:
        """The gradients of the cosine and the sine."""
        of_cosine, of_sine = (costate * psi).sum(1), (costate * self.gather(psi)).sum(1)
        return torch.stack([of_cosine, of_sine], dim=1)

    def adjoint(self, costate: Tensor, cos_sin: Tensor) -> Tensor:
        """The costate before the stage."""
        cosine, sine = cos_sin.split_with_sizes((1, 1), 1)
        return cosine * costate + self.gather.back(sine * costate)


@dataclass(frozen=True)
class Trace:
    """What the adjoint needs of a forward pass.

    Attributes:
        built: Each family's unitaries for each distinct row of weights.
        unitaries: The same for each row of the batch, block by block.
        by_weight: Cosine and sine of each turn by a weight ``(rows or 1, 2, 1)``.
        by_feature: Cosine and sine of each turn by a feature ``(rows or 1, 2, samples)``.
        states: What entered each stage.
    """

    built: tuple[Built, ...]
    unitaries: tuple[tuple[Tensor, ...], ...]
    by_weight: tuple[Tensor, ...]
    by_feature: tuple[Tensor, ...]
    states: list[Tensor]

    def turn(self, stage: TurnStage) -> Tensor:
        """What a turn reads."""
        return (self.by_feature if stage.by_feature else self.by_weight)[stage.position]


class Evolution:
    """A plan's stages as tensors.

    The cosines and sines of half the angles that depend on weights come in one tensor: those of the turns
    first, then those of each family's slots.
    """

    def __init__(self, plan: Plan, like: Tensor) -> None:
        families = list(plan.families)
        self._families = [BlockFamily(family, like) for family in plan.families.values()]
        self.stages: list[BlockStage | TurnStage] = []
        counts = {False: 0, True: 0}
        for stage in plan.stages:
            gather = Gather(stage.gather, like)
            if isinstance(stage, Block):
                size = 2 ** (stage.family[0] + 1)
                self.stages.append(BlockStage(gather, families.index(stage.family), stage.position, size))
            else:
                by_feature = stage.angle.kind == "feature"
                self.stages.append(TurnStage(gather, by_feature, counts[by_feature]))
                counts[by_feature] += 1
        self._split = [counts[False], *(len(f.slots) * f.n_angles for f in plan.families.values())]

    @property
    def starts_real(self) -> bool:
        """Whether the first stage takes the real rows of a real state alone."""
        return bool(self.stages) and isinstance(self.stages[0], BlockStage) and self.stages[0].gather.idle

    def __call__(self, psi: Tensor, by_weight: Tensor, by_feature: Tensor, batch: Batch) -> Tensor:
        """The final state.

        Args:
            psi: The first state ``(rows or 1, 2 * 2**n, samples)``; half as many rows if it
                :attr:`starts_real`.
            by_weight: Cosines and sines of half angles ``(distinct rows, angles, 2, 1)``.
            by_feature: Those that depend on features ``(rows or 1, angles, 2, samples)``.
            batch: How rows of weights belong to rows of the batch.

        Shapes:
            -> ``(rows or 1, 2 * 2**n, samples)``.
        """
        if not self.stages:
            return psi
        if not torch.is_grad_enabled():
            return self.forward(psi, by_weight, by_feature, batch)[1]
        final: Tensor = _Evolve.apply(self, batch, _Kept(), psi, by_weight, by_feature)  # type: ignore[no-untyped-call]
        return final

    def forward(
        self, psi: Tensor, by_weight: Tensor, by_feature: Tensor, batch: Batch
    ) -> tuple[Trace, Tensor]:
        """What the adjoint needs, and the final state."""
        turns, *slots = by_weight.split_with_sizes(self._split, 1)
        built = tuple(f.build(own[..., 0]) for f, own in zip(self._families, slots, strict=True))
        trace = Trace(
            built,
            tuple(batch.spread(family.matrices).unbind(1) for family in built),
            batch.spread(turns).unbind(1) if self._split[0] else (),
            by_feature.unbind(1),
            [],
        )
        samples = psi.size(2)
        for step, stage in enumerate(self.stages):
            if isinstance(stage, BlockStage):
                psi = stage.enter(psi, real=step == 0 and self.starts_real)
                trace.states.append(psi)
                psi = stage.apply(psi, trace.unitaries[stage.family][stage.position], samples)
            else:
                trace.states.append(psi)
                psi = stage.apply(psi, trace.turn(stage))
        return trace, psi

    def adjoint(
        self,
        trace: Trace,
        costate: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        wanted: tuple[bool, bool, bool],
        batch: Batch,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of those inputs (first state, ``by_weight``, ``by_feature``) that are wanted."""
        start, by_weight, by_feature = inputs
        blocks: list[list[Tensor]] = [[] for _ in self._families]
        turns: dict[bool, list[Tensor]] = {False: [], True: []}
        for step in range(len(self.stages) - 1, -1, -1):
            stage, psi = self.stages[step], trace.states[step]
            if isinstance(stage, BlockStage):
                if wanted[1]:
                    blocks[stage.family].insert(0, stage.gradient(psi, costate))
                if step or wanted[0]:
                    costate = stage.adjoint(psi, costate, trace.unitaries[stage.family][stage.position])
            else:
                turns[stage.by_feature].insert(0, stage.gradient(psi, costate))
                if step or wanted[0]:
                    costate = stage.adjoint(costate, trace.turn(stage))
        return (
            costate.sum_to_size(start.shape) if wanted[0] else None,
            self._of_weight(trace, turns[False], blocks, by_weight, batch) if wanted[1] else None,
            torch.stack(turns[True], dim=1).sum_to_size(by_feature.shape) if wanted[2] else None,
        )

    def _of_weight(
        self, trace: Trace, turns: list[Tensor], blocks: list[list[Tensor]], by_weight: Tensor, batch: Batch
    ) -> Tensor:
        """The gradient of the cosines and sines by weights."""
        rows = by_weight.size(0)
        parts = []
        if turns:
            parts.append(batch.gather(torch.stack(turns, dim=1).sum(-1, keepdim=True), rows))
        for family, built, gradients in zip(self._families, trace.built, blocks, strict=True):
            if family.n_angles:
                whole = batch.gather(torch.stack(gradients, dim=1), rows)
                parts.append(family.adjoint(built, whole)[..., None])
        if not parts:
            return torch.zeros_like(by_weight)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class _Kept:
    """Carries the trace from the forward pass to the backward pass."""

    trace: Trace


class _Evolve(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        evolution: Evolution, batch: Batch, kept: _Kept, psi: Tensor, by_weight: Tensor, by_feature: Tensor
    ) -> Tensor:
        kept.trace, final = evolution.forward(psi, by_weight, by_feature, batch)
        return final

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.evolution, ctx.batch, ctx.kept, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        trace = ctx.kept.trace
        if torch.is_grad_enabled():  # the backward pass is to be differentiated
            trace, _ = ctx.evolution.forward(*ctx.saved_tensors, ctx.batch)
        gradients = ctx.evolution.adjoint(
            trace, gradient.contiguous(), ctx.saved_tensors, ctx.needs_input_grad[3:], ctx.batch
        )
        return None, None, None, *gradients


# torch inspects this signature at every call; a signature that is attached is found at once.
_Evolve.forward.__signature__ = inspect.signature(_Evolve.forward)  # type: ignore[attr-defined]
