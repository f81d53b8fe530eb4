"""``qflsec flower new``: an app that runs, with a quantum model, secure aggregation and differential privacy."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from qflsec.base import ConfigError

__all__ = ["new_project"]

_PACKAGE = "hospitals"
_FILES = {
    "pyproject.toml": "pyproject.toml",
    **{f"{_PACKAGE}/{name}.py": f"{name}.py" for name in ("plan", "client_app", "server_app", "task")},
}
_NODES = re.compile(r"^num-clients = \d+$", re.MULTILINE)


def new_project(folder: Path, *, nodes: int = 10) -> list[Path]:
    """Write an app.

    Args:
        folder: Where to; it is made where it is missing.
        nodes: The number of clients.

    Returns:
        The files.

    Raises:
        ConfigError: There are such files already, the folder cannot be written to, or there are too few clients.
    """
    if nodes < 3:
        raise ConfigError(
            "there are too few clients",
            got=nodes,
            expected="3 or more: of a sum of two, each reads the other's",
        )
    there = [name for name in _FILES if (folder / name).exists()]
    if there:
        raise ConfigError("nothing is overwritten", got=f"{there[0]} in {folder}", fix="name another folder")
    texts = resources.files("qflsec.flower").joinpath("template")
    written = [folder / _PACKAGE / "__init__.py", *(folder / name for name in _FILES)]
    try:
        (folder / _PACKAGE).mkdir(parents=True, exist_ok=True)
        written[0].write_text('"""Hospitals train together."""\n', encoding="utf-8")
        for name, source in _FILES.items():
            text = texts.joinpath(f"{source}.txt").read_text(encoding="utf-8")
            (folder / name).write_text(_NODES.sub(f"num-clients = {nodes}", text), encoding="utf-8")
    except OSError as error:
        raise ConfigError("the folder cannot be written to", got=f"{folder}: {error.strerror}") from error
    return written
