"""Which parameters the clients of a batch send in a round, and what corrupted ones say that they send."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch

from qflsec.base import UpdateError
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.opening import participants
from qflsec.federation.round.turns import Turns
from qflsec.federation.run_spec import RunSpec
from qflsec.threat import Part

__all__ = ["RoundParts"]


class RoundParts:
    """The parts that clients send, round by round; everything where the pipeline knows no parts.

    Args:
        pipeline: The pipeline, as its clients execute it.
        specs: The runs.
        turns: The moves of the adversaries.
    """

    def __init__(self, pipeline: Pipeline, specs: Sequence[RunSpec], turns: Turns) -> None:
        self._pipeline, self._specs, self._turns = pipeline, tuple(specs), turns
        self._sent: torch.Tensor | None = None
        idle = frozenset(pipeline.idle)
        corrupted = [
            spec.threat.clients if spec.threat is not None and spec.adversary is not None else ()
            for spec in specs
        ]
        clients = range(pipeline.federation.n_clients)
        self._stepping = torch.tensor(
            [[i not in idle or i in acting for i in clients] for acting in corrupted]
        )
        self.numbers = [0.0 for _ in specs]

    def participants(self, round_index: int, counts: torch.Tensor) -> torch.Tensor:
        """Begin a round: who takes part in it.

        A client without records sits out, one of whom nothing arrives, and an honest one whose device is too noisy for a
        step: everybody knows that its update would be zeros, behind which nobody else's could hide.

        Shapes:
            counts: ``(lane, client)``; returns the same, boolean
        """
        parts, n_clients = self._pipeline.parts, self._pipeline.federation.n_clients
        seeds = [spec.seed for spec in self._specs]
        chosen = participants(self._pipeline.federation, seeds, counts, round_index) & self._stepping
        if parts is None:
            return chosen
        model = self._pipeline.model
        sent = torch.stack([parts.sent(model, n_clients, round_index, spec.seed) for spec in self._specs])
        chosen = chosen & sent.any(dim=-1)
        choices = parts.choices(model)
        for lane, index in torch.nonzero(chosen).tolist():
            sent[lane, index] = self._claimed(lane, index, choices, sent[lane, index])
        self._sent = self._pipeline.sharing.shared(sent)
        return chosen

    def _claimed(self, lane: int, index: int, choices: torch.Tensor, honest: torch.Tensor) -> torch.Tensor:
        """What a client says that it sends: the truth, unless it is corrupted and says otherwise.

        Shapes:
            choices: ``(c, P)``; honest: ``(P,)``; returns the same
        """
        spec = self._specs[lane]
        corrupted = spec.threat is not None and index in spec.threat.clients
        if spec.adversary is None or not corrupted or lane in self._turns.failures:
            return honest
        truth = next(place for place, row in enumerate(choices) if torch.equal(row, honest))
        try:
            said = deepcopy(spec.adversary).claims(len(choices), truth)
        except Exception as error:  # noqa: BLE001 - the code of an attack may raise anything
            self._turns.fail(lane, error)
            return honest
        if said not in range(len(choices)):
            self._turns.fail(
                lane,
                UpdateError(
                    "an attack claims parts that there are not", got=said, expected=f"0 to {len(choices) - 1}"
                ),
            )
            return honest
        return choices[said]

    def cut(self, updates: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Updates without what is not sent, which is counted.

        Args:
            updates: What clients release.
            present: Who sends.

        Shapes:
            updates: ``(lane, client, S)``; present: ``(lane, client)``; returns as ``updates``
        """
        if self._sent is None:
            return updates
        for lane in range(len(self._specs)):
            self.numbers[lane] += float(self._sent[lane, present[lane]].sum())
        return torch.where(self._sent, updates, 0.0)

    def opened(self, lane: int, opened: Opened) -> Opened:
        """What arrived, with who sent which parameters; numbers in the place of others count for nothing."""
        if self._sent is None or opened.updates is None:
            return opened
        sent = self._sent[lane, list(opened.ids)]
        return replace(opened, sent=sent, updates=torch.where(sent, opened.updates, 0.0))

    def of_step(self, opened: Opened) -> tuple[Part, ...]:
        """Who is in which places of the step made of these updates; nothing where everybody is in all."""
        if opened.sent is None:
            return ()
        patterns: dict[tuple[bool, ...], list[int]] = {}
        for place, column in enumerate(opened.sent.T.tolist()):
            patterns.setdefault(tuple(column), []).append(place)
        return tuple(
            Part(
                places=tuple(places),
                clients=frozenset(index for index, there in zip(opened.ids, pattern, strict=True) if there),
            )
            for pattern, places in patterns.items()
            if any(pattern)
        )
