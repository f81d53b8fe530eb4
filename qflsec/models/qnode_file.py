"""Loading a QNode that a user names as ``file.py:circuit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qflsec.base.errors import ConfigError
from qflsec.base.sources import trace
from qflsec.base.user_code import load_file

__all__ = ["load_qnode"]


def load_qnode(path: str) -> tuple[Any, str]:
    """The QNode and the SHA-256 of its file with everything of the user's that it imports, in hexadecimal.

    The file is executed, with its own directory first on the search path.

    Args:
        path: ``"file.py:name"``, relative to the working directory.

    Raises:
        ConfigError: There is no such file or QNode, or the file fails.
    """
    file_name, _, attribute = path.rpartition(":")
    if not file_name or not attribute.isidentifier():
        raise ConfigError("no QNode named", got=repr(path), expected="'file.py:name_of_the_qnode'")
    file = Path(file_name).resolve()
    if not file.is_file():
        raise ConfigError("no such file", got=str(file), fix="paths are relative to the working directory")
    qnode = getattr(_execute(file), attribute, None)
    import pennylane as qml

    if not isinstance(qnode, qml.QNode):
        raise ConfigError(
            f"{file.name} has no QNode {attribute!r}",
            got="nothing of this name" if qnode is None else type(qnode).__name__,
            fix="decorate the circuit with @qml.qnode(device)",
        )
    return qnode, trace(file).digest


def _execute(file: Path) -> object:
    try:
        return load_file(file)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{file.name} fails", got=f"{type(error).__name__}: {error}") from error
