"""Requests and answers of ETSI GS QKD 014 V1.1.1, apart from any transport.

Sizes are in bits and multiples of 8. A parameter that is null counts as absent. The standard knows the answers
200, 400, 401 and 503 and no other: whatever is wrong with a request is a 400. Keys are not shared among more than
one slave: ``max_SAE_ID_count`` is 0, and a request with ``additional_slave_SAE_IDs`` is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from qflsec.base import ConfigError, finite
from qflsec.protocols.epsilons import Epsilons, KeyBlock
from qflsec.protocols.keystore.errors import KmeError
from qflsec.protocols.keystore.keys import QkdKey

__all__ = [
    "ApiError",
    "KeyRequest",
    "KmeLimits",
    "KmeStatus",
    "container",
    "parse_container",
    "parse_key_ids",
    "parse_key_request",
]

_REQUEST_FIELDS = {
    "number",
    "size",
    "additional_slave_SAE_IDs",
    "extension_mandatory",
    "extension_optional",
}
_STATUS_FIELDS = {
    "source_KME_ID": str,
    "target_KME_ID": str,
    "master_SAE_ID": str,
    "slave_SAE_ID": str,
    "key_size": int,
    "stored_key_count": int,
    "max_key_count": int,
    "max_key_per_request": int,
    "max_key_size": int,
    "min_key_size": int,
    "max_SAE_ID_count": int,
}


class ApiError(Exception):
    """An answer other than 200.

    Args:
        status: 400, 401 or 503.
        message: What is wrong.
        details: More of it, as name and value pairs.
        allowed: The methods of the resource, where the request had another.
    """

    def __init__(
        self, status: int, message: str, *details: Mapping[str, Any], allowed: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.allowed = allowed
        self.status = status
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """The error data format."""
        return {"message": self.message, **({"details": list(self.details)} if self.details else {})}


@finite
@dataclass(frozen=True, kw_only=True)
class KmeLimits:
    """What a key management entity grants to one request.

    Attributes:
        key_size: The length of a key where none is asked for.
        min_key_size: The smallest length.
        max_key_size: The largest length.
        max_key_per_request: The most keys of one request.

    Units:
        sizes in bits

    Raises:
        ConfigError: A limit is out of range.
    """

    key_size: int = 256
    min_key_size: int = 256
    max_key_size: int = 256
    max_key_per_request: int = 128

    def __post_init__(self) -> None:
        sizes = (self.min_key_size, self.key_size, self.max_key_size)
        if any(size < 8 or size % 8 for size in sizes) or sorted(sizes) != list(sizes):
            raise ConfigError(
                "impossible key sizes",
                got=f"min {sizes[0]}, default {sizes[1]}, max {sizes[2]}",
                expected="ascending multiples of 8",
            )
        if self.max_key_per_request < 1:
            raise ConfigError(
                "'max_key_per_request' is too small", got=self.max_key_per_request, expected="1"
            )


@dataclass(frozen=True, kw_only=True)
class KmeStatus:
    """The status data format, in this project's names; sizes in bits."""

    source_kme: str
    target_kme: str
    master_sae: str
    slave_sae: str
    limits: KmeLimits
    stored_key_count: int
    max_key_count: int

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "source_KME_ID": self.source_kme,
            "target_KME_ID": self.target_kme,
            "master_SAE_ID": self.master_sae,
            "slave_SAE_ID": self.slave_sae,
            "key_size": self.limits.key_size,
            "stored_key_count": self.stored_key_count,
            "max_key_count": self.max_key_count,
            "max_key_per_request": self.limits.max_key_per_request,
            "max_key_size": self.limits.max_key_size,
            "min_key_size": self.limits.min_key_size,
            "max_SAE_ID_count": 0,
        }

    @classmethod
    def from_body(cls, body: Any) -> KmeStatus:  # noqa: ANN401 - parsed JSON
        """Read an answer.

        Raises:
            KmeError: It is not a status.
        """
        if not isinstance(body, dict) or any(
            not isinstance(body.get(name), kind) for name, kind in _STATUS_FIELDS.items()
        ):
            raise KmeError("the key management entity sent a malformed status")
        return cls(
            source_kme=body["source_KME_ID"],
            target_kme=body["target_KME_ID"],
            master_sae=body["master_SAE_ID"],
            slave_sae=body["slave_SAE_ID"],
            limits=KmeLimits(
                key_size=body["key_size"],
                min_key_size=body["min_key_size"],
                max_key_size=body["max_key_size"],
                max_key_per_request=body["max_key_per_request"],
            ),
            stored_key_count=body["stored_key_count"],
            max_key_count=body["max_key_count"],
        )


@dataclass(frozen=True, kw_only=True)
class KeyRequest:
    """A request for new keys: how many, and of how many bits each."""

    number: int
    size: int


