"""RunConfig: the four sections of a run, merged from defaults, preset, file, --set and flags, and validated."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
import os
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from anomaly_core.component import Component
from anomaly_core.config.describe import describe_type, takes_list, takes_scalar, takes_text
from anomaly_core.config.needs import TERM, needs_of
from anomaly_core.config.sections import BaseConfig, DataConfig, ModelConfig, TrainConfig
from anomaly_core.discovery import registry
from anomaly_core.errors import ConfigError, UnusedOption
from anomaly_core.untrusted import open_untrusted

SECTIONS = ("base", "data", "model", "train")
LARGEST = 1 << 20  # bytes of a config file
LINE_BREAKS = frozenset("\x85\u2028\u2029")  # YAML treats these as line breaks, even inside a string
Layer = dict[str, dict[str, Any]]
T = TypeVar("T")


class _TextLoader(yaml.SafeLoader):
    """YAML whose plain scalars stay text, except null: annotations, not YAML, decide what ``1e-3`` and ``no`` are."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclasses.dataclass(kw_only=True)
class RunConfig:
    """Everything that a run depends on; each section belongs to the component it configures. Saved as ``config.yaml``."""

    base: BaseConfig
    data: DataConfig
    model: ModelConfig
    train: TrainConfig

    @classmethod
    def create(
        cls,
        *,
        model: str | None = None,
        data: str | None = None,
        preset: str | None = None,
        config: str | Path | Mapping[str, Mapping[str, Any]] | None = None,
        overrides: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> RunConfig:
        """Resolve a run's config: defaults < preset < ``config`` < ``overrides`` < ``flags`` and the named arguments.

        Args:
            model, data, preset: names of components, as ``anomaly list-plugins`` shows them, and one of the model's presets.
            config: a YAML file, or the same as a mapping of the sections ``base``, ``data``, ``model``, ``train``.
            overrides, flags: ``{"model.coreset_ratio": 0.01}``, as ``--set`` and a command's own flags give them.

        Raises:
            ConfigError: an unknown section, key, preset or a value that its annotation refuses.
            UnusedOption: an option of ``overrides``, ``flags`` or a config file that would do nothing, by its ``Needs``. What a
                mapping holds, such as a finished run's config, is taken as it is.
            PluginError: a component that is not installed or cannot be used.
        """
        file = _read(config) if isinstance(config, str | Path) else _checked(config or {}, "the config")
        named = {"model.name": model, "data.name": data, "base.preset": preset}
        named = {key: value for key, value in named.items() if value is not None}
        given = {**(overrides or {}), **(flags or {}), **named}
        above = _merge(file, _nested(overrides or {}), _nested({**(flags or {}), **named}))
        names = {section: str(above.get(section, {}).get("name") or "") for section in ("data", "model", "train")}
        for section in ("model", "data"):
            if not names[section]:
                where = f"with --{section} (see `anomaly list-plugins`) or in a config file"
                raise ConfigError(f"no {section} was chosen. Name one {where}.")
        model_component = registry.models[names["model"]]
        chosen = above.get("base", {}).get("preset")
        beneath = _merge({"train": model_component.spec.train}, preset_layer(model_component, chosen) if chosen else {})
        merged = _merge(beneath, above)
        trainer = str(merged.get("train", {}).get("name") or model_component.spec.trainer)
        merged.setdefault("train", {})["name"] = trainer
        resolved = cls(
            base=validate(BaseConfig, merged.get("base", {}), "base"),
            data=validate(registry.datasets[names["data"]].config_class(), merged.get("data", {}), "data"),
            model=validate(model_component.config_class(), merged.get("model", {}), "model"),
            train=validate(registry.trainers[trainer].config_class(), merged["train"], "train"),
        )
        return resolved._without_unused(file if isinstance(config, str | Path) else {}, given, beneath)

    def _without_unused(self, file: Layer, given: Mapping[str, Any], beneath: Layer) -> RunConfig:
        """UnusedOption for an option that does nothing; one of a file is reset if ``given`` options are why."""
        reset: dict[str, Any] = {}
        declared = {section: needs_of(type(getattr(self, section))) for section in SECTIONS}
        for key in [*given, *(f"{section}.{name}" for section, values in file.items() for name in values)]:
            section, _, option = key.partition(".")
            own = getattr(self, section)
            needs = declared[section].get(option)
            lacking = needs.lacking(self) if needs else ""
            if not lacking:
                continue
            others = {name: value for name, value in vars(own).items() if name != option}
            usual = getattr(validate(type(own), {**others, **beneath.get(section, {})}, section), option)
            value = getattr(own, option)
            if value != usual and (key in given or not any(f"{term[1]}.{term[2]}" in given for term in TERM.finditer(lacking))):
                raise UnusedOption(
                    f"{key}={value} would be ignored: it acts only with {lacking}. Leave it out, or set that.", key
                )
            reset[key] = usual
        return self.replace(**reset)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The sections as plain values, ready for YAML."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        return {name: TypeAdapter(type(section)).dump_python(section, mode="json") for name, section in sections.items()}

    def to_yaml(self) -> str:
        """The text of ``config.yaml``."""
        text: str = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        if LINE_BREAKS.isdisjoint(text):
            return text
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False))  # escapes non-ASCII characters

    def replace(self, **changes: Any) -> RunConfig:
        """A copy with some options changed: ``config.replace(**{"data.category": ["candle"]})``."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        for key, value in changes.items():
            section, _, option = key.partition(".")
            sections[section] = dataclasses.replace(sections[section], **{option: value})
        return RunConfig(**sections)

    def differing(self, other: RunConfig) -> str:
        """The options whose values differ, with both: ``train.epochs=2, now 20``; empty if there is none."""
        before, now = self.to_dict(), other.to_dict()
        values = ((s, key, before[s].get(key), value) for s in SECTIONS for key, value in now[s].items())
        return "; ".join(f"{section}.{key}={old}, now {new}" for section, key, old, new in values if old != new)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Parse ``section.key=value`` of ``--set``: ``[..]`` and ``{..}`` are YAML, ``null`` and ``~`` are None, all else is text,
    and so are names of files or folders that exist."""
    key, equals, value = text.partition("=")
    section, dot, option = key.strip().partition(".")
    if not equals or not dot or not option or section not in SECTIONS:
        raise ConfigError(
            f"--set {text!r}: expected section.key=value with a section of {', '.join(SECTIONS)}, such as data.batch_size=8."
        )
    if os.path.lexists(value) or all(
        map(os.path.lexists, value.split(","))
    ):  # its option may still be one that takes no text: validate knows
        return key.strip(), value  # its option may still be one that takes no text: validate knows
    return key.strip(), _plain(value, f"--set {key}")


