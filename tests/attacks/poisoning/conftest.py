"""Hands of corrupted clients that know what the honest clients send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qflsec.federation import Hands, Stack
from qflsec.threat import Granted, Item, View, client, corrupted_clients

MakeHands = Callable[..., Hands]


@pytest.fixture
def informed(hands: MakeHands) -> Callable[..., Hands]:
    """Hands in two lanes whose threat model grants these honest updates, ``(lane, b, 36)``, and maybe the defenses."""

    def make(
        honest: torch.Tensor, *, stack: Stack | None = None, round_index: int = 0, **change: Any
    ) -> Hands:
        knows = ("honest-updates", *(("defenses",) if stack is not None else ()))
        threat = corrupted_clients(n=2, knows=knows)  # type: ignore[arg-type]

        def views() -> list[View]:
            return [
                View(
                    threat=threat,
                    items=tuple(_item(row, index + 2, round_index) for index, row in enumerate(lane)),
                    granted=Granted(defenses=stack),
                )
                for lane in honest
            ]

        values = {"threat": threat, "views": views, "states": (None, None), "round": round_index, **change}
        return hands([], **values)

    return make


def _item(update: torch.Tensor, index: int, round_index: int) -> Item:
    return Item(
        round=round_index,
        kind="update",
        form="plain",
        value=update,
        weight=1.0,
        about=frozenset({index}),
        sender=client(index),
        receiver=client(index),
        k=1,
        granted=True,
    )
