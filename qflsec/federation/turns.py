"""The adversary's turns: where corrupted parties of a batch act, and only they."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch

from qflsec.base import QflsecError, UpdateError, stream
from qflsec.federation.adversary import Adversary, Hands, Moved, ServerHands
from qflsec.federation.local import BatchStep, ClientData, LocalTraining
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.streams import RoundStreams
from qflsec.threat import Payload, Tapped, Transcript, View, WireTap

__all__ = ["Turns", "failure"]


def failure(error: Exception) -> tuple[str, str]:
    """Message and traceback of a failed run."""
    message = str(error) if isinstance(error, QflsecError) else f"{type(error).__name__}: {error}"
    return message, traceback.format_exc()


class Turns:
    """The moves of the adversaries of a batch.

    Runs that share adversary and threat model move together; runs of different adversaries never do. Every move
    is made by a fresh copy of the adversary, from copies of its states: nothing passes from one round or run to
    another but the state that a move returns.

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
        self._states: dict[int, object] = {}
        for lane, spec in enumerate(self._specs):
            if spec.adversary is not None:
                self._start(lane, spec.adversary)

    def _start(self, lane: int, adversary: Adversary) -> None:
        try:
            self._states[lane] = deepcopy(adversary).start(self._pipeline.model.n_params)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            self.fail(lane, error)

    def memory(self, lane: int) -> object:
        """What the adversary of a run keeps; None where it keeps nothing."""
        return self._states.get(lane)

    def taps(self) -> dict[int, WireTap]:
        """What corrupted networks do to a message, by run."""
        return {
            lane: partial(self._tap, lane)
            for lane, spec in enumerate(self._specs)
            if spec.adversary is not None and spec.threat is not None and spec.threat.wire
        }

    def _tap(self, lane: int, tapped: Tapped) -> Payload | None:
        """A faulty adversary lets everything through: its run has failed."""
        adversary = self._specs[lane].adversary
        if adversary is None or lane in self.failures:
            return tapped.payload
        try:
            answer = deepcopy(adversary).tamper(replace(tapped, state=deepcopy(self._states[lane])))
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            self.fail(lane, error)
            return tapped.payload
        if isinstance(answer, tuple):
            answer, self._states[lane] = answer
        return answer

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

        def move(adversary: Adversary, lanes: list[int]) -> Moved:
            return adversary.broadcast(
                ServerHands(
                    round=round_index,
                    model=self._pipeline.model,
                    params=params[lanes],
                    n_clients=self._pipeline.federation.n_clients,
                    views=self._viewer(lanes),
                    generators=self._generators(lanes, "adversary-server", round_index),
                    states=self._copies(lanes),
                )
            )

        sent = models
        for lanes in self._groups(server=True):
            sent = sent.clone()
            sent[lanes] = self._play(lanes, models[lanes], move)
        return sent

    def updates(
        self,
        round_index: int,
        received: torch.Tensor,
        updates: torch.Tensor,
        data: ClientData,
        plan: Sequence[BatchStep],
    ) -> torch.Tensor:
        """The updates that are sent, where corrupted clients have had their turn.

        Shapes:
            received, updates: ``(lane, client, P)``; returns: ``(lane, client, P)``
        """

        def move(adversary: Adversary, lanes: list[int]) -> Moved:
            clients, place = self._place(lanes)
            own = data.at(lanes, clients)
            return adversary.updates(
                Hands(
                    round=round_index,
                    model=self._pipeline.model,
                    received=received[place],
                    features=own.features,
                    labels=own.labels,
                    mask=own.mask,
                    honest=updates[place],
                    clients=tuple(clients),
                    n_clients=self._pipeline.federation.n_clients,
                    train=self._trainer(round_index, lanes, clients, received[place], own, plan),
                    views=self._viewer(lanes),
                    generators=self._generators(lanes, "adversary", round_index),
                    states=self._copies(lanes),
                )
            )

        sent = updates
        for lanes in self._groups(server=False):
            _, place = self._place(lanes)
            sent = sent.clone()
            sent[place] = self._play(lanes, updates[place], move)
        return sent

    def _place(self, lanes: list[int]) -> tuple[list[int], tuple[torch.Tensor, torch.Tensor]]:
        """The corrupted clients of runs that share a threat model, and where they stand."""
        threat = self._specs[lanes[0]].threat
        assert threat is not None
        clients = list(threat.clients)
        return clients, (torch.tensor(lanes)[:, None], torch.tensor(clients)[None, :])

    def _trainer(
        self,
        round_index: int,
        lanes: list[int],
        clients: list[int],
        start: torch.Tensor,
        own: ClientData,
        plan: Sequence[BatchStep],
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        undefended = LocalTraining(pipeline=self._pipeline)
        # streams of this move alone: a move that is made again draws the same outcomes
        streams = RoundStreams([spec.seed for spec in self._specs], round_index)
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

    def _copies(self, lanes: list[int]) -> tuple[object, ...]:
        return tuple(deepcopy(self._states[lane]) for lane in lanes)

    def _play(
        self, lanes: list[int], honest: torch.Tensor, move: Callable[[Adversary, list[int]], Moved]
    ) -> torch.Tensor:
        """The move of runs that share an adversary; one that fails is made run by run.

        A faulty adversary fails the runs in which it is faulty and no others: what becomes of a run does not
        depend on the runs beside it.
        """
        adversary = self._specs[lanes[0]].adversary
        assert adversary is not None
        try:
            values, states = _parts(move(deepcopy(adversary), lanes), len(lanes))
            moved = values.to(honest.dtype).expand_as(honest)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            if len(lanes) == 1:
                self.fail(lanes[0], error)
                return honest
            return torch.cat([self._play([lane], honest[[row]], move) for row, lane in enumerate(lanes)])
        self._states.update(zip(lanes, states, strict=False))
        return moved


def _parts(moved: Moved, n_lanes: int) -> tuple[torch.Tensor, Sequence[object]]:
    """What is sent, and the next states; none where they stay as they were."""
    if not isinstance(moved, tuple):
        return moved, ()
    values, states = moved
    if len(states) != n_lanes:
        raise UpdateError(
            "an adversary returned the wrong number of states",
            got=len(states),
            expected=n_lanes,
            fix="return one state for each lane",
        )
    return values, states
