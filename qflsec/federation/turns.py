"""The adversary's turns: where corrupted parties of a batch act, and only they."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

import torch

from qflsec.base import QflsecError, stream
from qflsec.federation.adversary import Hands, ServerHands
from qflsec.federation.local import BatchStep, ClientData, LocalTraining
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.run import RunSpec
from qflsec.federation.streams import RoundStreams
from qflsec.threat import Transcript, View

__all__ = ["Turns", "failure"]


def failure(error: Exception) -> tuple[str, str]:
    """Message and traceback of a failed run."""
    message = str(error) if isinstance(error, QflsecError) else f"{type(error).__name__}: {error}"
    return message, traceback.format_exc()


class Turns:
    """The moves of the adversaries of a batch.

    Runs that share adversary and threat model move together; runs of different adversaries never do.

    Args:
        pipeline: The pipeline.
        specs: The runs.
        transcript: Where views come from.
    """

    def __init__(self, *, pipeline: Pipeline, specs: Sequence[RunSpec], transcript: Transcript) -> None:
        self._pipeline = pipeline
        self._specs = tuple(specs)
        self._transcript = transcript
        self.failures: dict[int, tuple[str, str]] = {}

    def fail(self, lane: int, error: Exception) -> None:
        """Note that the adversary of a run was faulty."""
        self.failures[lane] = failure(error)

    def early(self, present: torch.Tensor) -> torch.Tensor:
        """Who sends before the adversary's turn: the honest clients of runs with a rushing adversary.

        Shapes:
            present: ``(lane, client)``; returns: ``(lane, client)``
        """
        early = torch.zeros_like(present)
        for lane, spec in enumerate(self._specs):
            if spec.threat is not None and spec.threat.rushing:
                early[lane] = present[lane]
                early[lane, list(spec.threat.clients)] = False
        return early

    def honest(self, present: torch.Tensor) -> torch.Tensor:
        """The honest ones among these clients.

        Shapes:
            present: ``(lane, client)``; returns: ``(lane, client)``
        """
        honest = present.clone()
        for lane, spec in enumerate(self._specs):
            if spec.threat is not None:
                honest[lane, list(spec.threat.clients)] = False
        return honest

    def broadcast(self, round_index: int, params: torch.Tensor, models: torch.Tensor) -> torch.Tensor:
        """The models that go out, where corrupted servers have had their turn.

        Shapes:
            params: ``(lane, P)``; models: ``(lane, client, P)``; returns: ``(lane, client, P)``
        """
        sent = models
        for lanes in self._groups(server=True):
            adversary = self._specs[lanes[0]].adversary
            assert adversary is not None
            hands = ServerHands(
                round=round_index,
                model=self._pipeline.model,
                params=params[lanes],
                n_clients=self._pipeline.federation.n_clients,
                views=self._viewer(lanes),
                generators=self._generators(lanes, "adversary-server", round_index),
            )
            sent = sent.clone()
            sent[lanes] = self._guard(lanes, models[lanes], lambda a=adversary, h=hands: a.broadcast(h))  # type: ignore[misc]
        return sent

    def updates(
        self,
        round_index: int,
        received: torch.Tensor,
        updates: torch.Tensor,
        data: ClientData,
        plan: Sequence[BatchStep],
        streams: RoundStreams,
    ) -> torch.Tensor:
        """The updates that are sent, where corrupted clients have had their turn.

        Shapes:
            received, updates: ``(lane, client, P)``; returns: ``(lane, client, P)``
        """
        sent = updates
        for lanes in self._groups(server=False):
            spec = self._specs[lanes[0]]
            assert spec.adversary is not None
            assert spec.threat is not None
            clients = list(spec.threat.clients)
            place = torch.tensor(lanes)[:, None], torch.tensor(clients)[None, :]
            own = data.at(lanes, clients)
            hands = Hands(
                round=round_index,
                model=self._pipeline.model,
                received=received[place],
                features=own.features,
                labels=own.labels,
                mask=own.mask,
                honest=updates[place],
                clients=tuple(clients),
                n_clients=self._pipeline.federation.n_clients,
                train=self._trainer(lanes, clients, received[place], own, plan, streams),
                views=self._viewer(lanes),
                generators=self._generators(lanes, "adversary", round_index),
            )
            adversary = spec.adversary
            moved = self._guard(lanes, updates[place], lambda a=adversary, h=hands: a.updates(h))  # type: ignore[misc]
            sent = sent.clone()
            sent[place] = moved
        return sent

    def _trainer(
        self,
        lanes: list[int],
        clients: list[int],
        start: torch.Tensor,
        own: ClientData,
        plan: Sequence[BatchStep],
        streams: RoundStreams,
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        undefended = LocalTraining(pipeline=self._pipeline)
        steps = [step.at(lanes, clients) for step in plan]

        def train(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            forged = ClientData(features=features, labels=labels, mask=own.mask)
            return undefended(start, forged, steps, streams, clients, purpose="adversary-shots", lanes=lanes)[
                0
            ]

        return train

    def _groups(self, *, server: bool) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for lane, spec in enumerate(self._specs):
            if spec.adversary is None or spec.threat is None or lane in self.failures:
                continue
            if spec.threat.server if server else spec.threat.clients:
                key = f"{spec.adversary.identity()!r}|{spec.threat.to_config()!r}"
                groups.setdefault(key, []).append(lane)
        return list(groups.values())

    def _viewer(self, lanes: list[int]) -> Callable[[], list[View]]:
        def views() -> list[View]:
            found = []
            for lane in lanes:
                threat = self._specs[lane].threat
                assert threat is not None
                found.append(self._transcript.seen_by(threat, lane))
            return found

        return views

    def _generators(self, lanes: list[int], purpose: str, round_index: int) -> list[torch.Generator]:
        return [stream(self._specs[lane].seed, purpose, round_index) for lane in lanes]

    def _guard(
        self, lanes: list[int], fallback: torch.Tensor, turn: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """A faulty adversary fails its own runs and no others."""
        try:
            return turn().to(fallback.dtype).expand_as(fallback)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            for lane in lanes:
                self.failures[lane] = failure(error)
            return fallback
