"""Links: encryption and authentication of every message between two parties, and the keys for it."""

from __future__ import annotations

from qflsec.protocols.links.aes_gcm import MAX_MESSAGES, OVERHEAD_BYTES, AesGcmLink
from qflsec.protocols.links.agreement import KEY_BYTES, KeyAgreement, expand_key, in_order

__all__ = [
    "KEY_BYTES",
    "MAX_MESSAGES",
    "OVERHEAD_BYTES",
    "AesGcmLink",
    "KeyAgreement",
    "expand_key",
    "in_order",
]
