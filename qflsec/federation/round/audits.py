"""Audits: clients that try out the models which other clients hand them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from qflsec.federation.audit_layers import AuditLayer
from qflsec.federation.round.batches import ClientData
from qflsec.federation.round.broadcast import Received
from qflsec.federation.run_spec import RunSpec
from qflsec.models import Model
from qflsec.threat import Version

__all__ = ["Audits"]


class Audits:
    """The audits of a batch of runs.

    Args:
        layer: Which models are taken; None where nobody audits.
        model: The shared model.
        data: The records of all clients.
        specs: The runs, whose corrupted clients audit nothing.
    """

    def __init__(
        self, layer: AuditLayer | None, model: Model, data: ClientData, specs: Sequence[RunSpec]
    ) -> None:
        self._layer, self._model, self._data = layer, model, data
        self._dishonest = [frozenset(spec.threat.clients if spec.threat else ()) for spec in specs]
        self._kept: dict[tuple[int, int], tuple[Version, torch.Tensor]] = {}
        self.refused = [0 for _ in specs]

    @property
    def active(self) -> bool:
        """Whether anybody audits."""
        return self._layer is not None

    def accepts(self, lane: int, client: int, own: torch.Tensor, received: torch.Tensor) -> list[bool]:
        """Which of the received models a client takes.

        Shapes:
            own: ``(P,)``; received: ``(k, P)``
        """
        if self._layer is None or client in self._dishonest[lane] or not len(received):
            return [True] * len(received)
        data, models = self._data, torch.cat([own[None], received])
        with torch.no_grad():
            logits = self._model(models[:, None, :], data.features[lane, client])
            each = self._model.loss.per_sample(logits, data.labels[lane, client].expand(len(models), -1))
        mask = data.mask[lane, client]
        losses = (each * mask).sum(dim=-1) / mask.sum().clamp(min=1.0)
        taken: list[bool] = self._layer.accepts(losses[0], losses[1:]).tolist()
        self.refused[lane] += taken.count(False)
        return taken

    def keep(self, lane: int, client: int, version: Version, params: torch.Tensor) -> None:
        """Note what a client handed on.

        Shapes:
            params: ``(P,)``
        """
        if self._layer is not None:
            self._kept[lane, client] = version, params

    def of_ring(self, received: Received, clients: Sequence[int]) -> Received:
        """What the clients of a turn go on from: what they received, or what they handed on last.

        Args:
            received: What they received.
            clients: The clients.
        """
        if self._layer is None:
            return received
        models, bases = received.models.clone(), [list(row) for row in received.bases]
        for lane, client in torch.nonzero(received.present).tolist():
            if client not in clients or (lane, client) not in self._kept:
                continue
            version, own = self._kept[lane, client]
            if not self.accepts(lane, client, own, models[lane, [client]])[0]:
                models[lane, client], bases[lane][client] = own, version
        return replace(received, models=models, bases=bases)
