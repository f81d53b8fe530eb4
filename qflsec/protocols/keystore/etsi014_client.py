"""A client of ETSI GS QKD 014 V1.1.1, and quantum links whose keys come from such a service."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from qflsec.base import ProtocolAbort
from qflsec.protocols.keystore.errors import (
    KmeBadRequest,
    KmeError,
    KmeUnauthorized,
    KmeUnavailable,
    SeededKeysRefused,
    WeakKeys,
)
from qflsec.protocols.keystore.etsi014_messages import KmeStatus, parse_container
from qflsec.protocols.keystore.json_server import TlsFiles
from qflsec.protocols.keystore.key_budget import KeyAccount, KeyBudget
from qflsec.protocols.keystore.keys import QkdKey, sae_name
from qflsec.protocols.keystore.provider import KeyProvider, starved
from qflsec.threat import Party

__all__ = ["Etsi014Client", "Etsi014Provider"]

_PATIENCE_SECONDS = 30.0
_ERRORS = {400: KmeBadRequest, 401: KmeUnauthorized, 503: KmeUnavailable}


class Etsi014Client:
    """An application (SAE) that asks its key management entity (KME) for keys.

    Args:
        host: The entity's address, which its certificate must name.
        port: Its port.
        tls: The application's certificates.
    """

    def __init__(self, host: str, port: int, tls: TlsFiles) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._context = tls.context(server=False)

    def __reduce__(self) -> tuple[type[Etsi014Client], tuple[str, int, TlsFiles]]:
        """Where it asks and by which files: a client that is put away holds no key, and is made anew."""
        return Etsi014Client, (self._host, self._port, self._tls)

    def status(self, slave: str) -> KmeStatus:
        """The state of the link to a slave.

        Raises:
            KmeError: The entity refused, or did not answer.
        """
        return KmeStatus.from_body(self._ask("GET", f"{quote(slave, safe='')}/status"))

    def enc_keys(self, slave: str, *, number: int = 1, size: int | None = None) -> tuple[QkdKey, ...]:
        """New keys to share with a slave.

        Args:
            slave: The slave.
            number: How many.
            size: Bits of each, a multiple of 8; the entity's own choice by default.

        Raises:
            KmeBadRequest: The request is out of the entity's limits.
            KmeUnauthorized: The entity does not serve this application.
            KmeUnavailable: There are too few keys; none was spent.
        """
        request = {"number": number} if size is None else {"number": number, "size": size}
        keys = parse_container(self._ask("POST", f"{quote(slave, safe='')}/enc_keys", request))
        if len(keys) != number or any(size is not None and key.bits != size for key in keys):
            raise KmeError("the KME delivered other keys than were asked for", got=f"{len(keys)} keys")
        return keys

    def dec_keys(self, master: str, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        """Keys that a master has drawn, by their identifiers.

        Raises:
            KmeBadRequest: A key is unknown or was delivered before; none was spent.
            KmeUnauthorized: The keys are not for this application.
        """
        request = {"key_IDs": [{"key_ID": str(key_id)} for key_id in key_ids]}
        return parse_container(self._ask("POST", f"{quote(master, safe='')}/dec_keys", request))

    def _ask(self, method: str, path: str, request: object | None = None) -> Any:  # noqa: ANN401 - parsed JSON
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=_PATIENCE_SECONDS
        )
        try:
            connection.request(
                method,
                f"/api/v1/keys/{path}",
                body=None if request is None else json.dumps(request),
                headers={"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            status, raw = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise KmeUnavailable(f"no answer from the KME at {self._host}:{self._port}", got=error) from error
        finally:
            connection.close()
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise KmeError("the KME did not answer in JSON", got=f"HTTP {status}") from None
        if status != 200:
            message = body.get("message", "no reason given") if isinstance(body, dict) else "no reason given"
            raise _ERRORS.get(status, KmeError)(f"the KME refused: {message}", got=f"HTTP {status}")
        return body


class Etsi014Provider(KeyProvider):
    """A party's end of its quantum links, backed by its own key management entity.

    Args:
        client: The party's client.
        party: The party.
        allow_seeded: Whether reproducible keys are accepted: in a test or in the lab only.
        budget: What is accepted of the keys of each link; by default everything, and then nothing may be claimed. The
            entity has spent a key by the time that it is refused.
    """

    def __init__(
        self,
        client: Etsi014Client,
        party: Party,
        *,
        allow_seeded: bool = False,
        budget: KeyBudget | None = None,
    ) -> None:
        self._client = client
        self._party = party
        self._allow_seeded = allow_seeded
        self._budget = budget
        self._accounts: dict[Party, KeyAccount] = {}

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        """See :meth:`KeyProvider.draw`; another user of the link may still come first, in between."""
        status = self._client.status(sae_name(peer))
        size, most = status.limits.key_size, status.limits.max_key_per_request
        number = -(-n_bits // size)
        if number > status.stored_key_count:
            raise starved(self._party, peer, needed=n_bits, left=size * status.stored_key_count)
        keys: list[QkdKey] = []
        try:
            for start in range(0, number, most):
                keys += self._client.enc_keys(sae_name(peer), number=min(most, number - start), size=size)
        except KmeUnavailable:
            raise starved(self._party, peer, needed=n_bits, left=self.bits_left(peer)) from None
        return self._accepted(peer, keys)

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        """See :meth:`KeyProvider.fetch`."""
        most = self._client.status(sae_name(peer)).limits.max_key_per_request
        keys: list[QkdKey] = []
        try:
            for start in range(0, len(key_ids), most):
                keys += self._client.dec_keys(sae_name(peer), key_ids[start : start + most])
        except (KmeBadRequest, KmeUnauthorized) as error:
            raise ProtocolAbort(
                f"a message from {peer} to {self._party} names a key that cannot be used", got=error
            ) from None
        by_id = {key.key_id: key for key in keys}
        if set(by_id) != set(key_ids):
            raise ProtocolAbort(f"the KME of {self._party} delivered other keys than were asked for")
        return self._accepted(peer, [by_id[key_id] for key_id in key_ids])

    def bits_left(self, peer: Party) -> int:
        """See :meth:`KeyProvider.bits_left`."""
        status = self._client.status(sae_name(peer))
        return status.limits.key_size * status.stored_key_count

    def _accepted(self, peer: Party, keys: Sequence[QkdKey]) -> tuple[QkdKey, ...]:
        if not self._allow_seeded and any(key.seeded for key in keys):
            raise SeededKeysRefused(
                f"the KME of {self._party} delivered seeded keys: they protect nothing outside the lab"
            )
        if self._budget is not None:
            try:
                self._accounts.setdefault(peer, KeyAccount(self._budget)).admit(keys)
            except WeakKeys as error:
                raise ProtocolAbort(
                    f"the QKD link between {self._party} and {peer} has no good key", got=error
                ) from None
        return tuple(keys)
