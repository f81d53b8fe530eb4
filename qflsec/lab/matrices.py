"""Matrices of every kind, from a specification to a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qflsec.base.installation import installation_digest
from qflsec.lab.grid.results import Result
from qflsec.lab.grid.runner import Progress, run_matrix
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.grid.store import Store
from qflsec.lab.grid.world import AnyWorld

__all__ = ["assemble", "build", "run", "world_of"]


def world_of(kind: str) -> type[AnyWorld]:
    """The kind of matrix by what a specification says of itself; each is imported when it is asked for."""
    if kind == "channel":
        from qflsec.lab.worlds.channel.world import ChannelWorld

        return ChannelWorld
    if kind == "delegation":
        from qflsec.lab.worlds.delegation.world import DelegationWorld

        return DelegationWorld
    from qflsec.lab.worlds.federation.world import FederationWorld

    return FederationWorld


def build(spec: GridSpec) -> AnyWorld:
    """Make the objects that a specification names.

    Raises:
        QflsecError: A name is unknown or a value cannot be used; the message starts with the key path.
    """
    return world_of(spec.kind).make(spec)


def run(
    spec: GridSpec,
    store: str | Path,
    *,
    jobs: int | None = None,
    backend: str = "local",
    address: str | None = None,
    command: str = "",
    long: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result[Any]:
    """Run what is left of a matrix and return its result.

    Args:
        spec: The specification.
        store: The store; made where it does not exist.
        jobs: The number of workers.
        backend: ``"local"`` (processes of this machine), ``"loky"`` (joblib's), ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster.
        command: The command that a report shall name.
        long: Whether a plan is confirmed that would take more than a day.
        on_progress: Called after every finished batch.

    Raises:
        QflsecError: The specification, its data, the store or the backend cannot be used.
    """
    world = build(spec)
    steps = run_matrix(world, store, jobs=jobs, backend=backend, address=address, command=command, long=long)
    for progress in steps:
        if on_progress is not None:
            on_progress(progress)
    return assemble(world, store, command=command, keep=True)


def assemble(world: AnyWorld, store: str | Path, *, command: str = "", keep: bool = False) -> Result[Any]:
    """What a store knows of a matrix.

    Args:
        world: The matrix.
        store: The store.
        command: The command that made it.
        keep: Whether to keep the result in the store, so that others need not make it again.

    Raises:
        StoreError: There is no such store.
    """
    with Store(store, create=False) as opened:
        # read first: rows that another process adds meanwhile make what is kept look older than it is, never newer
        unit, last = opened.last_unit(), opened.last_matrix(world.spec.name)
        result: Result[Any] = world.assemble(opened.rows(), command=command)
        if keep and last is not None and (last["command"], last["frame"]) == (command, world.frame):
            document, digest = json.dumps(world.reading.document(result)), installation_digest()
            opened.keep_result(last["seq"], unit=unit, digest=digest, document=document)
    return result
