"""The interface of ETSI GS QKD 014 V1.1.1 of a key management entity (KME), over mutual TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from qflsec.protocols.keystore.etsi014_body import whole_number
from qflsec.protocols.keystore.etsi014_messages import ApiError
from qflsec.protocols.keystore.json_server import JsonHandler, JsonServer

__all__ = ["KmeServer"]

_PREFIX = ("api", "v1", "keys")
_METHODS = {"status": ("GET",), "enc_keys": ("GET", "POST"), "dec_keys": ("GET", "POST")}


class _Handler(JsonHandler):
    def serve(self, read: Callable[[str], Any]) -> dict[str, Any]:
        """Answer a request of the standard."""
        parts = tuple(unquote(part) for part in self.target.path.strip("/").split("/"))
        if len(parts) != len(_PREFIX) + 2 or parts[: len(_PREFIX)] != _PREFIX or parts[-1] not in _METHODS:
            raise ApiError(400, "no such resource", {"path": self.target.path})
        sae, resource = parts[-2:]
        kme, caller = self.server.kme, self.caller()
        if self.command not in _METHODS[resource]:
            raise ApiError(400, f"{resource} has no method {self.command}", allowed=_METHODS[resource])
        if resource == "status":
            return kme.status(caller, sae)
        if resource == "enc_keys":
            return kme.enc_keys(caller, sae, read(resource))
        return kme.dec_keys(caller, sae, read(resource))

    def query(self, resource: str) -> dict[str, Any]:
        """The parameters of a GET request as the body that a POST request would have had."""
        query = parse_qs(self.target.query, keep_blank_values=True)
        if resource == "dec_keys":
            return {"key_IDs": [{"key_ID": value} for value in query.get("key_ID", [])]}
        body: dict[str, Any] = {}
        for name, values in query.items():
            body[name] = whole_number(values[-1])
            if body[name] is None:
                raise ApiError(400, f"{name} shall be an integer", {name: values[-1]})
        return body


class KmeServer(JsonServer):
    """A key management entity that speaks ETSI GS QKD 014."""

    handler = _Handler
