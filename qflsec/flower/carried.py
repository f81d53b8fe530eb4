"""What the links of an app carry: the messages of the training loop as letters, and what letters carry besides."""

from __future__ import annotations

from qflsec.base.framing import indices_bytes
from qflsec.federation import Stack
from qflsec.federation.layers import LinkLayer
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.plan import Plan
from qflsec.threat import Traffic, Workload

__all__ = ["carried"]

_FRAME = 96
_NUMBERS = 1024


def carried(plan: Plan, layout: ArrayLayout, stack: Stack) -> dict[LinkLayer, Traffic | None]:
    """What each link of a run carries, at most; None where that cannot be told.

    A letter has parts of several messages of the loop, so that it is smaller than these as letters of their own. Of the
    numbers that clients report as JSON, 1024 bytes are counted for each letter; a link under one-time pads that carries
    more may find no key left.

    Args:
        plan: The plan.
        layout: The arrays of the model.
        stack: The plan's stack, with its noise set.

    Raises:
        IncompatibleStack: A link has too little key for that.
    """
    load = Workload(
        n_params=layout.n_params,
        n_clients=plan.n_clients,
        participants=plan.asked,
        rounds=plan.rounds,
        number_bytes=layout.dtype.itemsize,
    )
    room = _FRAME + indices_bytes(plan.n_clients)
    found: dict[LinkLayer, Traffic | None] = {}
    for link, traffic in stack.carried(load).items():
        whole = None if traffic is None else traffic.sized(lambda n_bytes: n_bytes + room)
        if whole is not None:
            for _ in range(plan.rounds):
                if plan.metrics:
                    whole = whole.then(up={"numbers of training": _NUMBERS})
                if plan.evaluate:
                    down = {"model to evaluate": load.model_bytes + room}
                    whole = whole.then(up={"evaluation": _NUMBERS}, down=down)
            if stack.leaves == "nothing":
                whole = whole.then(up={"final model": load.model_bytes + room}, down={"final model": room})
        link.check_traffic(whole)
        found[link] = whole
    return found
