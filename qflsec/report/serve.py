"""A live page for this machine alone: read-only, on the loopback, under a path that cannot be guessed.

Who could misuse a local server is another page in the same browser. It is refused by the host it must name
(another name that resolves to this machine is the attack called DNS rebinding), by what the browser says of where
a request comes from, by the token in the path, and by a policy that lets nothing run but the page's own scripts.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from types import TracebackType
from typing import Any, Self

from qflsec.base import ConfigError
from qflsec.report.pages import LivePages

__all__ = ["LiveSite"]

_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_POLLING_SECONDS = 5.0
_LAST_LOOK_SECONDS = 10.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pages: LivePages
    hosts: frozenset[str]
    routes: dict[bytes, str]
    asked: float

    def handle_error(self, *_: object) -> None:
        """A reader that went away is no news."""


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10.0
    server_version, sys_version = "qflsec", ""

    def parse_request(self) -> bool:
        """Whether to go on; whoever is not this site's own reader is refused before anything is looked up."""
        if not super().parse_request():
            return False
        if (reason := self._foreign()) is not None:
            self.send_error(HTTPStatus.FORBIDDEN, reason)
            return False
        if self.command not in {"GET", "HEAD"}:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "a page to look at")
            return False
        return True

    def do_HEAD(self) -> None:
        """As GET, without the text."""
        self.do_GET()

    def do_GET(self) -> None:
        """The page, or its version; there is nothing else."""
        asked = self.path.encode("latin-1", "replace")
        # No part of the path names a file: it is one of two texts, compared in constant time, or nothing.
        known = [what for route, what in self.server.routes.items() if hmac.compare_digest(route, asked)]
        if not known:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.server.asked = time.monotonic()
        if known == ["version"]:
            self._answer(HTTPStatus.OK, "application/json", json.dumps(self.server.pages.state()).encode())
            return
        nonce = secrets.token_urlsafe(18)
        body = self.server.pages.page().with_nonce(nonce)
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", body, nonce=nonce)

    def _foreign(self) -> str | None:
        """Why a request is not this site's own; None where it is."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            return "another host"
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            return "another origin"
        if self.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            return "another site"
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A refusal in plain text, with the headers of every answer."""
        status = HTTPStatus(code)
        self._answer(status, "text/plain; charset=utf-8", f"{status.phrase}: {message or ''}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, *, nonce: str | None = None) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        # without a nonce, the answer may run and show nothing at all
        policy = (
            "default-src 'none'; frame-ancestors 'none'" if nonce is None else _POLICY.format(nonce=nonce)
        )
        self.send_header("Content-Security-Policy", policy)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the library's
        """Requests are nobody's business."""


class LiveSite:
    """A page that is served while it fills; a context manager.

    Args:
        pages: What is served.
        port: The port on the loopback; a free one for 0.

    Attributes:
        url: Where it is.

    Raises:
        ConfigError: The port cannot be had.
    """

    def __init__(self, pages: LivePages, *, port: int = 0) -> None:
        self._pages = pages
        self._server, name = _bound(port)
        found = self._server.server_address[1]
        token = secrets.token_urlsafe(18)
        self.url = f"http://{name}:{found}/{token}/"
        self._server.pages, self._server.asked = pages, 0.0
        self._server.hosts = frozenset({f"{name}:{found}", f"localhost:{found}"})
        self._server.routes = {f"/{token}/".encode(): "page", f"/{token}/version".encode(): "version"}
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="qflsec-site", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def last_look(self) -> None:
        """Nothing more is to come: leave those who are looking the time to get the last page."""
        self._pages.end()
        limit = time.monotonic() + _LAST_LOOK_SECONDS
        while time.monotonic() < min(limit, self._server.asked + _POLLING_SECONDS):
            time.sleep(0.1)


def _bound(port: int) -> tuple[_Server, str]:
    """A server on the loopback, and its name in an address; IPv6 where there is no IPv4."""
    try:
        try:
            return _Server(("127.0.0.1", port), _Handler), "127.0.0.1"
        except OSError as error:
            if error.errno not in {EADDRNOTAVAIL, EAFNOSUPPORT}:
                raise
            return _Server6(("::1", port), _Handler), "[::1]"
    except OSError as error:
        raise ConfigError(
            "the page cannot be served on this port",
            got=f"{port}: {error.strerror}",
            fix="name another with --port, or leave it out for a free one",
        ) from None
