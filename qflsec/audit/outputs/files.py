"""Writing what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qflsec.audit.outcome import AuditResult
from qflsec.base import ConfigError

__all__ = ["write_outputs"]


def write_outputs(
    result: AuditResult, *, report: Path | None = None, junit: Path | None = None, sarif: Path | None = None
) -> None:
    """Write the files that are named.

    Raises:
        ConfigError: One cannot be written.
    """
    for path, make in ((report, _page), (junit, _junit), (sarif, _sarif)):
        if path is not None:
            _write(path, make, result)


def _write(path: Path, make: Callable[[AuditResult], str], result: AuditResult) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(result), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write a result", got=f"{path}: {error.strerror}", fix="name another file"
        ) from error


def _page(result: AuditResult) -> str:
    from qflsec.audit.outputs.page import audit_page

    return audit_page(result)


def _junit(result: AuditResult) -> str:
    from qflsec.audit.outputs.junit import junit_xml

    return junit_xml(result)


def _sarif(result: AuditResult) -> str:
    from qflsec.audit.outputs.sarif import sarif_json

    return sarif_json(result)
