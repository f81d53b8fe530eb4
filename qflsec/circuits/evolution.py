"""The evolution of a state through a plan's stages, and its adjoint.

Both are plain sequences of differentiable tensor operations. :class:`Evolution` makes them one node of the
autograd graph: a backward pass runs the adjoint on the states that the forward pass kept. When the backward
pass is itself to be differentiated (``create_graph=True``), it computes the states again, so that autograd
sees how they depend on the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.batch import Batch
from qflsec.circuits.permute import Gather
from qflsec.circuits.plan import Block, Plan
from qflsec.circuits.unitaries import BlockFamily

__all__ = ["BlockStage", "Evolution", "TurnStage"]


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product in which either batch may be 1."""
    if len(a) != len(b):
        rows = max(len(a), len(b))
        a, b = a.expand(rows, -1, -1), b.expand(rows, -1, -1)
    return torch.bmm(a, b)


@dataclass(frozen=True)
class BlockStage:
    """A unitary on the wires that ``gather`` brings to the front.

    Attributes:
        gather: What happens first.
        family: The family of its unitary.
        position: Its position there.
        n_rows: Rows of a complex state; a state of half as many is real.
    """

    gather: Gather
    family: int
    position: int
    n_rows: int

    def enter(self, psi: Tensor) -> Tensor:
        """The state that the unitary acts on."""
        return psi if self.gather.idle else self.gather(psi)

    def apply(self, psi: Tensor, family: Tensor) -> Tensor:
        """The unitary on the first wires, the others riding along."""
        unitary = self._unitary(psi, family)
        columns = psi.reshape(len(psi), unitary.shape[-1], -1)
        return _matmul(unitary, columns).view(-1, self.n_rows, psi.shape[-1])

    def gradient(self, psi: Tensor, costate: Tensor, size: int) -> Tensor:
        """The gradient of the unitary, from the state that entered and the costate behind."""
        columns = size * psi.shape[1] // self.n_rows
        left, right = costate.reshape(len(costate), size, -1), psi.reshape(len(psi), columns, -1)
        gradient = _matmul(left, right.transpose(1, 2))
        return gradient if columns == size else pad(gradient, (0, size - columns))

    def adjoint(self, psi: Tensor, costate: Tensor, family: Tensor) -> Tensor:
        """The costate before the stage."""
        unitary = self._unitary(psi, family).transpose(1, 2)
        columns = costate.reshape(len(costate), unitary.shape[-1], -1)
        before = _matmul(unitary, columns).view(-1, psi.shape[1], psi.shape[-1])
        return before if self.gather.idle else self.gather.back(before)

    def _unitary(self, psi: Tensor, family: Tensor) -> Tensor:
        unitary = family[:, self.position]
        return unitary if psi.shape[1] == self.n_rows else unitary[..., : unitary.shape[-1] // 2]


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

    def apply(self, psi: Tensor, angles: Tensor) -> Tensor:
        """The rotated state."""
        cosine, sine = angles[:, self.position].split_with_sizes((1, 1), 1)
        return cosine * psi + sine * self.gather(psi)

    def gradient(self, psi: Tensor, costate: Tensor) -> Tensor:
        """The gradients of the cosine and the sine."""
        of_cosine, of_sine = (costate * psi).sum(1), (costate * self.gather(psi)).sum(1)
        return torch.stack([of_cosine, of_sine], dim=1)

    def adjoint(self, costate: Tensor, angles: Tensor) -> Tensor:
        """The costate before the stage."""
        cosine, sine = angles[:, self.position].split_with_sizes((1, 1), 1)
        return cosine * costate + self.gather.back(sine * costate)


@dataclass
class _Reads:
    """What the stages read: each family's unitaries, and cosines and sines by weight and by feature."""

    families: list[Tensor]
    by_weight: Tensor
    by_feature: Tensor

    def turns(self, stage: TurnStage) -> Tensor:
        return self.by_feature if stage.by_feature else self.by_weight


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
                rows = 2 ** (plan.n_qubits + 1)
                self.stages.append(BlockStage(gather, families.index(stage.family), stage.position, rows))
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

    def _reads(self, by_weight: Tensor, by_feature: Tensor, batch: Batch) -> _Reads:
        turns, *slots = by_weight.split_with_sizes(self._split, 1)
        families = [
            batch.spread(family.build(own[..., 0])) for family, own in zip(self._families, slots, strict=True)
        ]
        return _Reads(families, batch.spread(turns), by_feature)

    def forward(
        self, psi: Tensor, by_weight: Tensor, by_feature: Tensor, batch: Batch
    ) -> tuple[tuple[_Reads, list[Tensor]], Tensor]:
        """What the adjoint needs (what the stages read, the states that enter them), and the final state."""
        reads = self._reads(by_weight, by_feature, batch)
        states = []
        for stage in self.stages:
            if isinstance(stage, BlockStage):
                states.append(stage.enter(psi))
                psi = stage.apply(states[-1], reads.families[stage.family])
            else:
                states.append(psi)
                psi = stage.apply(psi, reads.turns(stage))
        return (reads, states), psi

    def adjoint(
        self,
        kept: tuple[_Reads, list[Tensor]],
        costate: Tensor,
        by_weight: Tensor,
        batch: Batch,
        *,
        first: bool,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """The gradients of the first state (if ``first``), of ``by_weight`` and of ``by_feature``."""
        reads, states = kept
        blocks: list[list[Tensor]] = [[] for _ in self._families]
        turns: dict[bool, list[Tensor]] = {False: [], True: []}
        for step in range(len(self.stages) - 1, -1, -1):
            stage, psi = self.stages[step], states[step]
            if isinstance(stage, BlockStage):
                family = reads.families[stage.family]
                blocks[stage.family].append(stage.gradient(psi, costate, family.shape[-1]))
                if step or first:
                    costate = stage.adjoint(psi, costate, family)
            else:
                turns[stage.by_feature].append(stage.gradient(psi, costate))
                if step or first:
                    costate = stage.adjoint(costate, reads.turns(stage))
        rows, by_feature = len(by_weight), reads.by_feature
        parts = [batch.gather(_stack(turns[False], by_weight[:, :0]), rows)] if turns[False] else []
        parts[:] = [part.sum(-1, keepdim=True) if part.shape[-1] > 1 else part for part in parts]
        slots = by_weight.split_with_sizes(self._split, 1)[1:]
        for family_, own, gradients in zip(self._families, slots, blocks, strict=True):
            if own.shape[1]:
                whole = batch.gather(torch.stack(gradients[::-1], dim=1), rows)
                parts.append(family_.adjoint(own[..., 0], whole)[..., None])
        of_weight = torch.cat(parts, dim=1) if parts else torch.zeros_like(by_weight)
        of_feature = _stack(turns[True], by_feature)
        if len(of_feature) != len(by_feature):
            of_feature = of_feature.sum(0, keepdim=True)
        if len(costate) != len(states[0]):
            costate = costate.sum(0, keepdim=True)
        return costate if first else None, of_weight, of_feature


def _stack(gradients: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(gradients[::-1], dim=1) if gradients else torch.zeros_like(like)


class _Kept:
    """Carries the states from the forward pass to the backward pass."""

    value: tuple[_Reads, list[Tensor]]


class _Evolve(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        evolution: Evolution, batch: Batch, kept: _Kept, psi: Tensor, by_weight: Tensor, by_feature: Tensor
    ) -> Tensor:
        kept.value, final = evolution.forward(psi, by_weight, by_feature, batch)
        return final

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.evolution, ctx.batch, ctx.kept, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        psi, by_weight, by_feature = ctx.saved_tensors
        kept = ctx.kept.value
        if torch.is_grad_enabled():  # the backward pass is to be differentiated
            kept, _ = ctx.evolution.forward(psi, by_weight, by_feature, ctx.batch)
        needed = ctx.needs_input_grad[3]
        gradients = ctx.evolution.adjoint(kept, gradient, by_weight, ctx.batch, first=needed)
        return None, None, None, *gradients
