"""HTTP under mutual TLS with answers in JSON: what the interfaces of a key management entity share.

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
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, urlsplit

from qflsec.base import BackendError, ConfigError, QflsecError
from qflsec.protocols.keystore.etsi014_body import parsed, request_body
from qflsec.protocols.keystore.etsi014_messages import ApiError
from qflsec.protocols.keystore.kme import Kme

__all__ = ["JsonHandler", "JsonServer", "TlsFiles"]

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


class JsonServer:
    """A key management entity at an address; a context manager that serves in the background.

    Args:
        kme: The entity.
        tls: Its certificates.
        host: The address to listen on; only this machine by default.
        port: The port; any free one by default.

    Raises:
        BackendError: The address cannot be used.
    """

    handler: ClassVar[type[JsonHandler]]

    def __init__(self, kme: Kme, tls: TlsFiles, *, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            self._server = _TlsServer((host, port), self.handler, kme, tls.context(server=True))
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

    def __init__(
        self, address: tuple[str, int], handler: type[JsonHandler], kme: Kme, context: ssl.SSLContext
    ) -> None:
        super().__init__(address, handler)
        self._handler = handler
        self.kme = kme
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - signature of the base
        request.settimeout(_PATIENCE_SECONDS)
        with self._context.wrap_socket(request, server_side=True) as secured:
            self._handler(secured, client_address, self)
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


class JsonHandler(BaseHTTPRequestHandler, ABC):
    """Reads requests to their end, and answers in JSON whatever is wrong with them."""

    server: _TlsServer
    connection: ssl.SSLSocket
    protocol_version = "HTTP/1.1"
    server_version = "qflsec-kme"
    sys_version = ""

    def do_GET(self) -> None:
        """Any method but POST; a body is read, and is nobody's business."""
        try:
            if any(name in self.headers for name in ("Content-Length", "Transfer-Encoding")):
                request_body(self.headers, self.rfile)
        except ApiError as error:
            self._refuse(error)
        else:
            self._answer(self.query)

    def do_POST(self) -> None:
        """Read first: an answer to a request that was not read to its end may never arrive."""
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
            body = self.serve(read)
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

    @abstractmethod
    def serve(self, read: Callable[[str], Any]) -> dict[str, Any]:
        """Answer a request.

        Args:
            read: Gives the body of the request, or what stands for it, for a resource.

        Raises:
            ApiError: It cannot be served.
        """

    @abstractmethod
    def query(self, resource: str) -> dict[str, Any]:
        """The parameters of a GET request as the body that a POST request would have had."""

    @property
    def target(self) -> SplitResult:
        """The path and the query that are asked for.

        Raises:
            ApiError: What stands there is no address.
        """
        try:
            return urlsplit(self.path)
        except ValueError:
            raise ApiError(400, "no such resource") from None

    def caller(self) -> str:
        """The application that the certificate names.

        Raises:
            ApiError: It names none, or one that is not served.
        """
        subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
        for names in subject:
            for name, value in names:
                if name == "commonName":
                    self.server.kme.admit(str(value))
                    return str(value)
        raise ApiError(401, "the client certificate names no SAE")
