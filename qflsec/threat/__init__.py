"""Parties, threat models, the network with its transcript, and views: who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.threat.facts import LaneFacts
    from qflsec.threat.message import Envelope, Keys, Message, MessageKind, MessageLayer, Payload, Slot
    from qflsec.threat.model import (
        NOBODY,
        Knowledge,
        ThreatModel,
        coalition,
        corrupted_clients,
        honest_but_curious_quantum_server,
        honest_but_curious_server,
        malicious_quantum_server,
        malicious_server,
        nobody,
        public_final_model,
        threat_from_config,
        wire_eavesdropper,
    )
    from qflsec.threat.network import Delivery, Link, Network, Tapped, WireTap
    from qflsec.threat.party import PUBLIC, QUANTUM_SERVER, SERVER, WIRE, Party, Role, client, edge
    from qflsec.threat.places import honest_but_curious_edge, malicious_edge, peer
    from qflsec.threat.pools import drawn_clients
    from qflsec.threat.recorded import recorded_transcript
    from qflsec.threat.rosters import Rosters
    from qflsec.threat.sums import RunAnonymity, run_anonymity
    from qflsec.threat.traffic import Bulk, Direction, Traffic, Workload
    from qflsec.threat.transcript import Deriver, Transcript
    from qflsec.threat.versions import Origin, Part, Trained, Version, Versions
    from qflsec.threat.view import MODELS, SUMS, Granted, Item, Records, View

__all__ = [
    "MODELS",
    "NOBODY",
    "PUBLIC",
    "QUANTUM_SERVER",
    "SERVER",
    "SUMS",
    "WIRE",
    "Bulk",
    "Delivery",
    "Deriver",
    "Direction",
    "Envelope",
    "Granted",
    "Item",
    "Keys",
    "Knowledge",
    "LaneFacts",
    "Link",
    "Message",
    "MessageKind",
    "MessageLayer",
    "Network",
    "Origin",
    "Part",
    "Party",
    "Payload",
    "Records",
    "Role",
    "Rosters",
    "RunAnonymity",
    "Slot",
    "Tapped",
    "ThreatModel",
    "Traffic",
    "Trained",
    "Transcript",
    "Version",
    "Versions",
    "View",
    "WireTap",
    "Workload",
    "client",
    "coalition",
    "corrupted_clients",
    "drawn_clients",
    "edge",
    "honest_but_curious_edge",
    "honest_but_curious_quantum_server",
    "honest_but_curious_server",
    "malicious_edge",
    "malicious_quantum_server",
    "malicious_server",
    "nobody",
    "peer",
    "public_final_model",
    "recorded_transcript",
    "run_anonymity",
    "threat_from_config",
    "wire_eavesdropper",
]

__getattr__, __dir__ = lazily(__name__)
