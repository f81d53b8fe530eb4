"""Mixing: models that their holders send each other, and the means that are made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.federation.payloads import fault
from qflsec.federation.round.audits import Audits
from qflsec.federation.round.broadcast import Broadcast
from qflsec.federation.round.weighing import Weighing
from qflsec.federation.topology import Mix
from qflsec.threat import Delivery, Envelope, Network, Origin, Party, Slot, Version

__all__ = ["Mixing"]

_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A model as one maker holds it."""

    node: int
    share: float
    version: Version
    model: torch.Tensor


class Mixing:
    """The mixing of a batch of runs.

    Args:
        models: The models, and who holds them.
        network: The network.
        audits: Which models clients take of others.
        weighing: What clients give to each model, where they weigh them themselves.
    """

    def __init__(self, *, models: Broadcast, network: Network, audits: Audits, weighing: Weighing) -> None:
        self._models, self._network = models, network
        self._audits, self._weighing = audits, weighing

    def __call__(
        self,
        round_index: int,
        mixes: Mapping[int, Sequence[Mix]],
        silent: Collection[tuple[int, int]],
    ) -> None:
        """Send the models that are to be mixed, and make the means, all of them of the models as they were.

        A model that does not arrive, or is not finite, is left out: who makes the mean keeps the weight for the model
        that it holds itself, or spreads it over those that arrived. A client without a model of its own makes none.

        Args:
            round_index: The round.
            mixes: How each run mixes.
            silent: ``(lane, node)`` of models that nobody sends.
        """
        ways = sorted(
            {
                (node, self._models.holder(lane, node), mix.maker)
                for lane, rows in mixes.items()
                for mix in rows
                for node in mix.weights
                if self._models.holder(lane, node) != mix.maker
            }
        )
        delivery = self._send(round_index, mixes, silent, ways) if ways else None
        made = []
        for lane, rows in mixes.items():
            for mix in rows:
                parts = self._parts(round_index, lane, mix, silent, delivery, ways)
                if len(parts) > 1 or (parts and len(mix.nodes) > 1):
                    made.append((lane, mix, parts))
        members = [self._members(lane, parts) for lane, _, parts in made]
        for (lane, mix, parts), contained in zip(made, members, strict=True):
            total = sum(
                (part.share * part.model.double() for part in parts), torch.zeros((), dtype=torch.float64)
            )
            bases: dict[Version, float] = {}
            for part in parts:
                bases[part.version] = bases.get(part.version, 0.0) + part.share
            self._models.move(
                lane,
                mix.nodes,
                mix.maker,
                _version(round_index, mix),
                Origin(round=round_index, bases=bases, rate=0.0),
                total.to(self._models.params.dtype),
                members=contained,
            )

    def _send(
        self,
        round_index: int,
        mixes: Mapping[int, Sequence[Mix]],
        silent: Collection[tuple[int, int]],
        ways: Sequence[tuple[int, Party, Party]],
    ) -> Delivery:
        models, lanes = self._models, list(range(len(self._models.params)))
        wanted = {
            (lane, node, models.holder(lane, node), mix.maker)
            for lane, rows in mixes.items()
            for mix in rows
            for node in mix.weights
            if (lane, node) not in silent
        }
        return self._network.send(
            Envelope.plain(models.params[:, [node for node, _, _ in ways]]),
            kind="model",
            round_index=round_index,
            lanes=lanes,
            slots=[Slot(holder, maker) for _, holder, maker in ways],
            present=[[(lane, *way) in wanted for way in ways] for lane in lanes],
            members=[[models.members(lane, node) for node, _, _ in ways] for lane in lanes],
            versions=[[models.version(lane, node) for node, _, _ in ways] for lane in lanes],
        )

    def _parts(
        self,
        round_index: int,
        lane: int,
        mix: Mix,
        silent: Collection[tuple[int, int]],
        delivery: Delivery | None,
        ways: Sequence[tuple[int, Party, Party]],
    ) -> list[_Part]:
        """The models that a maker has, with the weights that they get."""
        models, own = self._models, None
        found: list[_Part] = []
        for node, share in sorted(mix.weights.items()):
            version, model = models.version(lane, node), models.params[lane, node].clone()
            if models.holder(lane, node) == mix.maker:
                own = len(found)
            elif (lane, node) in silent or delivery is None:
                continue
            else:
                got = delivery.at(lane, ways.index((node, models.holder(lane, node), mix.maker)))
                if not isinstance(got, torch.Tensor) or fault(got, len(model)) is not None:
                    continue
                if not torch.equal(got, model):
                    version = models.altered(lane, node, mix.maker, round_index)
                model = got
            found.append(_Part(node=node, share=share, version=version, model=model))
        if mix.maker.role == "client":
            if own is None:
                return []
            found, own = self._audited(lane, mix.maker.index, found, own)
            found, own = self._weighed(lane, round_index, mix.maker.index, found, own)
        missing = 1.0 - sum(part.share for part in found)
        return _filled(found, own, missing)

    def _audited(self, lane: int, client: int, parts: Sequence[_Part], own: int) -> tuple[list[_Part], int]:
        """The maker's own model and those of the others that it takes."""
        mine, others = parts[own], [part for place, part in enumerate(parts) if place != own]
        received = torch.stack([part.model for part in others]) if others else mine.model[None][:0]
        taken = self._audits.accepts(lane, client, mine.model, received)
        kept = [part for part, yes in zip(others, taken, strict=True) if yes]
        found = sorted([mine, *kept], key=lambda part: part.node)
        return found, found.index(mine)

    def _weighed(
        self, lane: int, round_index: int, client: int, parts: Sequence[_Part], own: int
    ) -> tuple[list[_Part], int]:
        """The models with the weights that their maker gives them, and the place of its own; those without weight are left out."""
        given = self._weighing(
            lane, round_index, client, [part.share for part in parts], [part.model for part in parts]
        )
        if given is None:
            return list(parts), own
        if not any(given):
            return [replace(parts[own], share=1.0)], 0
        kept = [
            replace(part, share=share)
            for place, (part, share) in enumerate(zip(parts, given, strict=True))
            if share or place == own
        ]
        return kept, kept.index(next(part for part in kept if part.node == parts[own].node))

    def _members(self, lane: int, parts: Sequence[_Part]) -> frozenset[int]:
        return frozenset[int]().union(*(self._models.members(lane, part.node) for part in parts))


def _filled(parts: Sequence[_Part], own: int | None, missing: float) -> list[_Part]:
    """The parts with weights that add up to 1."""
    if len(parts) == 0 or missing < _ROUNDING:
        return list(parts)
    if own is None:
        whole = 1.0 - missing
        return [_scaled(part, part.share / whole) for part in parts]
    return [_scaled(part, part.share + missing) if place == own else part for place, part in enumerate(parts)]


def _scaled(part: _Part, share: float) -> _Part:
    return replace(part, share=share)


def _version(round_index: int, mix: Mix) -> Version:
    """One model of all nodes is the round's; others carry their first node."""
    return f"{round_index + 1}@{mix.nodes[0]}" if len(mix.nodes) == 1 else f"{round_index + 1}"
