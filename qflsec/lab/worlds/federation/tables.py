"""Tables of a specification made into values, as far as nothing that computes is needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from qflsec.base import ConfigError, find
from qflsec.base.places import files_at, is_pattern
from qflsec.base.registry import Kind
from qflsec.data.partitioners import PartitionSpec
from qflsec.data.spec import DataSpec
from qflsec.lab.grid.schema import at, check
from qflsec.lab.worlds.federation.spec import PipelineTable
from qflsec.threat.model import ThreatModel

__all__ = [
    "by_client",
    "check_clients",
    "checked",
    "client_index",
    "made",
    "named",
    "partition_of",
    "threat_of",
]

_T = TypeVar("_T")


def made(kind: type[_T], table: Mapping[str, Any], path: str) -> _T:
    """The dataclass that a table configures.

    Raises:
        QflsecError: It cannot be made; the message starts with the key path.
    """
    arguments = check(kind, table, path)
    with at(path):
        return kind(**arguments)


def named(kind: Kind, table: Mapping[str, Any], path: str, key: str = "name") -> str:
    """The name of the plugin that a table configures.

    Raises:
        ConfigError: It says none.
    """
    name = table.get(key)
    if not isinstance(name, str):
        raise ConfigError(f"{path}: a {kind} without a {key}", got=dict(table), fix=f'add {key} = "..."')
    return name


def checked(kind: Kind, table: Mapping[str, Any], path: str, key: str = "name") -> dict[str, Any]:
    """A plugin's table with its parameters checked against what the plugin takes.

    Raises:
        QflsecError: There is no such plugin, or it takes other parameters.
    """
    name = named(kind, table, path, key)
    with at(path):
        plugin = find(kind, name)
    return {key: name, **check(plugin, {part: value for part, value in table.items() if part != key}, path)}


def threat_of(table: Mapping[str, Any], path: str) -> ThreatModel:
    """The threat model of a table.

    Raises:
        QflsecError: It cannot be made.
    """
    arguments = checked("threat", table, path, key="kind")
    with at(path):
        found = find("threat", arguments.pop("kind"))(**arguments)
    if not isinstance(found, ThreatModel):
        raise ConfigError(f"{path}: registered as a threat model but is none", got=type(found).__name__)
    return found


def partition_of(table: PipelineTable, path: str) -> PartitionSpec:
    """How the records of a pipeline are spread.

    Raises:
        QflsecError: It cannot be used, or there is no such partition.
    """
    spread = made(PartitionSpec, table.partition, f"{path}.partition")
    with at(f"{path}.partition.kind"):
        find("partition", spread.kind)
    return spread


def client_index(index: str, path: str) -> int:
    """The client that a key of ``client_executions`` names.

    Raises:
        ConfigError: It names none.
    """
    if not index.isdecimal():
        raise ConfigError(f"{path}.client_executions: not a client", got=repr(index), expected="an index")
    return int(index)


def by_client(data: DataSpec, table: PipelineTable, path: str) -> PipelineTable:
    """The table with one client for each file, where the data have a file for each client and it says nothing else.

    Raises:
        QflsecError: No file matches, or the table asks for another number of clients.
    """
    with at(f"{path}.data"):
        files = files_at(data.path) if data.path is not None and is_pattern(data.path) else ()
    spread = {"kind": "files", **table.partition}
    if not files or spread["kind"] != "files":
        return table
    given = table.federation.get("n_clients", len(files))
    if given != len(files):
        raise ConfigError(
            f"{path}.federation.n_clients: each file is a client's",
            got=given,
            expected=f"{len(files)}, the files that match {data.path}",
            fix="leave n_clients out, or spread all records by another partition",
        )
    federation = {**table.federation, "n_clients": len(files)}
    return table.model_copy(update={"partition": spread, "federation": federation})


def check_clients(n_clients: int, threat: ThreatModel, path: str) -> None:
    """Refuse threat models that leave no honest client of a pipeline, or corrupt some that it does not have.

    Args:
        n_clients: The clients of the pipeline.
        threat: The threat model of an attack on it.
        path: The key path of the attack's threat model.

    Raises:
        ConfigError: This one does.
    """
    corrupted = threat.clients
    if len(corrupted) >= n_clients:
        raise ConfigError(
            f"{path}: threat model {threat.name!r} leaves no honest client to attack",
            got=f"{len(corrupted)} of {n_clients} clients",
            expected=f"fewer than {n_clients}",
            fix="lower 'n' of the threat model, or raise 'n_clients' of the pipeline",
        )
    if corrupted and corrupted[-1] >= n_clients:
        raise ConfigError(
            f"{path}: threat model {threat.name!r} corrupts a client that does not exist",
            got=f"index {corrupted[-1]}",
            expected=f"indices below {n_clients}",
            fix="name others, or raise 'n_clients' of the pipeline",
        )
