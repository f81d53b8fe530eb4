"""Secure aggregation: the server learns the sum of the clients' updates and no part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.protocols.key_agreement import KeyExchange, key_exchange
    from qflsec.protocols.secagg.ddp.layer import Ddp
    from qflsec.protocols.secagg.fixed_point import FixedPoint
    from qflsec.protocols.secagg.he.bfv import HeBfv
    from qflsec.protocols.secagg.he.ckks import HeCkks
    from qflsec.protocols.secagg.he.masked import HeMasked
    from qflsec.protocols.secagg.he.threshold import HeThreshold
    from qflsec.protocols.secagg.masks.expansion import model_digest
    from qflsec.protocols.secagg.masks.layer import Masked, mask_name
    from qflsec.protocols.secagg.rounds.client import Client
    from qflsec.protocols.secagg.rounds.layer import SecAgg
    from qflsec.protocols.secagg.rounds.pair_links import PairLinks
    from qflsec.protocols.secagg.rounds.pairing import Scheme, scheme
    from qflsec.protocols.secagg.rounds.server import Server
    from qflsec.protocols.secagg.rounds.states import share_name
    from qflsec.protocols.secagg.rounds.terms import Policy, Terms, default_threshold
    from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, MlDsaIdentity, Signer

__all__ = [
    "SIGNATURE_BYTES",
    "Client",
    "Ddp",
    "FixedPoint",
    "HeBfv",
    "HeCkks",
    "HeMasked",
    "HeThreshold",
    "KeyExchange",
    "Masked",
    "MlDsaIdentity",
    "PairLinks",
    "Policy",
    "Scheme",
    "SecAgg",
    "Server",
    "Signer",
    "Terms",
    "default_threshold",
    "key_exchange",
    "mask_name",
    "model_digest",
    "scheme",
    "share_name",
]
__getattr__, __dir__ = lazily(__name__)
