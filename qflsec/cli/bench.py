"""``qflsec bench``: measurements of speed."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measurements of speed.")
