"""Results of matrices that were run before, and running one to its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qflsec.base import StoreError
from qflsec.lab.grid.runner import Progress, run_matrix
from qflsec.lab.grid.store import Store
from qflsec.lab.worlds.federation.assemble import assemble
from qflsec.lab.worlds.federation.document import from_json
from qflsec.lab.worlds.federation.matrix import Matrix, build_matrix
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.spec import MatrixSpec

__all__ = ["read_result", "run", "stored_matrix"]


def run(
    spec: MatrixSpec,
    store: str | Path,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    address: str | None = None,
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> MatrixResult:
    """Run what is left of a matrix and return its result.

    Args:
        spec: The specification.
        store: The store; made where it does not exist.
        jobs: The number of workers.
        backend: ``"loky"``, ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster.
        command: The command that a report shall name.
        on_progress: Called after every finished batch.

    Raises:
        QflsecError: The specification, its data, the store or the backend cannot be used.
    """
    matrix = build_matrix(spec)
    steps = run_matrix(matrix, store, jobs=jobs, backend=backend, address=address, command=command)
    for progress in steps:
        if on_progress is not None:
            on_progress(progress)
    with Store(store, create=False) as opened:
        return assemble(matrix, opened, command=command)


def stored_matrix(store: Store, spec: MatrixSpec | None = None) -> tuple[Matrix, str]:
    """The matrix that was last run into a store, or ``spec``, and the command that ran it.

    Raises:
        StoreError: No matrix was run into it.
    """
    last = store.last_matrix(None if spec is None else spec.name)
    if spec is not None:
        return build_matrix(spec), "" if last is None else str(last["command"])
    if last is None:
        raise StoreError("no matrix was run into this store", got=store.path, fix="run one with --store")
    return build_matrix(MatrixSpec.model_validate_json(last["spec"])), str(last["command"])


def read_result(path: str | Path, spec: MatrixSpec | None = None) -> MatrixResult:
    """The result in a store, or in a JSON document that was exported from one.

    Args:
        path: The store or the document.
        spec: The matrix; the one that was last run into the store by default.

    Raises:
        StoreError: The file is neither.
    """
    place = Path(path)
    if place.is_file():
        with place.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(b"{"):
            return from_json(place.read_text(encoding="utf-8"))
    with Store(place, create=False) as store:
        matrix, command = stored_matrix(store, spec)
        return assemble(matrix, store, command=command)
