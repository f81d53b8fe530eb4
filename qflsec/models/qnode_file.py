"""Loading a QNode that a user names as ``file.py:circuit``."""

from __future__ import annotations

from typing import Any

from qflsec.base.errors import ConfigError
from qflsec.models.user_file import load_named

__all__ = ["load_qnode"]


def load_qnode(path: str, *, digest: str | None = None) -> tuple[Any, str]:
    """The QNode and the SHA-256 of its file with everything of the user's that it imports, in hexadecimal.

    The file is executed, with its own directory first on the search path.

    Args:
        path: ``"file.py:name"``, relative to the working directory.
        digest: What the SHA-256 must be, if a stored configuration says so.

    Raises:
        ConfigError: There is no such file or QNode, the file fails, or it is not the one of ``digest``.
    """
    qnode, digest = load_named(path, "QNode", digest=digest)
    import pennylane as qml

    if not isinstance(qnode, qml.QNode):
        raise ConfigError(
            f"{path.rpartition(':')[2]!r} is no QNode",
            got=type(qnode).__name__,
            fix="decorate the circuit with @qml.qnode(device)",
        )
    return qnode, digest
