"""What the tables, the files and the rows of the user's data tell, before anything that computes is imported.

Everything here is checked again where the objects are made; here a mistake is told in a fraction of a second. What
needs a model, a layer or an attack is left to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from qflsec.base.errors import Together
from qflsec.base.places import files_at
from qflsec.base.sources import content_digest
from qflsec.base.user_code import named_file
from qflsec.data.spec import DataSpec
from qflsec.federation.config import FederationConfig
from qflsec.lab.grid.estimate import refuse_memory
from qflsec.lab.grid.schema import at
from qflsec.lab.worlds.federation.spec import MatrixSpec, PipelineTable
from qflsec.lab.worlds.federation.tables import (
    by_client,
    check_clients,
    client_index,
    made,
    named,
    partition_of,
    threat_of,
)
from qflsec.threat.model import ThreatModel

__all__ = ["look"]

_SMALL_BYTES = 2**20
"""Tables up to this size are read whole: it takes no time that anybody notices."""
_NUMBER_BYTES = 4


def look(spec: MatrixSpec) -> None:
    """Refuse what can be refused without importing what computes, all at once.

    Args:
        spec: A specification whose tables have the right keys.

    Raises:
        QflsecError: Something cannot be used; the message starts with the key path.
    """
    with Together() as each:
        for plugin in spec.plugins:
            each(_plugin, plugin)
    own = not spec.plugins  # plugins may bring what is not known yet
    with Together() as each:
        federations = {
            n: each(_pipeline, table, f"pipelines.{n}", own) for n, table in spec.pipelines.items()
        }
        threats = {n: each(_threat, table, f"threats.{n}", own) for n, table in spec.threats.items()}
        for name, layers in spec.stacks.items():
            for index, table in enumerate(layers):
                each(named, "layer", table, f"stacks.{name}[{index}]")
    with Together() as each:
        for index, attack in enumerate(spec.attacks):
            federation, threat = federations[attack.pipeline], threats[attack.threat]
            if threat is not None:
                each(_clients, federation.n_clients, threat, attack.threat, f"attacks[{index}].threat")


def _plugin(name: str) -> None:
    with at(f"plugin {name!r} cannot be imported"):
        if name.endswith(".py"):
            content_digest(name)


def _pipeline(table: PipelineTable, path: str, own: bool) -> FederationConfig:
    with Together() as each:
        data = each(_data, table, path)
        each(_model, table.model, f"{path}.model")
        each(named, "topology", {"name": "star", **table.topology}, f"{path}.topology")
        clients = [each(client_index, index, path) for index in table.client_executions]
        if own or table.partition.get("kind") is None:
            each(partition_of, table, path)
        each(made, FederationConfig, table.federation, f"{path}.federation")
    found = made(FederationConfig, by_client(data, table, path).federation, f"{path}.federation")
    with at(path):
        found.check_executions(clients)
        # every message of every round stays in the transcript, and has a number at least
        refuse_memory(2.0 * found.rounds * found.n_participants * _NUMBER_BYTES)
    return found


def _data(table: PipelineTable, path: str) -> DataSpec:
    data = made(DataSpec, table.data, f"{path}.data")
    with at(f"{path}.data"):
        if data.path is not None and data.name in {"csv", "parquet", "numpy"}:
            files = [] if Path(data.path).is_dir() else files_at(data.path)
            if sum(file.stat().st_size for file in files) <= _SMALL_BYTES:
                from qflsec.data.tables import read_table

                read_table(data, cast("Literal['csv', 'parquet', 'numpy']", data.name))
    return data


def _model(table: Mapping[str, Any], path: str) -> None:
    named("model", table, path)
    with at(path):
        if table["name"] in {"qnode", "torch", "qiskit"} and isinstance(table.get("path"), str):
            named_file(table["path"], "function")


def _threat(table: Mapping[str, Any], path: str, own: bool) -> ThreatModel | None:
    named("threat", table, path, "kind")
    return threat_of(table, path) if own else None


def _clients(n_clients: int, threat: ThreatModel, name: str, path: str) -> None:
    check_clients(n_clients, replace(threat, name=name), path)
