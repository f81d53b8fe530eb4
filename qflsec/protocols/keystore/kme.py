"""A key management entity (KME): whom it serves, and what of its store it hands out; apart from any transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qflsec.base import ConfigError
from qflsec.protocols.keystore.errors import KeysExhausted, UnknownKey, WrongSae
from qflsec.protocols.keystore.etsi014_messages import (
    ApiError,
    KmeLimits,
    KmeStatus,
    container,
    parse_key_ids,
    parse_key_request,
)
from qflsec.protocols.keystore.keys import KeyLink
from qflsec.protocols.keystore.store import KeyStore

__all__ = ["Kme"]


@dataclass(frozen=True, kw_only=True)
class Kme:
    """A key management entity, apart from any transport.

    Attributes:
        name: Its own name.
        store: Its key store.
        local: The applications that it serves.
        remote: The applications that they have links with, each with the name of its entity.
        limits: What it grants to one request. The entity neither cuts nor joins keys: both sides would
            have to agree on it. So it advertises one size, and stocks keys of that size.

    Raises:
        ConfigError: The limits advertise sizes that cannot be served.
    """

    name: str
    store: KeyStore
    local: frozenset[str]
    remote: Mapping[str, str]
    limits: KmeLimits = field(default_factory=KmeLimits)

    def __post_init__(self) -> None:
        if not self.limits.min_key_size == self.limits.key_size == self.limits.max_key_size:
            raise ConfigError(
                "a KME serves keys as they were stocked",
                got=f"sizes from {self.limits.min_key_size} to {self.limits.max_key_size} bits",
                expected="one size",
                fix="cut blocks into keys of the size that the applications ask for",
            )

    def status(self, caller: str, slave: str) -> dict[str, Any]:
        """The state of the link from the caller to a slave."""
        link = self._link(caller, master=caller, slave=slave)
        return KmeStatus(
            source_kme=self.name,
            target_kme=self.remote[slave],
            master_sae=caller,
            slave_sae=slave,
            limits=self.limits,
            stored_key_count=self.store.count(link, bits=self.limits.key_size),
            max_key_count=self.store.capacity,
        ).body()

    def enc_keys(self, caller: str, slave: str, body: Any) -> dict[str, Any]:  # noqa: ANN401 - parsed JSON
        """New keys for the caller, who is the master.

        Raises:
            ApiError: The request cannot be served; no key was spent.
        """
        link = self._link(caller, master=caller, slave=slave)
        request = parse_key_request(body, self.limits)
        try:
            return container(self.store.take(link, number=request.number, bits=request.size))
        except KeysExhausted:
            stored = self.store.count(link, bits=request.size)
            raise ApiError(503, "too few keys", {"stored_key_count": stored, "size": request.size}) from None

    def dec_keys(self, caller: str, master: str, body: Any) -> dict[str, Any]:  # noqa: ANN401 - parsed JSON
        """The caller's copies of keys that a master was given.

        Raises:
            ApiError: The request cannot be served; no key was spent.
        """
        link = self._link(caller, master=master, slave=caller)
        key_ids = parse_key_ids(body, self.limits)
        try:
            return container(self.store.take_ids(link, key_ids))
        except UnknownKey as error:
            raise ApiError(
                400, "one or more keys specified are not found on KME", {"key_IDs_not_found": error.got}
            ) from None
        except WrongSae:
            raise ApiError(401, "the keys are not for this SAE") from None

    def admit(self, caller: str) -> None:
        """Refuse an application that this entity does not serve.

        Raises:
            ApiError: It does not.
        """
        if caller not in self.local:
            raise ApiError(401, "this KME does not serve the SAE of the certificate", {"SAE_ID": caller})

    def _link(self, caller: str, *, master: str, slave: str) -> KeyLink:
        self.admit(caller)
        other = slave if caller == master else master
        if other not in self.remote:
            raise ApiError(400, "unknown SAE_ID", {"SAE_ID": other})
        return KeyLink(master=master, slave=slave)
