"""RunConfig: the four sections of a run, put together from defaults, preset, file, --set and flags, and validated."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ByteSize, TypeAdapter, ValidationError

from anomaly_core.errors import ConfigError
from anomaly_core.options import BaseConfig, RunSections
from anomaly_core.registry import registry

SECTIONS = ("base", "data", "model", "train")
LINE_BREAKS = frozenset("\x85\u2028\u2029")  # which YAML reads as such, inside a text too
Layer = dict[str, dict[str, Any]]
T = TypeVar("T")


class _TextLoader(yaml.SafeLoader):
    """YAML whose plain scalars stay text, but null: annotations decide what ``1e-3`` and ``no`` are, never YAML's guess."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclasses.dataclass(kw_only=True)
class RunConfig(RunSections):
    """Everything that a run depends on; saved as ``config.yaml`` in its folder, from where it runs again."""

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
            model, data: names of components, as ``anomaly list-plugins`` shows them.
            preset: one of the model's presets.
            config: a YAML file, or the same as a mapping of the sections ``base``, ``data``, ``model``, ``train``.
            overrides: ``{"model.coreset_ratio": 0.01}``, as ``--set`` gives them.
            flags: the same, from a command's own flags.

        Raises:
            ConfigError: an unknown section, key, preset or a value that its annotation refuses.
            PluginError: a component that is not there.
        """
        layers = [_read(config) if isinstance(config, str | Path) else _checked(config or {}, "the config")]
        layers.append(_nested(overrides or {}))
        named = {"model.name": model, "data.name": data, "base.preset": preset}
        layers.append(_nested({**(flags or {}), **{key: value for key, value in named.items() if value is not None}}))
        above = _merge(*layers)
        names = {section: str(above.get(section, {}).get("name") or "") for section in ("data", "model", "train")}
        for section, flag in (("model", "--model"), ("data", "--data")):
            if not names[section]:
                raise ConfigError(
                    f"no {section} was chosen. Name one with {flag} (see `anomaly list-plugins`) or in a config file."
                )
        model_component = registry.models[names["model"]]
        chosen = above.get("base", {}).get("preset")
        merged = _merge(preset_layer(model_component, chosen) if chosen else {}, above)
        trainer = str(merged.get("train", {}).get("name") or model_component.spec.trainer)
        merged.setdefault("train", {})["name"] = trainer
        return cls(
            base=validate(BaseConfig, merged.get("base", {}), "base"),
            data=validate(registry.datasets[names["data"]].config_class(), merged.get("data", {}), "data"),
            model=validate(model_component.config_class(), merged.get("model", {}), "model"),
            train=validate(registry.trainers[trainer].config_class(), merged["train"], "train"),
        )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The sections as plain values, ready for YAML."""
        return {
            section: TypeAdapter(type(getattr(self, section))).dump_python(getattr(self, section), mode="json")
            for section in SECTIONS
        }

    def to_yaml(self) -> str:
        """The text of ``config.yaml``."""
        text: str = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        if LINE_BREAKS.isdisjoint(text):
            return text
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False))  # which writes these as escapes

    def replace(self, **changes: Any) -> RunConfig:
        """A copy with some options changed: ``config.replace(**{"data.category": ["candle"]})``."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        for key, value in changes.items():
            section, _, option = key.partition(".")
            sections[section] = dataclasses.replace(sections[section], **{option: value})
        return RunConfig(**sections)


def parse_assignment(text: str) -> tuple[str, Any]:
    """``section.key=value`` of ``--set``; ``[..]`` and ``{..}`` are YAML, ``null`` is None, all else is text."""
    key, equals, value = text.partition("=")
    section, dot, option = key.strip().partition(".")
    if not equals or not dot or not option or section not in SECTIONS:
        raise ConfigError(
            f"--set {text!r}: expected section.key=value with a section of {', '.join(SECTIONS)}, such as data.batch_size=8."
        )
    if value.strip()[:1] in ("[", "{") or value.strip() in ("null", "~"):
        return key.strip(), _yaml(value, f"--set {key}")
    return key.strip(), value


def validate(cls: type[T], values: Mapping[str, Any], section: str) -> T:
    """An instance of a config dataclass from text or plain values; ConfigError says which key, value, type and range."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean {section}.{close[0]}?" if close else ""
            raise ConfigError(f"unknown option {section}.{key}.{hint} Valid options: {', '.join(hints)}.")
    prepared = {key: _listed(value, hints[key]) for key, value in values.items()}
    try:
        return TypeAdapter(cls).validate_python(prepared)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "?"
        reasons = list(dict.fromkeys(item["msg"] for item in error.errors() if item["loc"][:1] == first["loc"][:1]))
        expected = describe_type(hints[key]) if key in hints else "?"
        raise ConfigError(
            f"{section}.{key}={values.get(key)!r} is not valid: {'; '.join(reasons)}. Expected {expected}. "
            f"`anomaly show` lists every option."
        ) from None