def validate(cls: type[T], values: Mapping[str, Any], section: str) -> T:
    """An instance of a config dataclass from text or plain values; ConfigError names the key, value, type and range."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in hints:
            near = _close(key, hints)
            raise ConfigError(f"unknown option {section}.{key}.{near} Valid options: {', '.join(hints)}.")
    prepared = {key: _listed(value, hints[key]) for key, value in values.items()}
    try:
        return TypeAdapter(cls).validate_python(prepared)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "?"
        hint = hints.get(key, str)
        reasons = list(dict.fromkeys(_reason(item, hint) for item in error.errors() if item["loc"][:1] == first["loc"][:1]))
        show = f"anomaly show {values.get('name') or 'base'}"
        expected = f"Expected {describe_type(hints[key]) if key in hints else '?'}. `{show}` lists every option."
        raise ConfigError(f"{section}.{key}={values.get(key)!r} is not valid: {'; '.join(reasons)}. {expected}") from None


def _reason(item: Mapping[str, Any], hint: Any) -> str:
    """What pydantic says of a value; the option's description instead of a regular expression."""
    described = [extra.description for extra in getattr(hint, "__metadata__", ()) if getattr(extra, "description", None)]
    return f"give {described[0]}" if described and item["type"] == "string_pattern_mismatch" else str(item["msg"])


