"""Threat models of single parties beside the server: edge servers, and clients that hand models to each other."""

from __future__ import annotations

from qflsec.base import register
from qflsec.threat.model import Knowledge, ThreatModel
from qflsec.threat.party import client, edge

__all__ = ["honest_but_curious_edge", "malicious_edge", "peer"]


@register("threat", "honest-but-curious-edge")
def honest_but_curious_edge(
    *, index: int = 0, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
) -> ThreatModel:
    """One edge server follows the protocol and looks at what its clients and its server send it.

    Args:
        index: Which edge server, from 0.
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(name="honest-but-curious-edge", corrupted=frozenset({edge(index)}), knows=knows)


@register("threat", "malicious-edge")
def malicious_edge(
    *, index: int = 0, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
) -> ThreatModel:
    """One edge server may put any step in the place of its block's.

    Args:
        index: Which edge server, from 0.
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(name="malicious-edge", corrupted=frozenset({edge(index)}), active=True, knows=knows)


@register("threat", "peer")
def peer(
    *,
    index: int = 0,
    active: bool = False,
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary"),
) -> ThreatModel:
    """One client of a ring or a gossip network, whose neighbours hand it their models.

    Its place decides: of a ring in fixed order the client ``n_clients - 1`` is the last before the model is released.

    Args:
        index: Which client, from 0.
        active: Whether it deviates from the protocol, or only looks at what its neighbours hand it.
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(name="peer", corrupted=frozenset({client(index)}), active=active, knows=knows)
