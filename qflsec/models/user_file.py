"""Loading what a user names as ``file.py:name``."""

from __future__ import annotations

import torch

from qflsec.base.errors import ConfigError
from qflsec.base.sources import trace
from qflsec.base.user_code import load_file, named_file

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
    file, attribute = named_file(path, kind)
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
            f"{path.rpartition(':')[0]} has changed since this configuration was written",
            got=f"sha256 {now}",
            expected=f"sha256 {digest}",
        )
    return found, now
