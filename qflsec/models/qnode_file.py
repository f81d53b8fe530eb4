"""Loading a QNode that a user names as ``file.py:circuit``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from qflsec.base.errors import ConfigError

__all__ = ["load_qnode"]


def load_qnode(path: str) -> tuple[Any, str]:
    """The QNode and the SHA-256 of the file's content, in hexadecimal.

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
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    qnode = getattr(_execute(file, digest), attribute, None)
    import pennylane as qml

    if not isinstance(qnode, qml.QNode):
        raise ConfigError(
            f"{file.name} has no QNode {attribute!r}",
            got="nothing of this name" if qnode is None else type(qnode).__name__,
            fix="decorate the circuit with @qml.qnode(device)",
        )
    return qnode, digest


def _execute(file: Path, digest: str) -> object:
    name = f"qflsec_user_{file.stem}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("not a Python file", got=str(file), expected="a name ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{file.name} fails", got=f"{type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.parent))
    return module
