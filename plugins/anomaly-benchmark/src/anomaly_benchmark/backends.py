"""joblib's backends: processes of this machine, a Dask cluster, a Ray cluster; and the executors that run on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from anomaly_core import ConfigError, MissingLibrary, RunError

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def open_backend(backend: str, jobs: int, address: str | None = None) -> Iterator[None]:
    """What ``joblib.Parallel`` uses inside; Dask's and Ray's workers live as long as that.

    Args:
        backend: ``loky``, ``dask`` or ``ray``.
        jobs: how many workers.
        address: of a Dask scheduler or Ray cluster; None starts a local one.

    Raises:
        ConfigError: there is no such backend, or it takes no address.
        MissingLibrary: its library is not installed.
        RunError: the cluster cannot be reached.
    """
    from joblib import parallel_config

    if backend not in BACKENDS:
        raise ConfigError(f"--backend {backend}: choose one of {', '.join(BACKENDS)}.")
    with BACKENDS[backend](jobs, address), parallel_config(backend, n_jobs=jobs):
        yield


@contextmanager
def _processes(jobs: int, address: str | None) -> Iterator[None]:
    from joblib.externals.loky import get_reusable_executor

    if address is not None:
        raise ConfigError(f"--address {address}: --backend loky runs on this machine alone. Choose --backend dask or ray.")
    try:
        yield
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True)  # or its workers would wait minutes for more to do


@contextmanager
def _dask_cluster(jobs: int, address: str | None) -> Iterator[None]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _missing("dask") from error
    with ExitStack() as cluster:
        try:
            local = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
            cluster.enter_context(Client(address or cluster.enter_context(LocalCluster(**local))))
        except (OSError, RuntimeError, ValueError) as error:
            raise _unreachable("dask", address, error) from error
        yield


@contextmanager
def _ray_cluster(jobs: int, address: str | None) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unless the user says so
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing("ray") from error
    try:
        ray.init(address=address, **({} if address else {"num_cpus": jobs, "include_dashboard": False}))
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable("ray", address, error) from error
    register_ray()
    try:
        yield
    finally:
        ray.shutdown()


BACKENDS: dict[str, Callable[[int, str | None], AbstractContextManager[None]]] = {
    "loky": _processes,
    "dask": _dask_cluster,
    "ray": _ray_cluster,
}


def _missing(backend: str) -> MissingLibrary:
    return MissingLibrary(
        f'--backend {backend} needs a library that is not installed: pip install "anomaly-benchmark[{backend}]"'
    )


def _unreachable(backend: str, address: str | None, error: Exception) -> RunError:
    if address is None:
        return RunError(
            f"--backend {backend} cannot start a local cluster: {type(error).__name__}: {error}. Try --backend loky."
        )
    return RunError(
        f"--backend {backend} cannot reach the cluster at {address!r}: {type(error).__name__}: {error}. Start it, or correct "
        "--address; without one a local cluster is started."
    )


@contextmanager
def _executor(backend: str, jobs: int, address: str | None = None) -> Iterator[Map]:
    """The ``map`` of an executor, which yields results in the order of the items."""
    from joblib import Parallel, delayed

    def run(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        # Ray's backend hands results over at the end alone
        parallel = Parallel(n_jobs=jobs, return_as="list" if backend == "ray" else "generator")
        return iter(parallel(delayed(function)(item) for item in items))

    with open_backend(backend, jobs, address):
        yield run


loky = partial(_executor, "loky")
dask = partial(_executor, "dask")
ray = partial(_executor, "ray")
