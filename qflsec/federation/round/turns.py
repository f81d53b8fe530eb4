"""The adversary's turns: where corrupted parties of a batch act, and only they."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch

from qflsec.base import ProtocolAbort, QflsecError, UpdateError, stream
from qflsec.federation.adversary import Adversary, EdgeHands, Hands, Moved, Sending, ServerHands, parts_of
from qflsec.federation.payloads import Irregular, Sent, SentPayload, fault, same, sent_rows, with_said
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import BatchStep, ClientData
from qflsec.federation.round.endings import ending, failure
from qflsec.federation.round.lies import lies
from qflsec.federation.round.training import ForgedTraining, Trainer
from qflsec.federation.run_spec import RunSpec
from qflsec.models import Model
from qflsec.threat import SERVER, WIRE, Party, Payload, Tapped, Transcript, View, WireTap, client

__all__ = ["Turns"]


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
        self.losses: dict[int, str] = {}
        self._acts: list[dict[Party, str]] = [{} for _ in specs]
        self._states: dict[int, object] = {}
        self._forged = ForgedTraining(pipeline, [spec.seed for spec in specs])
        for lane, spec in enumerate(self._specs):
            if spec.adversary is not None:
                self._start(lane, spec.adversary)

    def _start(self, lane: int, adversary: Adversary) -> None:
        try:
            self._states[lane] = deepcopy(adversary).start(self._pipeline.sharing.n_shared)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            self.fail(lane, error)

    def memory(self, lane: int) -> object:
        """What the adversary of a run keeps; None where it keeps nothing."""
        return self._states.get(lane)

    def remember(self, lane: int, state: object) -> None:
        """What the adversary of a run kept from moves that were made elsewhere."""
        self._states[lane] = state

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
        if answer is None:
            self._acts[lane][WIRE] = f"no {tapped.kind}"
        elif not same(answer, tapped.payload):
            self._acts[lane][WIRE] = f"another {tapped.kind}"
        return answer

    def fail(self, lane: int, error: Exception) -> None:
        """Note that the adversary of a run was faulty."""
        self.failures[lane] = failure(error)

    def end(self, lane: int, error: QflsecError) -> None:
        """Note that a run cannot go on: lost where a corrupted party deviated before, failed where none did."""
        if self._acts[lane]:
            self.losses[lane] = str(error)
        else:
            self.failures[lane] = failure(error)

    def outcome(self, lane: int, abort: ProtocolAbort | None) -> tuple[str, str]:
        """The outcome of a run, and a traceback where it failed.

        Args:
            lane: The run.
            abort: Why a protocol stopped it; None where none did.
        """
        if lane in self.failures:
            message, trace = self.failures[lane]
            return f"failed: {message}", trace
        return ending(self.losses.get(lane), abort, self._acts[lane]), ""

    def check_honest(self, round_index: int, updates: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """End the runs in which an honest client's update is not finite.

        Shapes:
            updates: ``(lane, client, P)``; present: ``(lane, client)``; returns: ``(lane, client)``, who is left
        """
        diverged = self.honest(present) & ~torch.isfinite(updates).all(dim=-1)
        left = present.clone()
        for lane in torch.nonzero(diverged.any(dim=1)).flatten().tolist():
            who = [f"client:{index}" for index in torch.nonzero(diverged[lane]).flatten().tolist()]
            error = UpdateError(
                f"updates of round {round_index} of honest clients are not finite",
                got=f"NaN or infinity from {', '.join(who)}",
                expected="finite numbers",
                fix="their training diverged: lower the learning rate",
            )
            self.end(lane, error)
            left[lane] = False
        return left

    def stated(self, lane: int, index: int) -> Model:
        """The model that a client states to train: the shared one, unless it is corrupted and says otherwise."""
        spec, model = self._specs[lane], self._pipeline.model
        corrupted = spec.threat is not None and index in spec.threat.clients
        if spec.adversary is None or not corrupted or lane in self.failures:
            return model
        try:
            said = deepcopy(spec.adversary).stated(model)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            self.fail(lane, error)
            return model
        if said is not model:
            self._acts[lane][client(index)] = "a statement of another model"
        return said

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
                    asked=[self._specs[lane].asked for lane in lanes],
                )
            )

        sent = models
        for lanes in self._groups(server=True):
            sent = sent.clone()
            sent[lanes], odd = self._play(lanes, models[lanes], move)
            for lane, _ in odd:
                self.fail(lane, UpdateError("a corrupted server sent a client no model", expected="numbers"))
            for lane in lanes:
                if not torch.equal(sent[lane], models[lane]):
                    self._acts[lane][SERVER] = "a model of its own making"
        return sent

    def edge(self, round_index: int, lane: int, head: Party, step: torch.Tensor) -> torch.Tensor:
        """What an edge server makes of the step of its block, where it is corrupted and has had its turn.

        Shapes:
            step: ``(S,)``; returns the same
        """
        spec = self._specs[lane]
        mine = spec.threat is not None and head.role == "edge" and head.index in spec.threat.edges
        if spec.adversary is None or not mine or lane in {*self.failures, *self.losses}:
            return step

        def move(adversary: Adversary, lanes: list[int]) -> Moved:
            return adversary.block(
                EdgeHands(
                    round=round_index,
                    edge=head.index,
                    step=step[None, None],
                    views=self._viewer(lanes),
                    generators=self._generators(lanes, f"adversary-{head}", round_index),
                    states=self._copies(lanes),
                )
            )

        sent, odd = self._play([lane], step[None, None], move)
        if odd:
            self.fail(lane, UpdateError("a corrupted edge server made no step", expected="numbers"))
        if not torch.equal(sent[0, 0], step):
            self._acts[lane][head] = "a step of its own making"
        return sent[0, 0]

    def updates(
        self,
        round_index: int,
        received: torch.Tensor,
        honest: Sent,
        present: torch.Tensor,
        data: ClientData,
        plan: Sequence[BatchStep],
        trainers: Sequence[int],
    ) -> Sent:
        """What is sent, where the corrupted clients among the trainers have had their turn.

        Shapes:
            received: ``(lane, client, P)``; present: ``(lane, client)``
        """
        optimisers, updates = self._forged.state, honest.updates

        def hands(lanes: list[int], purpose: str) -> tuple[Hands, Trainer]:
            clients, place = self._place(lanes, trainers)
            own = data.at(lanes, clients)
            threat = self._specs[lanes[0]].threat
            assert threat is not None
            train = self._forged.trainer(round_index, lanes, clients, received[place], own, plan, optimisers)
            held = Hands(
                round=round_index,
                model=self._pipeline.model,
                received=received[place],
                features=own.features,
                labels=own.labels,
                mask=own.mask,
                honest=updates[place],
                base=self._pipeline.sharing.shared(received[place]),
                periods=self._pipeline.sharing.of_shared(self._pipeline.model.periods),
                training=self._pipeline.federation,
                threat=threat,
                clients=tuple(clients),
                n_clients=self._pipeline.federation.n_clients,
                train=train,
                views=self._viewer(lanes),
                generators=self._generators(lanes, purpose, round_index),
                states=self._copies(lanes),
            )
            return held, train

        def move(adversary: Adversary, lanes: list[int]) -> Sending:
            held, train = hands(lanes, "adversary")
            sent = adversary.updates(held)
            self._forged.keep(train, present)
            return sent

        def say(adversary: Adversary, lanes: list[int]) -> Moved:
            held, _ = hands(lanes, "adversary-reports")
            _, place = self._place(lanes, trainers)
            said = adversary.reports(held, {name: told[place] for name, told in honest.reports.items()})
            return torch.stack([said[name] for name in honest.reports], dim=-1)

        def lie(adversary: Adversary, lanes: list[int]) -> Moved:
            held, _ = hands(lanes, "adversary-metrics")
            assert honest.metrics is not None
            return adversary.metrics(held, honest.metrics[self._place(lanes, trainers)[1]])

        rows, reports, metrics = updates, dict(honest.reports), honest.metrics
        corrupted: set[tuple[int, int]] = set()
        irregular: Irregular = {}
        for lanes in self._groups(server=False):
            clients, place = self._place(lanes, trainers)
            if not clients:
                continue
            moved, odd = self._play(lanes, updates[place], move)
            rows = rows.clone()
            rows[place] = moved
            irregular |= {(lane, clients[column]): payload for (lane, column), payload in odd.items()}
            acting = {(lane, index) for lane in lanes for index in clients if present[lane, index]}
            corrupted |= acting
            for lane, index in sorted(acting):
                payload = irregular.get((lane, index), rows[lane, index])
                self.note(lane, index, payload, updates[lane, index])
            if reports:
                truth = torch.stack([told[place] for told in honest.reports.values()], dim=-1)
                said, _ = self._play(lanes, truth, say)
                reports = with_said(reports, place, said)
            if metrics is not None:
                said, _ = self._play(lanes, metrics[place], lie)
                metrics = metrics.index_put(place, said)
        acted = frozenset(corrupted)
        sent = replace(honest, corrupted=acted, irregular=irregular, reports=reports, metrics=metrics)
        self._note_lies(honest, sent)
        return replace(sent, updates=rows)

    def _note_lies(self, honest: Sent, sent: Sent) -> None:
        """Remember what corrupted clients say of themselves that is not true."""
        for (lane, index), what in lies(sent.corrupted, honest, sent).items():
            self._acts[lane].setdefault(client(index), what)

    def note(self, lane: int, index: int, payload: SentPayload, honest: torch.Tensor) -> None:
        """Remember the last act of a corrupted client that is not what an honest one would send."""
        if isinstance(payload, torch.Tensor) and torch.equal(payload, honest):
            return
        what = "nothing" if payload is None else fault(payload, len(honest))
        self._acts[lane][client(index)] = what or "an update of its own making"

    def _place(
        self, lanes: list[int], trainers: Sequence[int]
    ) -> tuple[list[int], tuple[torch.Tensor, torch.Tensor]]:
        """The corrupted ones of these clients in runs that share a threat model, and where they stand."""
        threat = self._specs[lanes[0]].threat
        assert threat is not None
        clients = [index for index in threat.clients if index in trainers]
        return clients, (torch.tensor(lanes)[:, None], torch.tensor(clients)[None, :])

    def _groups(self, *, server: bool) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for lane, spec in enumerate(self._specs):
            if spec.adversary is None or spec.threat is None or lane in {*self.failures, *self.losses}:
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
        self, lanes: list[int], honest: torch.Tensor, move: Callable[[Adversary, list[int]], Sending]
    ) -> tuple[torch.Tensor, Irregular]:
        """The move of runs that share an adversary; one that fails is made run by run.

        A faulty adversary fails the runs in which it is faulty and no others: what becomes of a run does not
        depend on the runs beside it.

        Returns:
            Rows of numbers, and what is no such row by run and column.
        """
        adversary = self._specs[lanes[0]].adversary
        assert adversary is not None
        try:
            values, states = parts_of(move(deepcopy(adversary), lanes), len(lanes))
            rows, odd = sent_rows(values, honest)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            if len(lanes) == 1:
                self.fail(lanes[0], error)
                return honest, {}
            alone = [self._play([lane], honest[[row]], move) for row, lane in enumerate(lanes)]
            irregular = {place: payload for _, part in alone for place, payload in part.items()}
            return torch.cat([part for part, _ in alone]), irregular
        self._states.update(zip(lanes, states, strict=False))
        return rows, {(lanes[row], column): payload for (row, column), payload in odd.items()}
