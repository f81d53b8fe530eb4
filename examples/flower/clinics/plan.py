"""What the clinics and the server agree on: both sides read this file."""

from __future__ import annotations

from qflsec.base import ConfigError
from qflsec.defenses.robust import Median
from qflsec.federation import Stack
from qflsec.flower import Plan
from qflsec.protocols.secagg import SecAgg

STACKS = {
    "none": Stack(name="none"),  # the server reads every update, and takes the mean
    "median": Stack(name="median", server=(Median(),)),  # the same, but one liar cannot drag it far
    "sums": Stack(name="sums", client=(SecAgg(),)),  # the server reads a sum alone, liars and all
}


def plan(context):
    """The plan of a run."""
    config = context.run_config
    if config["stack"] not in STACKS:
        raise ConfigError("no such stack", got=config["stack"], expected=" or ".join(STACKS))
    return Plan(
        stack=STACKS[config["stack"]],
        n_clients=config["num-clients"],
        rounds=config["num-server-rounds"],
        patience=config["patience"],
    )
