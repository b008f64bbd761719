"""joblib's backends: processes of this machine, a Dask cluster, a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from anomaly_core.errors import ConfigError

BACKENDS = ("loky", "dask", "ray")


@contextmanager
def open_backend(backend: str, jobs: int, address: str | None = None) -> Iterator[None]:
    """What ``joblib.Parallel`` uses inside; Dask's and Ray's workers live as long as that.

    Args:
        backend: ``loky``, ``dask`` or ``ray``.
        jobs: how many workers.
        address: of a Dask scheduler or Ray cluster; None starts a local one.

    Raises:
        ConfigError: its engine is not installed, or there is no such backend.
    """
    from joblib import parallel_config

    if backend == "loky":
        with parallel_config("loky", n_jobs=jobs):
            yield
    elif backend == "dask":
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise _missing("dask") from error
        cluster = None if address else LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
        with Client(address or cluster), parallel_config("dask", n_jobs=jobs):
            yield
        if cluster is not None:
            cluster.close()
    elif backend == "ray":
        try:
            import ray
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise _missing("ray") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unless the user says so
        ray.init(address=address, **({} if address else {"num_cpus": jobs, "include_dashboard": False}))
        register_ray()
        try:
            with parallel_config("ray", n_jobs=jobs):
                yield
        finally:
            ray.shutdown()
    else:
        raise ConfigError(f"--backend {backend}: choose one of {', '.join(BACKENDS)}.")


def _missing(backend: str) -> ConfigError:
    return ConfigError(f'--backend {backend} needs its engine: pip install "anomaly-core[{backend}]".')
