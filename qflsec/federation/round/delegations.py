"""Delegations of a batch of runs: each client's circuits, executed by the quantum server of its run."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch

from qflsec.base import IncompatibleStack, ProtocolAbort, stream_seed
from qflsec.federation.delegation import Conversation, DelegationLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.session import Session
from qflsec.federation.run_spec import RunSpec
from qflsec.models import Execution, Model
from qflsec.threat import Network, Party, client

__all__ = ["Delegations", "check_delegation"]


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """The records of a step, as :class:`Delegations` takes them."""

    params: torch.Tensor
    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor

    def at(self, lane: int, place: int) -> _Slice:
        """One client of one run."""
        both = slice(lane, lane + 1), slice(place, place + 1)
        return _Slice(
            params=self.params[both],
            features=self.features[both],
            labels=self.labels[both],
            mask=self.mask[both],
        )


class Delegations:
    """The delegations of a batch of runs: each client's to the quantum server of its run.

    Args:
        layer: The layer that delegates.
        pipeline: The pipeline.
        session: The parties' states.
        network: The network.
        specs: The runs.
        failures: The runs that have failed.
        fail: Notes that the program of a run's quantum server was faulty.
    """

    def __init__(
        self,
        *,
        layer: DelegationLayer,
        pipeline: Pipeline,
        session: Session,
        network: Network,
        specs: Sequence[RunSpec],
        failures: Container[int],
        fail: Callable[[int, Exception], None],
    ) -> None:
        self._layer, self._pipeline, self._session = layer, pipeline, session
        self._network, self._specs = network, specs
        self._failures, self._fail = failures, fail
        self._programs = [_program(spec) for spec in specs]
        self._kept: dict[tuple[int, Party], int] = {}
        self._round = 0
        self._present = torch.zeros(0, 0, dtype=torch.bool)

    @classmethod
    def of(cls, layer: DelegationLayer | None, **context: Any) -> Delegations | None:  # noqa: ANN401 - as the class
        """The delegations of a layer; None where there is none."""
        return None if layer is None else cls(layer=layer, **context)

    def start(self, round_index: int, present: torch.Tensor) -> None:
        """Begin a round.

        Args:
            round_index: The round.
            present: Who takes part; nobody else delegates.

        Shapes:
            present: ``(lane, client)``
        """
        self._round, self._present = round_index, present

    def results(self, lane: int) -> dict[int, tuple[object, ...]]:
        """What the ledger needs to know of each client's delegations in one run."""
        states = {i: self._session.state(lane, self._layer, client(i)) for i in range(self._present.shape[1])}
        return {index: tuple(self._layer.results(state)) for index, state in states.items()}

    def gradients(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        *,
        per_sample: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One local step of every client that takes part, through the quantum server; zero for all others.

        Every row is delegated, padding and records that are not sampled included, so that the number of
        rounds says nothing of them. A run whose tests fail is named in the network's ``aborts``.

        Shapes:
            params: ``(lane, client, P)``; features: ``(lane, client, B, F)``; labels, mask:
            ``(lane, client, B)``; returns ``(lane, client, B, P)`` if ``per_sample``, else
            ``(lane, client, P)``, and the mean losses ``(lane, client)``.
        """
        everything = _Slice(params=params, features=features, labels=labels, mask=mask)
        shape = (*labels.shape, params.shape[-1]) if per_sample else params.shape
        gradients = params.new_zeros(shape)
        losses = torch.zeros(params.shape[:2], dtype=self._pipeline.execution.real_dtype)
        for lane, place in torch.nonzero(self._present).tolist():
            if lane in self._network.aborts or lane in self._failures:
                continue
            try:
                found = self._one(lane, place, everything.at(lane, place), per_sample=per_sample)
            except ProtocolAbort as abort:
                self._network.aborts[lane] = abort
            except Exception as error:
                if self._programs[lane] is None:
                    raise
                self._fail(lane, error)  # the program of a corrupted server may raise anything
            else:
                gradients[lane, place], losses[lane, place] = found
        return gradients, losses

    def _one(
        self, lane: int, place: int, step: _Slice, *, per_sample: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        party = client(place)
        conversation = Conversation(
            network=self._network,
            lane=lane,
            round_index=self._round,
            party=party,
            seed=self._specs[lane].seed,
            program=self._programs[lane],
            kept=self._kept,
        )
        evaluator = self._layer.evaluator(self._session.state(lane, self._layer, party), conversation)
        execution = replace(self._pipeline.execution_of(place), evaluator=evaluator)
        gradient, loss = _differentiate(self._pipeline.model, step, execution, per_sample=per_sample)
        return gradient[0, 0], loss[0, 0]


def _differentiate(
    model: Model, step: _Slice, execution: Execution, *, per_sample: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients and loss from one request: the layer inside training sees what it sees in the clear."""
    rows = step.params[..., None, :]
    leaf = (rows.expand(*step.labels.shape, -1) if per_sample else rows).detach().requires_grad_()
    losses = model.loss.per_sample(model(leaf, step.features, execution=execution), step.labels)
    mean = (losses * step.mask).sum(dim=-1) / step.mask.sum(dim=-1).clamp(min=1.0)
    (gradient,) = torch.autograd.grad((losses if per_sample else mean).sum(), leaf)
    return (gradient if per_sample else gradient.squeeze(-2)), mean.detach()


def _program(spec: RunSpec) -> object | None:
    if spec.adversary is None or spec.threat is None or not spec.threat.quantum_server:
        return None
    # a fresh copy, as for every move: nothing of one run is left for another
    return deepcopy(spec.adversary).quantum_server(stream_seed(spec.seed, "quantum-server"))


def check_delegation(layers: Sequence[DelegationLayer], runs: Sequence[RunSpec]) -> None:
    """Refuse runs whose corrupted quantum server has no part in the stack, or one that it cannot be given.

    Raises:
        IncompatibleStack: The adversary and the stack do not fit.
    """
    for run in runs:
        if run.threat is None or _program(run) is None:
            continue
        if not layers:
            raise IncompatibleStack(
                "the adversary acts through the quantum server, but nothing in this stack is delegated to one",
                fix="add a layer that delegates, such as 'blind' or 'delegated'",
            )
        for layer in layers:
            layer.check_server(run.threat)
