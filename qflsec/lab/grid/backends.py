"""Where batches run: processes of this machine, or a Dask or Ray cluster.

Processes of this machine are copies of one that has everything imported, where the system allows it
(:mod:`qflsec.lab.grid.forks`), and joblib's loky elsewhere. Loky and Dask run through one ``joblib.Parallel`` call. Ray's backend of joblib hands results over only when
all are finished, so that a kill would lose them; there, Ray's own tasks are used.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

from qflsec.base import BackendError, MissingExtra
from qflsec.lab.grid.forks import can_fork, forked_results

__all__ = ["LOCAL", "Backend", "check_backend", "default_jobs", "results"]

Backend = Literal["local", "loky", "dask", "ray"]
LOCAL: frozenset[str] = frozenset({"local", "loky"})
"""Those that run on this machine."""
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
    function: Callable[..., Any],
    tasks: Sequence[Any],
    *,
    jobs: int,
    backend: str,
    address: str | None = None,
    modules: Sequence[str] = (),
) -> Iterator[Any]:
    """``function(task, parent=...)`` for each task, as they finish, in any order.

    Args:
        function: A function of a module, so that it can be sent to a worker.
        tasks: Values that can be sent to a worker.
        jobs: The number of workers; on this machine, one means this process.
        backend: ``"local"``, ``"loky"``, ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster; a local one is started by default.
        modules: What local workers find imported; others import what they need.

    Raises:
        BackendError: A worker died, or the cluster cannot be reached.
    """
    check_backend(backend)
    if backend == "ray":
        yield from _on_ray(function, tasks, jobs, address)
        return
    if backend == "local" and jobs > 1 and can_fork():
        yield from _on_forks(function, tasks, jobs, modules)
        return
    import joblib

    with ExitStack() as stack:
        if backend == "dask":
            stack.enter_context(_dask_client(jobs, address))
            stack.enter_context(joblib.parallel_config(backend="dask"))
        parallel = joblib.Parallel(
            return_as="generator_unordered", pre_dispatch="all", n_jobs=jobs if backend in LOCAL else None
        )
        try:
            yield from parallel(joblib.delayed(function)(task, parent=os.getpid()) for task in tasks)
        except (ConnectionError, joblib.externals.loky.process_executor.BrokenProcessPool) as error:
            raise _died(error) from error


def _on_forks(
    function: Callable[..., Any], tasks: Sequence[Any], jobs: int, modules: Sequence[str]
) -> Iterator[Any]:
    try:
        yield from forked_results(function, tasks, jobs=jobs, modules=modules)
    except ConnectionError as error:
        raise _died(error) from error


@contextmanager
def _dask_client(jobs: int, address: str | None) -> Iterator[None]:
    distributed: Any = importlib.import_module("distributed")
    with ExitStack() as stack:
        try:
            where = address or stack.enter_context(
                distributed.LocalCluster(
                    n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
                )
            )
            stack.enter_context(distributed.Client(where))
        except (OSError, TimeoutError, ValueError) as error:
            raise BackendError("no Dask scheduler", got=str(error), fix="check --address") from error
        yield


def _on_ray(
    function: Callable[..., Any], tasks: Sequence[Any], jobs: int, address: str | None
) -> Iterator[Any]:
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
    try:
        remote = ray.remote(num_cpus=1)(function)
        pending = [remote.remote(task, parent=os.getpid()) for task in tasks]
        while pending:
            (first, *_), pending = ray.wait(pending, num_returns=1)
            yield ray.get(first)
    except ray.exceptions.RayError as error:
        raise _died(error) from error
    finally:
        if started:
            ray.shutdown()


def _died(error: Exception) -> BackendError:
    return BackendError(
        "a worker died",
        got=" ".join(str(error).split())[:200],
        fix="finished batches are stored: run the same command again, with fewer --jobs if memory is short",
    )
