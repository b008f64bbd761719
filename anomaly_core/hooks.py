"""The pluggy hooks of a run, for features that are independent of the method: loggers, trackers, reporters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

from anomaly_core.errors import AnomalyError, PluginError, described, is_stop

if TYPE_CHECKING:
    from anomaly_core.component import Component
    from anomaly_core.discovery import Registry

log = logging.getLogger(__name__)
hookspec = pluggy.HookspecMarker("anomaly")
hookimpl = pluggy.HookimplMarker("anomaly")


class RunHooks:
    """The events that a plugin may observe. Mark implementations with ``@anomaly_core.hookimpl``; list only the arguments
    that you need."""

    @hookspec
    def anomaly_configure(self, config: Any) -> None:
        """Called before anything else; may reject a config by raising an AnomalyError."""

    @hookspec
    def anomaly_run_start(self, run: Any) -> None:
        """A run's folder (a ``RunFolder``) was created, for a new run or for an evaluation of a finished one."""

    @hookspec
    def anomaly_log(self, run: Any, metrics: dict[str, float], step: int) -> None:
        """Figures of a step or epoch."""

    @hookspec
    def anomaly_normals_scored(self, run: Any, batch: Any, prediction: Any, input_spec: Any) -> None:
        """Normal images were scored for the threshold, by a detector that did not see them; all tensors are on the CPU."""

    @hookspec
    def anomaly_calibrated(self, run: Any, normals: Any, calibration: Any) -> None:
        """All of them are scored; ``normals`` are their ``NormalImage`` objects. Called again after suspects were dropped."""

    @hookspec
    def anomaly_scored(self, run: Any, batch: Any, prediction: Any, rows: Any, calibration: Any, input_spec: Any) -> None:
        """A batch of the test set was scored. All tensors are on the CPU; ``rows`` are its ``TestedImage`` objects;
        ``input_spec`` is the modeler's."""

    @hookspec
    def anomaly_tested(self, run: Any, rows: Any, calibration: Any) -> None:
        """The whole test set was scored, but nothing is written yet: a row's picture can still be set."""

    @hookspec
    def anomaly_run_end(self, run: Any, results: Any) -> None:
        """The run is complete; ``results`` is its ``RunResult``."""

    @hookspec
    def anomaly_run_error(self, run: Any, error: BaseException) -> None:
        """The run failed; the error is raised afterwards."""

    @hookspec
    def anomaly_predicted(self, verdict: Any, image: Any, prediction: Any, detector: Any, picture: Any) -> None:
        """A detector scored an image file, or failed to: ``image`` (uint8 (H, W, 3) RGB) and ``prediction`` are then None.
        ``verdict`` is what ``anomaly predict`` prints; ``picture`` is the file that ``--maps`` requests, or None."""

    @hookspec
    def anomaly_doctor(self, report: Any) -> None:
        """``anomaly doctor`` examines the installation: add sections, notes and problems to its report."""


HOOKS = [name for name in vars(RunHooks) if name.startswith("anomaly_")]


class Hooks:
    """Calls the observers one at a time; if one fails, that is a warning and never stops the run.

    Args:
        on_failure: called once for each distinct failure, with its message.
        more: further hook specs, for a command with its own hooks; their observers use ``@hookimpl(optionalhook=True)``.

    Raises:
        PluginError: a plugin implements an unknown hook (a misspelt name), or one with arguments that do not exist.
    """

    def __init__(self, registry: Registry, on_failure: Callable[[str], None] = log.warning, more: type | None = None) -> None:
        self._on_failure = on_failure
        self._reported: set[str] = set()
        self._manager = pluggy.PluginManager("anomaly")
        for specs in (RunHooks, more):
            if specs is not None:
                self._manager.add_hookspecs(specs)
        self._owners: dict[str, str] = {}
        for component in registry.components():
            if component.kind == "hook" and component.status != "blocked":
                self._register(component)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            plugin = self._manager.get_name(error.plugin) or ""
            raise self._refusal(plugin, str(error).partition(" in plugin ")[0]) from error

    def call(self, name: str, **arguments: Any) -> None:
        """Call one hook of every observer, with the ``arguments`` that it declares.

        Raises:
            AnomalyError: an observer rejects the config in ``anomaly_configure``. Every other failure goes to ``on_failure``.
        """
        # pluggy stores the implementations in reverse call order (tryfirst comes last).
        for implementation in reversed(getattr(self._manager.hook, name).get_hookimpls()):
            try:
                implementation.function(**{key: arguments[key] for key in implementation.argnames})
            except BaseException as error:  # an observer may fail in any way
                if is_stop(error) or (name == "anomaly_configure" and isinstance(error, AnomalyError)):
                    raise
                owner = self._owners[implementation.plugin_name]
                self._report(f"the hook {name} of {owner} failed: {described(error)}. The run goes on.")

    def names(self) -> list[str]:
        """The hooks that have at least one observer."""
        return [name for name in HOOKS if getattr(self._manager.hook, name).get_hookimpls()]

    def _register(self, component: Component) -> None:
        self._owners[component.qualified] = f"{component.qualified} {component.version}".rstrip()
        try:
            observers = component.load()
        except PluginError as error:
            self._report(f"{error} The run goes on without it.")
            return
        try:
            self._manager.register(observers, name=component.qualified)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise self._refusal(component.qualified, " ".join(str(error).split())) from error
        for hook in self._manager.get_hookcallers(observers) or ():
            if any(impl.wrapper or impl.hookwrapper for impl in hook.get_hookimpls() if impl.plugin is observers):
                raise self._refusal(component.qualified, f"{hook.name} is a wrapper, and hooks only observe")

    def _refusal(self, plugin: str, cause: str) -> PluginError:
        return PluginError(
            f"the hooks of {self._owners[plugin]} cannot be used: {cause}. Hooks: {', '.join(HOOKS)}. "
            f"Correct the plugin, or leave it out with --no-plugin {plugin}."
        )

    def _report(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._on_failure(text)
