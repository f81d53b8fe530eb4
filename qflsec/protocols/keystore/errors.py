"""What can go wrong with a key store and its delivery, each on one line."""

from __future__ import annotations

from qflsec.base import QflsecError, StoreError

__all__ = [
    "KeyStoreCorrupt",
    "KeysExhausted",
    "KmeBadRequest",
    "KmeError",
    "KmeUnauthorized",
    "KmeUnavailable",
    "SeededKeysRefused",
    "UnknownKey",
    "WeakKeys",
    "WrongSae",
]


class KeyStoreCorrupt(StoreError):
    """A file that is no key store, or a damaged one."""


class KeysExhausted(StoreError):
    """Fewer keys are left than were asked for; none was spent."""


class SeededKeysRefused(StoreError):
    """Reproducible keys outside the lab."""


class UnknownKey(StoreError):
    """A key that was never stored here, or has been delivered."""


class WeakKeys(StoreError):
    """Keys whose epsilons are unknown, or larger than an application accepts; no bit of them was used."""


class WrongSae(StoreError):
    """A key of another pair of applications."""


class KmeError(QflsecError):
    """A key management entity answered with an error, or not at all."""


class KmeBadRequest(KmeError):
    """HTTP 400: the request cannot be served as it stands."""


class KmeUnauthorized(KmeError):
    """HTTP 401: the key management entity does not serve this application."""


class KmeUnavailable(KmeError):
    """HTTP 503 or no connection: no keys for now."""
