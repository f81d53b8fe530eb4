"""Whose view of a recorded app is attacked, by the names that the command takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qflsec.threat import ThreatModel

__all__ = ["DEFAULT_PARTIES", "PARTIES", "observer"]

PARTIES = ("server", "client", "network", "public")
DEFAULT_PARTIES = ("server", "public")


def observer(party: str) -> ThreatModel:
    """The threat model of a party that follows the protocol and looks.

    Args:
        party: ``server``; ``client``, the first one; ``network``, where links are not encrypted; ``public``, whoever reads
            the last model.
    """
    from qflsec.threat import (
        corrupted_clients,
        honest_but_curious_server,
        public_final_model,
        wire_eavesdropper,
    )

    if party == "client":
        return corrupted_clients(n=1, active=False)
    return {"server": honest_but_curious_server, "network": wire_eavesdropper, "public": public_final_model}[
        party
    ]()
