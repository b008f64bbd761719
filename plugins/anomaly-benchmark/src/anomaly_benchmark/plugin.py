"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, ExecutorSpec, HookSpec

BENCHMARK = CommandSpec(
    target="anomaly_benchmark.commands.benchmark:benchmark", summary="Run a grid of models, categories and seeds."
)
COMPARE = CommandSpec(
    target="anomaly_benchmark.commands.compare:compare", summary="Put finished runs side by side: which differences are real."
)
PEAK = HookSpec(target="anomaly_benchmark.memory:OBSERVERS", summary="notes a run's peak memory")
LOKY = ExecutorSpec(target="anomaly_benchmark.backends:loky", summary="joblib's processes of this machine")
DASK = ExecutorSpec(
    target="anomaly_benchmark.backends:dask",
    module="distributed",
    install='pip install "anomaly-benchmark[dask]"',
    summary="a Dask cluster, or a local one",
)
RAY = ExecutorSpec(
    target="anomaly_benchmark.backends:ray",
    module="ray",
    install='pip install "anomaly-benchmark[ray]"',
    summary="a Ray cluster, or a local one",
)