def parse_key_request(body: Any, limits: KmeLimits) -> KeyRequest:  # noqa: ANN401 - parsed JSON
    """Check a key request.

    Raises:
        ApiError: It cannot be served as it stands.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "the key request is not an object")
    unknown = sorted(set(body) - _REQUEST_FIELDS)
    if unknown:
        raise ApiError(400, "the key request has unknown parameters", {"unknown": unknown})
    number = _integer(body, "number", 1)
    size = _integer(body, "size", limits.key_size)
    if not 1 <= number <= limits.max_key_per_request:
        raise ApiError(400, f"number shall be 1 to {limits.max_key_per_request}", {"number": number})
    if size % 8:
        raise ApiError(400, "size shall be a multiple of 8", {"size": size})
    if not limits.min_key_size <= size <= limits.max_key_size:
        raise ApiError(
            400, f"size shall be {limits.min_key_size} to {limits.max_key_size} bits", {"size": size}
        )
    if _list(body, "additional_slave_SAE_IDs"):
        raise ApiError(400, "additional_slave_SAE_IDs are not supported: max_SAE_ID_count is 0")
    mandatory = _list(body, "extension_mandatory")
    if mandatory:
        names = [name for extension in mandatory if isinstance(extension, dict) for name in extension]
        raise ApiError(
            400,
            "not all extension_mandatory parameters are supported",
            *({"extension_mandatory_unsupported": f"{name} is not supported"} for name in names),
        )
    _list(body, "extension_optional")
    return KeyRequest(number=number, size=size)


def parse_key_ids(body: Any, limits: KmeLimits) -> tuple[UUID, ...]:  # noqa: ANN401 - parsed JSON
    """Check a request for keys by their identifiers.

    Raises:
        ApiError: It cannot be served as it stands.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "the request is not an object")
    entries = _list(body, "key_IDs")
    if not 1 <= len(entries) <= limits.max_key_per_request:
        raise ApiError(400, f"key_IDs shall hold 1 to {limits.max_key_per_request} identifiers")
    found = []
    for entry in entries:
        text = entry.get("key_ID") if isinstance(entry, dict) else None
        try:
            found.append(UUID(text))
        except (ValueError, TypeError, AttributeError):
            raise ApiError(400, "a key_ID is not a UUID", {"key_ID": text}) from None
    if len(set(found)) < len(found):
        raise ApiError(400, "a key_ID stands twice in one request")
    return tuple(found)


def container(keys: Sequence[QkdKey]) -> dict[str, Any]:
    """The key container format; every key says what stands behind it."""
    return {
        "keys": [
            {
                "key_ID": str(key.key_id),
                "key": base64.b64encode(key.material).decode(),
                "key_extension": _extension(key),
            }
            for key in keys
        ]
    }


def _extension(key: QkdKey) -> dict[str, Any]:
    """What stands behind a key; epsilons that are unknown are left out."""
    brand: dict[str, Any] = {"simulated_channel": key.simulated_channel, "seeded": key.seeded}
    if key.block is None:
        return brand
    told = {name: getattr(key.block.epsilons, name) for name in ("eps_sec", "eps_cor", "eps_auth")}
    return {**brand, "block": {"name": str(key.block.name), "n_keys": key.block.n_keys, **told}}


def _block(extension: Mapping[str, Any]) -> KeyBlock | None:
    """The block of a key, where its extension tells; unknown otherwise."""
    told = extension.get("block")
    if told is None:
        return None
    if type(told["n_keys"]) is not int:
        raise TypeError
    epsilons = Epsilons(eps_sec=told["eps_sec"], eps_cor=told["eps_cor"], eps_auth=told["eps_auth"])
    return KeyBlock(name=UUID(told["name"]), epsilons=epsilons, n_keys=told["n_keys"])


def parse_container(body: Any) -> tuple[QkdKey, ...]:  # noqa: ANN401 - parsed JSON
    """Read a key container. Where a key has no brand, its maker claims a real channel by saying nothing.

    Epsilons that are not told are unknown.

    Raises:
        KmeError: It is malformed.
    """
    try:
        return tuple(
            QkdKey(
                key_id=UUID(entry["key_ID"]),
                material=base64.b64decode(entry["key"], validate=True),
                simulated_channel=bool((entry.get("key_extension") or {}).get("simulated_channel", False)),
                seeded=bool((entry.get("key_extension") or {}).get("seeded", False)),
                block=_block(entry.get("key_extension") or {}),
            )
            for entry in body["keys"]
        )
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error, ConfigError):
        raise KmeError("the key management entity sent malformed keys") from None


def _integer(body: Mapping[str, Any], name: str, default: int) -> int:
    value = default if body.get(name) is None else body[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(400, f"{name} shall be an integer", {name: value})
    return value


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = [] if body.get(name) is None else body[name]
    if not isinstance(value, list):
        raise ApiError(400, f"{name} shall be an array")
    return value
