"""What the tables, the files and the rows of the user's data tell, before anything that computes is imported.

Everything here is checked again where the objects are made; here a mistake is told in a fraction of a second. Names of
layers, attacks, models and topologies, and of their parameters, are looked up in the sources; what values may be is left to
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from qflsec.base.errors import Together
from qflsec.base.places import files_at
from qflsec.base.registry import Kind, check_spelling
from qflsec.base.sources import content_digest
from qflsec.base.user_code import named_file
from qflsec.base.written import written_keys
from qflsec.data.spec import DataSpec
from qflsec.federation.config import FederationConfig
from qflsec.lab.grid.estimate import refuse_memory
from qflsec.lab.grid.schema import at, refuse_key
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

__all__ = ["look", "look_at_rest"]

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
    with Together() as each:
        federations, threats = _tables(each, spec.pipelines, spec.threats, own=not spec.plugins)
        rows = [attack.model_dump() for attack in spec.attacks]
        _names(each, spec.stacks, rows, own=not spec.plugins)
    with Together() as each:
        for index, attack in enumerate(spec.attacks):
            federation, threat = federations[attack.pipeline], threats[attack.threat]
            if threat is not None:
                each(_clients, federation.n_clients, threat, attack.threat, f"attacks[{index}].threat")


def look_at_rest(document: Mapping[str, Any]) -> None:
    """Refuse what can be refused of a document that is no specification, but for what makes it none.

    Args:
        document: The document, with the names of files absolute.

    Raises:
        QflsecError: Something cannot be used; the message starts with the key path.
    """
    pipelines = {}
    for name, table in _items(document.get("pipelines"), dict):
        with suppress(ValidationError):
            known = {key: part for key, part in table.items() if key in PipelineTable.model_fields}
            pipelines[name] = PipelineTable.model_validate(known)
    attacks = document.get("attacks")
    rows = attacks if isinstance(attacks, list) else []
    own = not document.get("plugins")
    with Together() as each:
        _tables(each, pipelines, dict(_items(document.get("threats"), dict)), own=own)
        _names(each, dict(_items(document.get("stacks"), list)), rows, own=own)


def _items(table: object, kind: type) -> list[tuple[str, Any]]:
    """The entries of a table that are of one kind; none if it is no table."""
    return (
        [(name, one) for name, one in table.items() if isinstance(one, kind)]
        if isinstance(table, dict)
        else []
    )


def _tables(
    each: Together,
    pipelines: Mapping[str, PipelineTable],
    threats: Mapping[str, Mapping[str, Any]],
    *,
    own: bool,
) -> tuple[dict[str, FederationConfig], dict[str, ThreatModel | None]]:
    """What pipelines and threat models are; plugins may bring what is not known yet, where not all is the package's own."""
    found = {name: each(_pipeline, table, f"pipelines.{name}", own) for name, table in pipelines.items()}
    return found, {name: each(_threat, table, f"threats.{name}", own) for name, table in threats.items()}


def _names(each: Together, stacks: Mapping[str, Sequence[Any]], attacks: Sequence[Any], *, own: bool) -> None:
    """The names of layers and attacks, and of their parameters."""
    for stack, layers in stacks.items():
        for index, layer in enumerate(layers):
            if isinstance(layer, dict):
                each(_plugged, "layer", layer, f"stacks.{stack}[{index}]", own)
    for index, row in enumerate(attacks):
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            path, params = f"attacks[{index}]", row.get("params")
            each(_named, "attack", row, path, own)
            if own and isinstance(params, dict):
                each(_parameters, "attack", row["name"], params, path)


def _plugged(kind: Kind, table: Mapping[str, Any], path: str, own: bool) -> None:
    """The name of a plugin, and those of its parameters, which stand beside it."""
    _named(kind, table, path, own)
    if own:
        params = {key: value for key, value in table.items() if key != "name"}
        _parameters(kind, table["name"], params, path)


def _named(kind: Kind, table: Mapping[str, Any], path: str, own: bool) -> None:
    name = named(kind, table, path)
    if own:
        with at(path):
            check_spelling(kind, name)


def _parameters(kind: Kind, name: str, params: Mapping[str, Any], path: str) -> None:
    """Refuse parameters that one of the package's own plugins does not have."""
    known = written_keys(kind, name)
    with Together() as each:
        for key in params:
            if known is not None and key not in known:
                each(refuse_key, key, known, f"{path}.{key}")


def _plugin(name: str) -> None:
    with at(f"plugin {name!r} cannot be imported"):
        if name.endswith(".py"):
            content_digest(name)


def _pipeline(table: PipelineTable, path: str, own: bool) -> FederationConfig:
    with Together() as each:
        data = each(_data, table, path, own)
        each(_model, table.model, f"{path}.model", own)
        each(_plugged, "topology", {"name": "star", **table.topology}, f"{path}.topology", own)
        for index, layer in enumerate(table.layers):
            each(_plugged, "layer", layer, f"{path}.layers[{index}]", own)
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


def _data(table: PipelineTable, path: str, own: bool) -> DataSpec:
    data = made(DataSpec, table.data, f"{path}.data")
    _named("dataset", {"name": data.name}, f"{path}.data.name", own)
    with at(f"{path}.data"):
        if data.path is not None and data.name in {"csv", "parquet", "numpy"}:
            files = [] if Path(data.path).is_dir() else files_at(data.path)
            if sum(file.stat().st_size for file in files) <= _SMALL_BYTES:
                from qflsec.data.tables import read_table

                read_table(data, cast("Literal['csv', 'parquet', 'numpy']", data.name))
    return data


def _model(table: Mapping[str, Any], path: str, own: bool) -> None:
    _plugged("model", table, path, own)
    with at(path):
        if table["name"] in {"qnode", "torch", "qiskit"} and isinstance(table.get("path"), str):
            named_file(table["path"], "function")


def _threat(table: Mapping[str, Any], path: str, own: bool) -> ThreatModel | None:
    named("threat", table, path, "kind")
    return threat_of(table, path) if own else None


def _clients(n_clients: int, threat: ThreatModel, name: str, path: str) -> None:
    check_clients(n_clients, replace(threat, name=name), path)
