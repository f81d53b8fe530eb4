"""A key management entity (KME) with the interface of ETSI GS QKD 014 V1.1.1, over mutual TLS.

The application (SAE) that asks is whoever its client certificate names. A key is spent in the store before
it is sent; if the connection breaks, it is lost, and nobody gets it again.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from qflsec.base import BackendError, ConfigError, QflsecError
from qflsec.protocols.keystore.errors import KeysExhausted, UnknownKey, WrongSae
from qflsec.protocols.keystore.etsi014_body import parsed, request_body
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
_METHODS = {"status": ("GET",), "enc_keys": ("GET", "POST"), "dec_keys": ("GET", "POST")}
_PATIENCE_SECONDS = 30.0
_LINGER_SECONDS = 2.0
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
            _linger(secured)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - signature of the base
        """A failed handshake or a broken connection is the client's affair; anything else is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _linger(connection: ssl.SSLSocket) -> None:
    """Hear a client out for a moment: closing on bytes that were not read would destroy the answer on its way."""
    until = time.monotonic() + _LINGER_SECONDS
    connection.settimeout(_LINGER_SECONDS)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16) and time.monotonic() < until:
            pass


class _Handler(BaseHTTPRequestHandler):
    server: _TlsServer
    connection: ssl.SSLSocket
    protocol_version = "HTTP/1.1"
    server_version = "qflsec-kme"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            if any(name in self.headers for name in ("Content-Length", "Transfer-Encoding")):
                request_body(self.headers, self.rfile)
        except ApiError as error:
            self._refuse(error)
        else:
            self._answer(self._query)

    def do_POST(self) -> None:
        # read first: an answer to a request that was not read to its end may never arrive
        try:
            raw = request_body(self.headers, self.rfile)
        except ApiError as error:
            self._refuse(error)
        else:
            self._answer(lambda _: parsed(raw))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - signature of the base
        """Nothing: identifiers and sizes are nobody's business."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base finds wrong with a request, in the error data format instead of HTML."""
        if code == HTTPStatus.NOT_IMPLEMENTED:  # PUT and the like: no resource has them
            self.do_GET()
            return
        self._refuse(ApiError(400, message or "the request is not HTTP", {"http_status": int(code)}))

    def _refuse(self, error: ApiError) -> None:
        self._send(error.status, error.body(), allowed=error.allowed)

    def _answer(self, read: Callable[[str], Any]) -> None:
        try:
            body = self._serve(read)
        except ApiError as error:
            self._refuse(error)
        except QflsecError as error:
            self._refuse(ApiError(503, f"the KME has a fault: {error.what}"))
        else:
            self._send(200, body)

    def _send(self, status: int, body: Mapping[str, Any], *, allowed: Sequence[str] = ()) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Cache-Control", "no-store")
        if allowed:
            self.send_header("Allow", ", ".join(allowed))
        if status != 200:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _serve(self, read: Callable[[str], Any]) -> dict[str, Any]:
        parts = tuple(unquote(part) for part in urlsplit(self.path).path.strip("/").split("/"))
        if len(parts) != len(_PREFIX) + 2 or parts[: len(_PREFIX)] != _PREFIX or parts[-1] not in _METHODS:
            raise ApiError(400, "no such resource", {"path": urlsplit(self.path).path})
        sae, resource = parts[-2:]
        kme, caller = self.server.kme, self._caller()
        kme.admit(caller)
        if self.command not in _METHODS[resource]:
            raise ApiError(400, f"{resource} has no method {self.command}", allowed=_METHODS[resource])
        if resource == "status":
            return kme.status(caller, sae)
        if resource == "enc_keys":
            return kme.enc_keys(caller, sae, read(resource))
        return kme.dec_keys(caller, sae, read(resource))

    def _caller(self) -> str:
        subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
        for names in subject:
            for name, value in names:
                if name == "commonName":
                    return str(value)
        raise ApiError(401, "the client certificate names no SAE")

    def _query(self, resource: str) -> dict[str, Any]:
        """The parameters of a GET request as the body that a POST request would have had."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if resource == "dec_keys":
            return {"key_IDs": [{"key_ID": value} for value in query.get("key_ID", [])]}
        body: dict[str, Any] = {}
        for name, values in query.items():
            try:
                body[name] = int(values[-1])
            except ValueError:
                raise ApiError(400, f"{name} shall be an integer", {name: values[-1]}) from None
        return body