def _preset_files(component: Component) -> dict[str, Any]:
    if not component.spec.presets:
        return {}
    package, _, folder = component.spec.presets.partition(":")
    entries = (importlib.resources.files(package) / (folder or "presets")).iterdir()
    return {file.name.removesuffix(".yaml"): file for file in entries if file.name.endswith(".yaml")}


def preset_names(component: Component) -> list[str]:
    """The presets that a model's distribution ships."""
    return sorted(_preset_files(component))


def preset_layer(component: Component, name: str) -> Layer:
    """The options of a model's preset, by section; ConfigError if it has no such preset."""
    presets = _preset_files(component)
    if name not in list(presets):  # a config may hold anything, such as a list
        raise ConfigError(f"{component.name!r} has no preset {name!r}. It has: {', '.join(sorted(presets)) or 'none'}.")
    where = f"preset {name!r} of {component.name!r}"
    return _checked(_yaml(presets[name].read_text(encoding="utf-8"), where) or {}, where)


def _read(path: str | Path) -> Layer:
    try:
        # A pipe that a shell opened, as <(command) does, is somebody's answer; another may have no writer, and block for ever.
        is_open = str(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/"))
        with Path(path).open("rb") if is_open else open_untrusted(path) as file:
            text = file.read(LARGEST + 1).decode()
        if len(text) > LARGEST:
            raise OSError(f"it is larger than {LARGEST} bytes, which no config is")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {str(path)!r}: {error}. Check the path given to --config.") from error
    return sections_of(text, f"the config file {str(path)!r}")


def sections_of(text: str, where: str) -> Layer:
    """The sections in the text of a YAML file; ConfigError names ``where`` it comes from."""
    return _checked(_yaml(text, where) or {}, where)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_TextLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def _plain(text: str, where: str) -> Any:
    bare = text.strip()
    is_pattern = re.match(r"\{\w+\}.", bare)  # such as {stem}_mask
    is_yaml = (bare[:1] in ("[", "{") and not is_pattern) or bare in ("null", "~")
    return _yaml(text, where) if is_yaml else text


def _checked(layer: Any, where: str) -> Layer:
    if not isinstance(layer, Mapping):
        raise ConfigError(f"{where} must hold the sections {', '.join(SECTIONS)}, not {type(layer).__name__}.")
    for section, values in layer.items():
        if section not in SECTIONS:
            hint = _close(section, SECTIONS)
            raise ConfigError(f"{where} has an unknown section {section!r}.{hint} Valid sections: {', '.join(SECTIONS)}.")
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(f"section {section!r} of {where} must hold key: value lines, not {values!r}.")
    return {section: dict(values or {}) for section, values in layer.items()}


def _close(name: object, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _nested(flat: Mapping[str, Any]) -> Layer:
    layer: Layer = {}
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if section not in SECTIONS or not option:
            raise ConfigError(f"unknown option {key!r}: expected section.key with a section of {', '.join(SECTIONS)}.")
        layer.setdefault(section, {})[option] = value
    return layer


def _merge(*layers: Layer) -> Layer:
    merged: Layer = {}
    for layer in layers:
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return merged


def _listed(value: Any, hint: Any) -> Any:
    """Split text at commas if the option takes several values: ``--set model.layers=1,2``."""
    if isinstance(value, str) and not takes_text(hint):
        value = _plain(value, "an option")
    if not isinstance(value, str) or not takes_list(hint):
        return value
    parts = [part.strip() for part in value.split(",")]
    return parts if len(parts) > 1 or not takes_scalar(hint) else value
