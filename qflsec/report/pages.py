"""The page of a store that is being filled: made when somebody asks for it, and seldom enough not to be in the way."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qflsec.base import QflsecError
from qflsec.report.page import Reportable, render_report, render_waiting

__all__ = ["LivePage", "LivePages"]

_PAUSE_SECONDS = 3.0
_SHARE = 0.04


@dataclass(frozen=True, kw_only=True)
class LivePage:
    """A page at one moment.

    Attributes:
        version: What the store was like.
        html: The page, with ``blank`` where the nonce of its scripts and styles belongs.
        blank: What an answer puts its own nonce in the place of; nobody can know it before the page is made.
    """

    version: str
    html: str
    blank: str

    def with_nonce(self, nonce: str) -> bytes:
        """The page of one answer."""
        return self.html.replace(self.blank, nonce).encode()


class LivePages:
    """The pages of one store, one after the other; for several readers at a time.

    Args:
        store: The file, or files, whose change makes a new page.
        result: What is stored now.
        pause_seconds: The least time from one page to the next.
        share: The most of one processor that pages may take from the run: one that takes long is made less often.
    """

    def __init__(
        self,
        store: Path,
        result: Callable[[], Reportable],
        *,
        pause_seconds: float = _PAUSE_SECONDS,
        share: float = _SHARE,
    ) -> None:
        self._store, self._result, self._pause, self._share = store, result, pause_seconds, share
        self._lock = threading.Lock()
        self._page: LivePage | None = None
        self._next = 0.0
        self._ended = False
        self.made = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self._ended

    def end(self) -> None:
        """Nothing more will be stored: the last page may be made at once."""
        self._ended = True

    def state(self) -> dict[str, Any]:
        """The version that a reader would get now, and whether it is the last."""
        page, ended = self._page, self._ended
        current = page is not None and not self._due(page)
        return {"version": page.version if page is not None and current else self._stamp(), "ended": ended}

    def page(self) -> LivePage:
        """The page; a new one where the store changed since the last and enough time has passed."""
        with self._lock:
            if self._page is None or self._due(self._page):
                begun = time.monotonic()
                self._page = self._make(self._stamp())
                now = time.monotonic()
                self._next = now + max(self._pause, (1 / self._share - 1) * (now - begun))
                self.made += 1
            return self._page

    def _due(self, page: LivePage) -> bool:
        return (self._ended or time.monotonic() >= self._next) and page.version != self._stamp()

    def _stamp(self) -> str:
        """What tells two states of the store apart: its files' times and sizes."""
        parts = []
        for path in (self._store, Path(f"{self._store}-wal")):
            try:
                found = path.stat()
            except OSError:
                parts.append("none")
            else:
                parts.append(f"{found.st_mtime_ns:x}.{found.st_size:x}")
        return "-".join(parts)

    def _make(self, version: str) -> LivePage:
        blank = secrets.token_urlsafe(24)
        try:
            html = render_report(self._result(), live=version, nonce=blank)
        except QflsecError as error:
            html = render_waiting(str(error), live=version, nonce=blank)
        return LivePage(version=version, html=html, blank=blank)
