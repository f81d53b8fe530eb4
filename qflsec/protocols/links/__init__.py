"""Links: encryption and authentication of every message between two parties, and the keys for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.protocols.key_agreement import KEY_BYTES, KeyAgreement, expand_key, in_order
    from qflsec.protocols.links.aes_gcm import MAX_MESSAGES, OVERHEAD_BYTES, AesGcmLink
    from qflsec.protocols.links.bb84_source import DistilledEnd
    from qflsec.protocols.links.budget import aes_bits, pad_bits
    from qflsec.protocols.links.hybrid import HybridLink
    from qflsec.protocols.links.one_time_pad import OneTimePadLink
    from qflsec.protocols.links.policy import LinkPlan, QkdPolicyLink
    from qflsec.protocols.links.qkd import QkdEnd, QkdLink
    from qflsec.protocols.links.qkd_aes import QkdAesLink
    from qflsec.protocols.links.sources import KeySource, register_source, source_names

__all__ = [
    "KEY_BYTES",
    "MAX_MESSAGES",
    "OVERHEAD_BYTES",
    "AesGcmLink",
    "DistilledEnd",
    "HybridLink",
    "KeyAgreement",
    "KeySource",
    "LinkPlan",
    "OneTimePadLink",
    "QkdAesLink",
    "QkdEnd",
    "QkdLink",
    "QkdPolicyLink",
    "aes_bits",
    "expand_key",
    "in_order",
    "pad_bits",
    "register_source",
    "source_names",
]
__getattr__, __dir__ = lazily(__name__)
