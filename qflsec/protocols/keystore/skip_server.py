"""The interface of SKIP (draft-cisco-skip-02) of a key management entity, beside that of ETSI GS QKD 014.

A system is an application (SAE) with its key provider, under the application's name. Where the draft asks for TLS with
pre-shared keys, this is mutual TLS. SKIP has no field for what stands behind a key: neither its epsilons nor its brand travel,
so that nothing may be claimed of a key that came this way, and stores that may hold seeded keys are refused.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote
from uuid import UUID

from qflsec.base import ConfigError
from qflsec.protocols.keystore.etsi014_body import whole_number
from qflsec.protocols.keystore.etsi014_messages import ApiError
from qflsec.protocols.keystore.json_server import JsonHandler, JsonServer, TlsFiles
from qflsec.protocols.keystore.kme import Kme

__all__ = ["SkipServer"]


class _Handler(JsonHandler):
    def serve(self, read: Callable[[str], Any]) -> dict[str, Any]:
        """Answer a request of the draft: capabilities, a new key, or a key by its identifier."""
        resource, *rest = (unquote(part) for part in self.target.path.strip("/").split("/"))
        if resource not in {"capabilities", "entropy", "key"} or len(rest) > (resource == "key"):
            raise ApiError(404, "no such resource")
        kme, caller = self.server.kme, self.caller()
        if self.command != "GET":
            raise ApiError(405, f"{resource} has no method {self.command}", allowed=("GET",))
        if resource == "capabilities":
            return {
                "entropy": False,
                "key": True,
                "algorithm": "QKD",
                "localSystemID": caller,
                "remoteSystemID": sorted(kme.remote),
            }
        if resource == "entropy":
            raise ApiError(503, "no entropy is offered, as the capabilities say")
        asked = read(resource)
        peer = asked.pop("remoteSystemID")
        if rest:
            answer = kme.dec_keys(caller, peer, {"key_IDs": [{"key_ID": rest[0]}]})
        else:
            answer = kme.enc_keys(caller, peer, asked)
        (entry,) = answer["keys"]
        return {"keyId": UUID(entry["key_ID"]).hex, "key": base64.b64decode(entry["key"]).hex()}

    def query(self, resource: str) -> dict[str, Any]:
        """The other system, and the size where one is asked for."""
        query = parse_qs(self.target.query, keep_blank_values=True)
        if set(query) - {"remoteSystemID", "size"} or any(len(values) > 1 for values in query.values()):
            raise ApiError(400, "the parameters are remoteSystemID and size, each once")
        if "remoteSystemID" not in query:
            raise ApiError(400, "remoteSystemID is missing")
        asked: dict[str, Any] = {"remoteSystemID": query["remoteSystemID"][0]}
        if "size" in query:
            asked["size"] = whole_number(query["size"][0])
            if asked["size"] is None:
                raise ApiError(400, "size shall be an integer", {"size": query["size"][0]})
        return asked


class SkipServer(JsonServer):
    """A key management entity that speaks SKIP.

    Raises:
        ConfigError: Its store may hold seeded keys, which SKIP could not mark.
    """

    handler = _Handler

    def __init__(self, kme: Kme, tls: TlsFiles, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if kme.store.allow_seeded:
            raise ConfigError("SKIP cannot mark seeded keys", fix="open the store without allow_seeded")
        super().__init__(kme, tls, host=host, port=port)
