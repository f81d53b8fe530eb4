"""Who learns who takes part: what topology, sampling and layers say of the rosters of a run."""

from __future__ import annotations

from qflsec.federation.pipeline import Pipeline
from qflsec.federation.stack import Stack
from qflsec.threat import QUANTUM_SERVER, SERVER, WIRE, Party, Rosters

__all__ = ["rosters_of"]


def rosters_of(pipeline: Pipeline, stack: Stack) -> Rosters:
    """What is public of the rosters of a run, and who hears more.

    Args:
        pipeline: The pipeline.
        stack: The stack.
    """
    config = pipeline.federation
    everybody = frozenset(range(config.n_clients))
    turns = pipeline.topology.turns(config.n_clients, 0)
    hears: dict[Party, frozenset[int]] = {SERVER: everybody, WIRE: everybody}
    for turn in turns:
        for head, group in turn.groups.items():
            if head.role == "edge":
                hears[head] = frozenset(group)
    if stack.delegation is not None:
        hears[QUANTUM_SERVER] = everybody
    return Rosters(
        public=config.who == "all" or pipeline.topology.public_rosters,
        size=None if config.who == "poisson" or len(turns) > 1 else config.n_participants,
        hears=hears,
        # whoever seals for an aggregate is told for whom it is
        told=stack.aggregation is not None,
        handed_on=any(turn.root.role == "client" for turn in turns),
        steps_alike=stack.rule.acts_on_nobody,
    )
