"""What clients and server agree on."""

from __future__ import annotations

from typing import Any

from qflsec.federation import Stack
from qflsec.flower import Plan
from qflsec.protocols.links import QkdAesLink
from qflsec.protocols.secagg import SecAgg

LAYERS = {"secagg": (SecAgg(),), "secagg of 4": (SecAgg(threshold=4),), "none": ()}
LAYERS["qkd"] = (QkdAesLink(rekey_messages=1),)  # new keys for every message


def plan(context: Any) -> Plan:
    config = context.run_config
    return Plan(
        stack=Stack.from_layers("fleet", LAYERS[config["layer"]]),
        n_clients=config["num-clients"],
        rounds=config["num-server-rounds"],
        patience=config["patience"],
        max_count=100,
        replies="update",
    )
