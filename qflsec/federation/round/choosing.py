"""Choices: which of several models each client trains in a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch

from qflsec.base import UpdateError, stream
from qflsec.federation.payloads import fault
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import ClientData
from qflsec.federation.round.broadcast import Broadcast
from qflsec.federation.round.opening import Readers
from qflsec.federation.round.turns import Turns
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.topology import Clusters, Turn
from qflsec.threat import Envelope, Network, Origin, Slot, client, edge

__all__ = ["Choosing", "schedule_of"]

Schedule = Callable[[int, torch.Tensor], tuple[Turn, ...]]
"""The turns of a round, from its number and who takes part, ``(lane, client)``."""


def schedule_of(
    pipeline: Pipeline,
    specs: Sequence[RunSpec],
    models: Broadcast,
    network: Network,
    turns: Turns,
    data: ClientData,
    readers: Readers,
) -> Schedule:
    """The turns of a batch's rounds: what the topology says, or what clients choose."""
    if pipeline.topology.chosen:
        return Choosing(
            pipeline=pipeline,
            specs=specs,
            models=models,
            network=network,
            turns=turns,
            data=data,
            readers=readers,
        )
    n_clients, seed = pipeline.federation.n_clients, specs[0].seed
    return lambda round_index, _: pipeline.topology.turns_of(n_clients, round_index, seed)


class Choosing:
    """The choices of a run's clients; runs whose clients choose share no batch.

    Args:
        pipeline: The pipeline.
        specs: The run.
        models: Its models.
        network: The network.
        turns: Where a faulty adversary is noted.
        data: The records of all clients.
        readers: Who reads which model; a choice changes it.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        specs: Sequence[RunSpec],
        models: Broadcast,
        network: Network,
        turns: Turns,
        data: ClientData,
        readers: Readers,
    ) -> None:
        assert isinstance(pipeline.topology, Clusters)
        (self._spec,) = specs
        self._pipeline, self._topology, self._models = pipeline, pipeline.topology, models
        self._network, self._turns, self._data, self._readers = network, turns, data, readers
        self._choices = {i: i % self._topology.edges for i in range(pipeline.federation.n_clients)}
        for node in range(self._topology.edges):
            # models that begin alike would be chosen alike
            first = pipeline.model.initial(stream(self._spec.seed, "initial", *([node] if node else [])))
            params = pipeline.sharing.shared(first)
            models.move(0, (node,), edge(node), f"0@{node}", Origin(round=-1), params, members=frozenset())

    def __call__(self, round_index: int, present: torch.Tensor) -> tuple[Turn, ...]:
        """Send every model to those who take part, and hear what they choose.

        Args:
            round_index: The round.
            present: Who takes part.

        Shapes:
            present: ``(1, client)``
        """
        here = torch.nonzero(present[0]).flatten().tolist()
        received = self._offer(round_index, here)
        chosen = {
            index: self._choose(index, self._losses(round_index, index, models))
            for index, models in received.items()
        }
        heard = self._tell(round_index, chosen)
        self._choices |= heard
        threat = self._spec.threat
        corrupted = threat.clients if threat is not None and self._spec.adversary is not None else ()
        honest = [node for index, node in sorted(self._choices.items()) if index not in corrupted]
        self._readers.models[0][:] = honest or list(self._choices.values())
        return self._topology.turns_for(heard)

    def _offer(self, round_index: int, here: Sequence[int]) -> dict[int, list[torch.Tensor | None]]:
        """The models that each client got, by client and node."""
        nodes = range(self._topology.edges)
        ways = [(index, node) for index in here for node in nodes]
        if not ways:
            return {}
        delivery = self._network.send(
            Envelope.plain(self._models.params[:, [node for _, node in ways]]),
            kind="model",
            round_index=round_index,
            lanes=[0],
            slots=[Slot(self._models.holder(0, node), client(index)) for index, node in ways],
            present=[[True] * len(ways)],
            members=[[self._models.members(0, node) for _, node in ways]],
            versions=[[self._models.version(0, node) for _, node in ways]],
        )
        found: dict[int, list[torch.Tensor | None]] = {index: [None] * len(nodes) for index in here}
        for place, (index, node) in enumerate(ways):
            got = delivery.at(0, place)
            if isinstance(got, torch.Tensor) and fault(got, self._models.params.shape[-1]) is None:
                found[index][node] = got
        return found

    def _losses(self, round_index: int, index: int, models: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """The loss of each model on a client's records; infinite where none arrived.

        Shapes:
            returns: ``(node,)``, double
        """
        rows = self._data.mask[0, index] > 0
        features, labels = self._data.features[0, index, rows], self._data.labels[0, index, rows]
        losses = torch.full((len(models),), torch.inf, dtype=torch.float64)
        model = self._pipeline.model
        generator = stream(self._spec.seed, "choice", round_index, index)
        with torch.no_grad():
            for node, params in enumerate(models):
                if params is not None:
                    execution = self._pipeline.execution_of(index)
                    logits = model(params, features, execution=execution, generator=generator)
                    losses[node] = model.loss.per_sample(logits, labels).double().mean()
        return losses

    def _choose(self, index: int, losses: torch.Tensor) -> int:
        """The model with the least loss, or what the adversary of a corrupted client makes of the losses."""
        least, spec = int(losses.argmin()), self._spec
        corrupted = spec.threat is not None and index in spec.threat.clients
        if spec.adversary is None or not corrupted or self._turns.failures:
            return least
        try:
            said = deepcopy(spec.adversary).chooses(losses.clone())
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            self._turns.fail(0, error)
            return least
        if said in range(len(losses)):
            return said
        wrong = UpdateError(
            "an attack chose a cluster that there is not", got=said, expected=f"0 to {len(losses) - 1}"
        )
        self._turns.fail(0, wrong)
        return least

    def _tell(self, round_index: int, chosen: dict[int, int]) -> dict[int, int]:
        """The choices that arrived, each at its edge server."""
        told = sorted(chosen.items())
        if not told:
            return {}
        delivery = self._network.send(
            Envelope.plain([[bytes([node]) for _, node in told]]),
            kind="control",
            round_index=round_index,
            lanes=[0],
            slots=[Slot(client(index), edge(node)) for index, node in told],
            present=[[True] * len(told)],
            members=[[frozenset({index}) for index, _ in told]],
        )
        return {
            index: node for place, (index, node) in enumerate(told) if delivery.at(0, place) == bytes([node])
        }
