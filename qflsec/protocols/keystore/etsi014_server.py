"""A key management entity (KME) with the interface of ETSI GS QKD 014 V1.1.1, over mutual TLS.

The application (SAE) that asks is whoever its client certificate names. A key is spent in the store before
it is sent; if the connection breaks, it is lost, and nobody gets it again.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from qflsec.base import BackendError, ConfigError, QflsecError
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

__all__ = ["Kme", "KmeServer", "TlsFiles"]

_PREFIX = ("api", "v1", "keys")
_MOST_BYTES = 1 << 16
_MOST_DRAINED = 1 << 22
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Where one side's certificates lie, as PEM files.

    Attributes:
        certificate: Its own certificate, with intermediate ones after it.
        key: The private key of that certificate.
        authority: The certificates that the other side's certificate must lead to.
    """

    certificate: Path
    key: Path
    authority: Path

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.2 or later, in which both sides must show a certificate.

        Raises:
            ConfigError: A file cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.authority)
        except OSError as error:
            raise ConfigError(
                "cannot use the TLS files",
                got=error,
                expected="a certificate, its key and an authority as PEM",
            ) from error
        return context


@dataclass(frozen=True, kw_only=True)
class Kme:
    """A key management entity, apart from any transport.

    Attributes:
        name: Its own name.
        store: Its key store.
        local: The applications that it serves.
        remote: The applications that they have links with, each with the name of its entity.
        limits: What it grants to one request.
    """

    name: str
    store: KeyStore
    local: frozenset[str]
    remote: Mapping[str, str]
    limits: KmeLimits = field(default_factory=KmeLimits)

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
            raise ApiError(
                503, "too few keys of this size", {"stored_key_count": stored, "size": request.size}
            ) from None

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


class KmeServer:
    """A key management entity at an address; a context manager that serves in the background.

    Args:
        kme: The entity.
        tls: Its certificates.
        host: The address to listen on; only this machine by default.
        port: The port; any free one by default.

    Raises:
        BackendError: The address cannot be used.
    """

    def __init__(self, kme: Kme, tls: TlsFiles, *, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            self._server = _TlsServer((host, port), kme, tls.context(server=True))
        except OSError as error:
            raise BackendError(f"the KME cannot listen on {host}:{port}", got=error) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_SECONDS,),
            name=f"KME {kme.name}",
            daemon=True,
        )
        self.host = host
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _TlsServer(ThreadingHTTPServer):
    """Shakes hands in the thread of the connection, so that a slow client keeps nobody waiting."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], kme: Kme, context: ssl.SSLContext) -> None:
        super().__init__(address, _Handler)
        self.kme = kme
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - signature of the base
        request.settimeout(_PATIENCE_SECONDS)
        with self._context.wrap_socket(request, server_side=True) as secured:
            _Handler(secured, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - signature of the base
        """A failed handshake or a broken connection is the client's affair; anything else is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _TlsServer
    connection: ssl.SSLSocket
    protocol_version = "HTTP/1.1"
    server_version = "qflsec-kme"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(self._query)

    def do_POST(self) -> None:
        # read first: an answer to a request that was not read to its end may never arrive
        length = self.headers.get("Content-Length", "")
        n_bytes = int(length) if length.isdecimal() else None
        raw = self.rfile.read(min(n_bytes or 0, _MOST_DRAINED))
        self._answer(lambda _: _parsed(raw, n_bytes))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - signature of the base
        """Nothing: identifiers and sizes are nobody's business."""

    def _answer(self, read: Callable[[str], Any]) -> None:
        try:
            body = self._serve(read)
            status = 200
        except ApiError as error:
            body, status = error.body(), error.status
        except QflsecError as error:
            body, status = {"message": f"the KME has a fault: {error.what}"}, 503
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Cache-Control", "no-store")
        if status != 200:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(raw)

    def _serve(self, read: Callable[[str], Any]) -> dict[str, Any]:
        parts = tuple(unquote(part) for part in urlsplit(self.path).path.strip("/").split("/"))
        if len(parts) != len(_PREFIX) + 2 or parts[: len(_PREFIX)] != _PREFIX:
            raise ApiError(400, "no such resource")
        sae, method = parts[-2:]
        kme, caller = self.server.kme, self._caller()
        kme.admit(caller)
        if method == "status" and self.command == "GET":
            return kme.status(caller, sae)
        if method == "enc_keys":
            return kme.enc_keys(caller, sae, read(method))
        if method == "dec_keys":
            return kme.dec_keys(caller, sae, read(method))
        self.close_connection = True
        raise ApiError(400, "no such method")

    def _caller(self) -> str:
        subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
        for names in subject:
            for name, value in names:
                if name == "commonName":
                    return str(value)
        raise ApiError(401, "the client certificate names no SAE")

    def _query(self, method: str) -> dict[str, Any]:
        """The parameters of a GET request as the body that a POST request would have had."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if method == "dec_keys":
            return {"key_IDs": [{"key_ID": value} for value in query.get("key_ID", [])]}
        body: dict[str, Any] = {}
        for name, values in query.items():
            try:
                body[name] = int(values[-1])
            except ValueError:
                raise ApiError(400, f"{name} shall be an integer", {name: values[-1]}) from None
        return body


def _parsed(raw: bytes, n_bytes: int | None) -> Any:  # noqa: ANN401 - parsed JSON
    if n_bytes is None or n_bytes > _MOST_BYTES:
        raise ApiError(400, f"the request shall state its length, at most {_MOST_BYTES} bytes")
    try:
        return json.loads(raw) if raw else {}
    except ValueError:
        raise ApiError(400, "the request is not JSON") from None
