"""What clients send: an honest one an update, a corrupted one anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from qflsec.base import UpdateError
from qflsec.threat import Payload

__all__ = [
    "NOT_FINITE",
    "ClientPayloads",
    "Irregular",
    "Sent",
    "SentPayload",
    "fault",
    "misshapen",
    "same",
    "sent_raw",
    "sent_rows",
    "with_said",
]

NOT_FINITE = "numbers that are not finite"

SentPayload = torch.Tensor | bytes | None
"""What one corrupted client sends in place of an update: numbers of any shape and type, bytes, or nothing."""

Irregular = dict[tuple[int, int], SentPayload]
"""Payloads that are no update, by lane and client."""

ClientPayloads = list[Sequence[SentPayload]]
"""One entry for each lane and, in it, for each corrupted client. A list: a tuple is a move with its states."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What the clients of a batch send in one round.

    Attributes:
        updates: One update for each client.
        corrupted: ``(lane, client)`` of those that no honest code binds: their numbers may be anything.
        irregular: What a corrupted client sends in place of its row of ``updates``.
        reports: What clients say of themselves beside it, by name.
        metrics: The entries of the metric that each client uploads; none by default.

    Shapes:
        updates: ``(lane, client, P)``; reports: ``(lane, client)`` each; metrics: ``(lane, client, M)``
    """

    updates: torch.Tensor
    corrupted: frozenset[tuple[int, int]] = frozenset()
    irregular: Mapping[tuple[int, int], SentPayload] = field(default_factory=dict)
    reports: Mapping[str, torch.Tensor] = field(default_factory=dict)
    metrics: torch.Tensor | None = None

    @property
    def released(self) -> torch.Tensor:
        """A client's update and, where clients upload one, the entries of its metric.

        Shapes:
            returns: ``(lane, client, P + M)``
        """
        return self.updates if self.metrics is None else torch.cat([self.updates, self.metrics], dim=-1)

    def numbers(self, counts: torch.Tensor) -> torch.Tensor:
        """What a client releases, its number of examples, and what it reports, in the order of the names.

        Shapes:
            counts: ``(lane, client)``; returns: ``(lane, client, P + M + 1 + r)``
        """
        beside = [counts, *(self.reports[name] for name in sorted(self.reports))]
        return torch.cat(
            [self.released, *(said[..., None].to(self.updates.dtype) for said in beside)], dim=-1
        )

    def messages(self, counts: torch.Tensor, now: torch.Tensor) -> torch.Tensor | Sequence[Sequence[Payload]]:
        """The messages of clients that nothing seals.

        Shapes:
            counts, now: ``(lane, client)``
        """
        plain = self.numbers(counts)
        odd = {place: payload for place, payload in self.irregular.items() if bool(now[place])}
        if not odd:
            return plain
        values: list[list[Payload]] = [list(row) for row in plain]
        for (lane, index), payload in odd.items():
            assert payload is not None
            raw, beside = sent_raw(payload), plain[lane, index, self.updates.shape[-1] :]
            # numbers of whatever length travel as an update does, what is said of it behind them
            values[lane][index] = (
                torch.cat([raw, beside.to(raw.dtype)]) if isinstance(raw, torch.Tensor) else raw
            )
        return values


def sent_rows(
    returned: torch.Tensor | ClientPayloads, honest: torch.Tensor
) -> tuple[torch.Tensor, Irregular]:
    """What an adversary returned, as rows of numbers and as what is no such row, by position.

    Any numbers are input: an adversary may send NaN. A tensor of another shape is a mistake of its code, since it
    was to hold one update for each lane and corrupted client; whoever means to send another shape says so with a
    payload for each client.

    Shapes:
        honest: ``(lane, m, P)``; returns: ``(lane, m, P)``

    Raises:
        UpdateError: The result is not one update, or one payload, for each lane and corrupted client.
    """
    n_lanes, n_clients, n_params = honest.shape
    if isinstance(returned, torch.Tensor):
        if returned.shape != honest.shape or not returned.dtype.is_floating_point:
            raise UpdateError(
                "the updates of an attack have the wrong shape",
                got=f"{tuple(returned.shape)} of {returned.dtype}",
                expected=f"{tuple(honest.shape)} of a floating-point type",
                fix="return one update for each lane and corrupted client, or a list of payloads for each lane",
            )
        return returned.to(honest.dtype), {}
    if len(returned) != n_lanes or any(len(row) != n_clients for row in returned):
        raise UpdateError(
            "the payloads of an attack are not one for each lane and corrupted client",
            got=[len(row) for row in returned],
            expected=[n_clients] * n_lanes,
        )
    rows = torch.zeros_like(honest)
    irregular: Irregular = {}
    for lane, payloads in enumerate(returned):
        for place, payload in enumerate(payloads):
            if payload is not None and not isinstance(payload, torch.Tensor | bytes):
                raise UpdateError(
                    "a payload of an attack is of no type that can be sent",
                    got=type(payload).__name__,
                    expected="a tensor, bytes, or None for nothing",
                )
            if (
                isinstance(payload, torch.Tensor)
                and payload.shape == (n_params,)
                and payload.dtype.is_floating_point
            ):
                rows[lane, place] = payload.to(honest.dtype)
            else:
                irregular[lane, place] = payload
    return rows, irregular


def fault(payload: object, size: int) -> str | None:
    """What is wrong with a payload that should be finite numbers; None where nothing is.

    Args:
        payload: What arrived.
        size: How many numbers it should have.
    """
    if what := misshapen(payload, size):
        return what
    assert isinstance(payload, torch.Tensor)  # misshapen() found nothing
    return None if bool(torch.isfinite(payload).all()) else NOT_FINITE


def misshapen(payload: object, size: int) -> str | None:
    """What is wrong with a payload that should be so many numbers, finite or not; None where nothing is.

    Args:
        payload: What arrived.
        size: How many numbers it should have.
    """
    if not isinstance(payload, torch.Tensor) or not payload.dtype.is_floating_point:
        kind = payload.dtype if isinstance(payload, torch.Tensor) else type(payload).__name__
        return f"{kind} in place of numbers"
    if payload.shape != (size,):
        return f"numbers of shape {tuple(payload.shape)}, not {(size,)}"
    return None


def sent_raw(payload: torch.Tensor | bytes) -> torch.Tensor | bytes:
    """What crosses the network of a payload that is no update: one-dimensional numbers, or bytes."""
    if isinstance(payload, bytes):
        return payload
    bare = payload.detach().cpu()
    if bare.ndim == 1 and bare.dtype in {torch.float32, torch.float64}:
        return bare
    return bytes(bare.resolve_conj().reshape(-1).view(torch.uint8).numpy().tobytes())


def same(one: Payload, other: Payload) -> bool:
    """Whether two payloads are of one kind and hold the same."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return isinstance(one, bytes) and one == other


def with_said(
    reports: Mapping[str, torch.Tensor], place: tuple[torch.Tensor, torch.Tensor], said: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Reports in which some clients say what an adversary made them say.

    Shapes:
        reports: ``(lane, client)`` each; said: ``(lane, m, r)``
    """
    found = {}
    for column, (name, told) in enumerate(reports.items()):
        found[name] = told.clone()
        found[name][place] = said[..., column]
    return found
