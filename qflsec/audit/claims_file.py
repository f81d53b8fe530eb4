"""The claims file: what the author of a pipeline says of it, and which object is what."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qflsec.audit.claim import claim_from_config
from qflsec.audit.roles import ROLES
from qflsec.base import ConfigError
from qflsec.base.errors import Together

__all__ = ["ClaimsFile", "read_claims"]

_KEYS = frozenset({"claims", "roles"})


@dataclass(frozen=True, kw_only=True)
class ClaimsFile:
    """What a claims file says.

    Attributes:
        claims: A table for each claim, checked.
        roles: Names of the pipeline's objects, by role.
    """

    claims: tuple[Mapping[str, Any], ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)


def read_claims(path: Path) -> ClaimsFile:
    """Read a claims file; all its mistakes are told at once.

    Raises:
        ConfigError: It cannot be read, or a table or key is not one of a claims file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("cannot read the claims", got=f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("the claims file is no TOML", got=f"{path}: {error}") from None
    strangers = sorted(set(document) - _KEYS)
    if strangers:
        raise ConfigError(f"{path.name} has a table {strangers[0]!r}", expected="[[claims]] and [roles]")
    tables, roles = document.get("claims", []), document.get("roles", {})
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"'claims' of {path.name} is no list of tables", fix="write [[claims]] above each")
    with Together() as each:
        for index, table in enumerate(tables):
            each(_checked, index, table)
        for role, name in roles.items() if isinstance(roles, dict) else [("roles", roles)]:
            each(_check_role, role, name)
    return ClaimsFile(claims=tuple(tables), roles=roles)


def _checked(index: int, table: Mapping[str, Any]) -> None:
    try:
        claim_from_config(table)
    except ConfigError as error:
        raise error.within(f"claims[{index}]") from None


def _check_role(role: str, name: object) -> None:
    if role not in ROLES:
        raise ConfigError("roles: no such role", got=repr(role), expected=", ".join(ROLES))
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"roles.{role} is no name of an object", got=repr(name))
