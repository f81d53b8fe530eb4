"""Key management: single-use stores, quantum links, and delivery by ETSI GS QKD 014."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.protocols.epsilons import Epsilons, KeyBlock
    from qflsec.protocols.keystore.delivery import cut, stock
    from qflsec.protocols.keystore.errors import (
        KeysExhausted,
        KeyStoreCorrupt,
        KmeBadRequest,
        KmeError,
        KmeUnauthorized,
        KmeUnavailable,
        SeededKeysRefused,
        UnknownKey,
        WeakKeys,
        WrongSae,
    )
    from qflsec.protocols.keystore.etsi014_client import Etsi014Client, Etsi014Provider
    from qflsec.protocols.keystore.etsi014_messages import KmeLimits, KmeStatus
    from qflsec.protocols.keystore.etsi014_server import KmeServer
    from qflsec.protocols.keystore.ideal import IdealLinks
    from qflsec.protocols.keystore.json_server import TlsFiles
    from qflsec.protocols.keystore.key_budget import KeyAccount, KeyBudget
    from qflsec.protocols.keystore.keys import KeyLink, QkdKey, fresh_key_id, sae_name
    from qflsec.protocols.keystore.kme import Kme
    from qflsec.protocols.keystore.provider import KeyProvider, starved
    from qflsec.protocols.keystore.skip_server import SkipServer
    from qflsec.protocols.keystore.store import KeyRole, KeyStore
    from qflsec.protocols.keystore.store_links import StoreProvider, store_path

__all__ = [
    "Epsilons",
    "Etsi014Client",
    "Etsi014Provider",
    "IdealLinks",
    "KeyAccount",
    "KeyBlock",
    "KeyBudget",
    "KeyLink",
    "KeyProvider",
    "KeyRole",
    "KeyStore",
    "KeyStoreCorrupt",
    "KeysExhausted",
    "Kme",
    "KmeBadRequest",
    "KmeError",
    "KmeLimits",
    "KmeServer",
    "KmeStatus",
    "KmeUnauthorized",
    "KmeUnavailable",
    "QkdKey",
    "SeededKeysRefused",
    "SkipServer",
    "StoreProvider",
    "TlsFiles",
    "UnknownKey",
    "WeakKeys",
    "WrongSae",
    "cut",
    "fresh_key_id",
    "sae_name",
    "starved",
    "stock",
    "store_path",
]
__getattr__, __dir__ = lazily(__name__)
