"""Where batches run: processes of this machine, or a Dask or Ray cluster, through one joblib interface."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

from qflsec.base import BackendError, MissingExtra

__all__ = ["Backend", "check_backend", "default_jobs", "results"]

Backend = Literal["loky", "dask", "ray"]
_NEEDS: dict[str, tuple[str, ...]] = {"dask": ("dask", "distributed"), "ray": ("ray",)}


def default_jobs() -> int:
    """As many workers as this process may use cores."""
    import joblib

    return int(joblib.cpu_count())


def check_backend(backend: str) -> None:
    """Refuse a backend that is unknown or not installed.

    Raises:
        BackendError: There is no such backend.
        MissingExtra: Its packages are not installed.
    """
    if backend not in get_args(Backend):
        raise BackendError(
            "unknown backend", got=repr(backend), expected=f"one of {', '.join(get_args(Backend))}"
        )
    missing = [name for name in _NEEDS.get(backend, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"backend {backend!r} needs {' and '.join(missing)}, which is not installed",
            fix="pip install 'qflsec[cluster]'",
        )


def results(
    function: Callable[..., Any], tasks: Iterable[Any], *, jobs: int, backend: str, address: str | None = None
) -> Iterator[Any]:
    """``function(task, parent=...)`` for each task, as they finish, in any order.

    Args:
        function: A function of a module, so that it can be sent to a worker.
        tasks: Values that can be sent to a worker.
        jobs: The number of workers; one means this process.
        backend: ``"loky"``, ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster; a local one is started by default.

    Raises:
        BackendError: A worker died, or the cluster cannot be reached.
    """
    import joblib

    with _configured(backend, jobs, address) as options:
        parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="all", **options)
        try:
            yield from parallel(joblib.delayed(function)(task, parent=os.getpid()) for task in tasks)
        except (ConnectionError, joblib.externals.loky.process_executor.BrokenProcessPool) as error:
            raise BackendError(
                "a worker died",
                got=" ".join(str(error).split())[:200],
                fix="finished batches are stored: run the same command again, with fewer --jobs if memory is short",
            ) from error


@contextmanager
def _configured(backend: str, jobs: int, address: str | None) -> Iterator[dict[str, Any]]:
    """The arguments of ``joblib.Parallel`` while the backend is up."""
    if backend == "loky":
        yield {"n_jobs": jobs, "backend": "loky"} if jobs > 1 else {"n_jobs": 1}
        return
    check_backend(backend)
    import joblib

    with ExitStack() as stack:
        if backend == "dask":
            stack.enter_context(_dask_client(jobs, address))
            stack.enter_context(joblib.parallel_config(backend="dask"))
            yield {}
        else:
            stack.enter_context(_ray(jobs, address))
            stack.enter_context(joblib.parallel_config(backend="ray", n_jobs=jobs))
            yield {}


@contextmanager
def _dask_client(jobs: int, address: str | None) -> Iterator[None]:
    distributed: Any = importlib.import_module("distributed")
    with ExitStack() as stack:
        try:
            where = address or stack.enter_context(
                distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
            )
            stack.enter_context(distributed.Client(where))
        except (OSError, TimeoutError) as error:
            raise BackendError("no Dask scheduler", got=str(error), fix="check --address") from error
        yield


@contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[None]:
    ray: Any = importlib.import_module("ray")
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(
                address=address,
                num_cpus=None if address else jobs,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BackendError("no Ray cluster", got=str(error), fix="check --address") from error
    importlib.import_module("ray.util.joblib").register_ray()
    try:
        yield
    finally:
        if started:
            ray.shutdown()
