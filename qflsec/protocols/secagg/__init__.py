"""Secure aggregation: the server learns the sum of the clients' updates and no part of it."""

from __future__ import annotations

from qflsec.protocols.secagg.client import Client
from qflsec.protocols.secagg.ddp import Ddp
from qflsec.protocols.secagg.exchange import KeyExchange, key_exchange
from qflsec.protocols.secagg.fixed_point import FixedPoint
from qflsec.protocols.secagg.he_bfv import HeBfv
from qflsec.protocols.secagg.he_ckks import HeCkks
from qflsec.protocols.secagg.he_masked import HeMasked
from qflsec.protocols.secagg.he_threshold import HeThreshold
from qflsec.protocols.secagg.layer import SecAgg
from qflsec.protocols.secagg.masked import Masked, mask_name
from qflsec.protocols.secagg.masks import model_digest
from qflsec.protocols.secagg.pair_links import PairLinks
from qflsec.protocols.secagg.pairing import Scheme, scheme
from qflsec.protocols.secagg.server import Server
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, MlDsaIdentity, Signer
from qflsec.protocols.secagg.states import share_name
from qflsec.protocols.secagg.terms import Policy, Terms, default_threshold

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
