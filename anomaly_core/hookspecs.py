"""The pluggy hooks of a run's life, for what cuts across methods: loggers, trackers, reporters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

from anomaly_core.errors import AnomalyError, PluginError

if TYPE_CHECKING:
    from anomaly_core.registry import Registry

hookspec = pluggy.HookspecMarker("anomaly")
hookimpl = pluggy.HookimplMarker("anomaly")


class RunHooks:
    """What a plugin may observe. Implementations are marked with ``@anomaly_core.hookimpl`` and take the arguments they need."""

    @hookspec
    def anomaly_configure(self, config: Any) -> None:
        """Before anything else; may refuse a config by raising an AnomalyError."""

    @hookspec
    def anomaly_run_start(self, run: Any) -> None:
        """A run's folder (an ``Experiment``) was made."""

    @hookspec
    def anomaly_log(self, run: Any, metrics: dict[str, float], step: int) -> None:
        """Figures of a step or epoch."""

    @hookspec
    def anomaly_run_end(self, run: Any, results: Any) -> None:
        """The run is complete; ``results`` is its ``RunResult``."""

    @hookspec
    def anomaly_run_error(self, run: Any, error: BaseException) -> None:
        """The run failed; the error is raised afterwards."""


class Hooks:
    """Calls the observers one at a time and guarded: one that fails is a warning, never a lost run.

    Args:
        registry: where the ``anomaly_core.hooks`` are found.
        on_failure: told of an observer that failed, in words.

    Raises:
        PluginError: a plugin that cannot be imported, or has a hook that nobody calls (a misspelt name).
    """

    def __init__(self, registry: Registry, on_failure: Callable[[str], None]) -> None:
        self._on_failure = on_failure
        self._manager = pluggy.PluginManager("anomaly")
        self._manager.add_hookspecs(RunHooks)
        for name in registry.hooks:
            component = registry.hooks[name]
            self._manager.register(component.load(), name=component.qualified)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"the hooks of {error}. Valid hooks: {', '.join(_names())}.") from error

    def call(self, name: str, **arguments: Any) -> None:
        """Call one hook of every observer."""
        for implementation in getattr(self._manager.hook, name).get_hookimpls():
            try:
                implementation.function(**{key: arguments[key] for key in implementation.argnames})
            except AnomalyError as error:
                if name == "anomaly_configure":
                    raise
                self._failed(name, implementation.plugin_name, error)
            except Exception as error:  # any observer may fail in any way; the run goes on
                self._failed(name, implementation.plugin_name, error)

    def _failed(self, name: str, plugin: str, error: Exception) -> None:
        self._on_failure(f"the hook {name} of {plugin} failed: {type(error).__name__}: {error}. The run goes on without it.")


def _names() -> list[str]:
    return [name for name in vars(RunHooks) if name.startswith("anomaly_")]