def describe_type(hint: Any) -> str:
    """An annotation in words: ``float > 0 and <= 1``."""
    if hint is type(None):
        return "none"
    if hint is ByteSize:
        return "bytes, such as 2GiB"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        text = describe_type(arguments[0])
        words = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        bounds = [
            f"{words[name]} {getattr(item, name)}"
            for extra in arguments[1:]
            for item in getattr(extra, "metadata", [extra])
            for name in words
            if getattr(item, name, None) is not None
        ]
        return text if not bounds else f"{text} {' and '.join(bounds)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(argument) for argument in arguments)
    if origin is typing.Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"{origin.__name__} of {', '.join(dict.fromkeys(describe_type(a) for a in arguments if a is not Ellipsis))}"
    return getattr(hint, "__name__", str(hint))


def describe_options(cls: type[Any]) -> list[tuple[str, str, Any, str]]:
    """(name, type, default, meaning) of every option of a config dataclass, for ``anomaly show``."""
    hints = typing.get_type_hints(cls, include_extras=True)
    rows = []
    for item in dataclasses.fields(cls):
        extras = typing.get_args(hints[item.name])[1:] if typing.get_origin(hints[item.name]) is Annotated else ()
        meaning = next((extra.description for extra in extras if getattr(extra, "description", None)), "")
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        rows.append((item.name, describe_type(hints[item.name]), default, meaning))
    return rows


def preset_names(component: Any) -> list[str]:
    """The presets that a model's distribution ships."""
    folder = _preset_folder(component)
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml")) if folder else []


def _preset_folder(component: Any) -> Any:
    if not component.spec.presets:
        return None
    package, _, folder = component.spec.presets.partition(":")
    return importlib.resources.files(package) / (folder or "presets")


def preset_layer(component: Any, name: str) -> Layer:
    """What a model's preset sets, by section; ConfigError where it has no such preset."""
    names = preset_names(component)
    if name not in names:
        raise ConfigError(f"{component.name!r} has no preset {name!r}. It has: {', '.join(names) or 'none'}.")
    text = (_preset_folder(component) / f"{name}.yaml").read_text(encoding="utf-8")
    return _checked(_yaml(text, f"preset {name!r} of {component.name!r}") or {}, f"preset {name!r} of {component.name!r}")


def _read(path: str | Path) -> Layer:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {str(path)!r}: {error}. Check the path given to --config.") from error
    return _checked(_yaml(text, str(path)) or {}, f"the config file {str(path)!r}")


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_TextLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def _checked(layer: Any, where: str) -> Layer:
    if not isinstance(layer, Mapping):
        raise ConfigError(f"{where} must hold the sections {', '.join(SECTIONS)}, not {type(layer).__name__}.")
    for section, values in layer.items():
        if section not in SECTIONS:
            close = difflib.get_close_matches(str(section), SECTIONS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{where} has an unknown section {section!r}.{hint} Valid sections: {', '.join(SECTIONS)}.")
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(f"section {section!r} of {where} must hold key: value lines, not {values!r}.")
    return {section: dict(values or {}) for section, values in layer.items()}


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
    """Text with commas for an option that takes several values: ``--set model.layers=1,2``."""
    if not isinstance(value, str) or not _takes_list(hint):
        return value
    parts = [part.strip() for part in value.split(",")]
    return parts if len(parts) > 1 or not _takes_scalar(hint) else value


def _members(hint: Any) -> list[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _members(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in arguments for member in _members(argument)]
    return [hint]


def _takes_list(hint: Any) -> bool:
    return any(typing.get_origin(member) in (list, tuple) for member in _members(hint))


def _takes_scalar(hint: Any) -> bool:
    return any(typing.get_origin(member) not in (list, tuple) and member is not type(None) for member in _members(hint))
