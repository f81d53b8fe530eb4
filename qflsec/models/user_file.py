"""Loading what a user names as ``file.py:name``."""

from __future__ import annotations

from pathlib import Path

import torch

from qflsec.base.errors import ConfigError
from qflsec.base.sources import trace
from qflsec.base.user_code import load_file

__all__ = ["load_named"]


def load_named(path: str, kind: str, *, digest: str | None = None) -> tuple[object, str]:
    """The object, and the SHA-256 of its file with everything of the user's that it imports, in hexadecimal.

    The file is executed, with its own directory first on the search path; torch's generator is left as it was.

    Args:
        path: ``"file.py:name"``, relative to the working directory.
        kind: What is looked for, such as ``"QNode"``.
        digest: What the SHA-256 must be, if a stored configuration says so.

    Raises:
        ConfigError: There is no such file or name, the file fails, or it is not the one of ``digest``.
    """
    file_name, _, attribute = path.rpartition(":")
    if not file_name or not attribute.isidentifier():
        raise ConfigError(
            f"no {kind} named", got=repr(path), expected=f"'file.py:name_of_the_{kind.lower()}'"
        )
    file = Path(file_name).resolve()
    if not file.is_file():
        raise ConfigError(
            "no such file", got=str(file), fix="paths in a specification are relative to its folder"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            module = load_file(file)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{file.name} fails", got=f"{type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if found is None:
        raise ConfigError(f"{file.name} has no {kind} {attribute!r}", got="nothing of this name")
    now = trace(file).digest
    if digest not in (None, now):
        raise ConfigError(
            f"{file_name} has changed since this configuration was written",
            got=f"sha256 {now}",
            expected=f"sha256 {digest}",
        )
    return found, now
