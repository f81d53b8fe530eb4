"""Serving the page of a matrix while it fills."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from qflsec.lab import Result

__all__ = ["Watch", "served"]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a page is served.

    Attributes:
        port: The port on the loopback; a free one for 0.
        keep: Whether it is served until Ctrl-C, rather than until the work that fills it is done.
    """

    port: int = 0
    keep: bool = False


@contextmanager
def served(watch: Watch, store: Path, result: Callable[[], Result[Any]]) -> Iterator[None]:
    """Serve the page of a store while the block runs, by a thread of this process.

    Args:
        watch: How.
        store: The store.
        result: What it holds now.

    Raises:
        ConfigError: The port cannot be had.
    """
    from qflsec.report.pages import LivePages
    from qflsec.report.serve import LiveSite

    pages = LivePages(store, result)
    with LiveSite(pages, port=watch.port) as site:
        until = "until Ctrl-C" if watch.keep else "until the run ends; add --keep to go on looking"
        typer.echo(f"live page, for this machine alone, {until}: {site.url}", err=True)
        yield
        if watch.keep:
            with suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
        else:
            site.last_look()
