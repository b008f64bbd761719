"""The options of an ensemble. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from anomaly_core import ConfigError, ModelConfig, Size, preset_layer, registry, validate

GEOMETRY = ("image_size", "resize", "center_crop")  # a member that has none of its own takes that of the ensemble


def resolved(member: Any) -> dict[str, Any]:
    """A member's section ``model`` as plain values: of ``name``, of ``name/preset``, or of the section itself.

    Raises:
        ConfigError: it is none of these, or one of its options is not valid.
        PluginError: the method is not installed.
    """
    if isinstance(member, str):
        name, _, preset = member.partition("/")
        values = {"name": name, **(preset_layer(registry.models[name], preset).get("model", {}) if preset else {})}
        values = {option: value for option, value in values.items() if option not in GEOMETRY}
    elif isinstance(member, dict) and isinstance(member.get("name"), str):
        values = member
    else:
        raise ConfigError(
            f"model.members: {member!r} is no member. Expected a method's name, with one of its presets as in patchcore/edge, "
            "or the section `model` of its config."
        )
    config = validate(registry.models[values["name"]].config_class(), values, "model")
    plain: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return {option: value for option, value in plain.items() if option in values or option not in GEOMETRY}


Member = Annotated[dict[str, Any], BeforeValidator(resolved)]


class _Preset(dict[str, Any]):
    """A member that shows as its preset's name."""

    def __init__(self, name: str) -> None:
        super().__init__(resolved(name))
        self._name = name

    def __str__(self) -> str:
        return self._name


def _usual() -> tuple[Any, ...]:
    """PatchCore and PaDiM; where they are not installed, their names, so that only a run that needs them says so."""
    if {"patchcore", "padim"} <= set(registry.models):
        return _Preset("patchcore/edge"), _Preset("padim/edge")
    return "patchcore/edge", "padim/edge"


@dataclass(kw_only=True)
class EnsembleConfig(ModelConfig):
    """Section ``model`` of an ensemble: its members, and the scale that makes their scores comparable."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 224
    members: Annotated[
        tuple[Member, ...],
        Field(
            min_length=2,
            description="methods with a memory, such as patchcore/edge,padim/edge; `anomaly ensemble` takes runs of any method",
        ),
    ] = field(default_factory=_usual)
    scale: Annotated[
        Literal["tail", "p_value"],
        Field(
            description="what is averaged: minus the logarithm of the share of normal images with such a score; beyond the "
            "highest of them tail goes on, p_value stays"
        ),
    ] = "tail"
    engine: Annotated[
        str | None, Field(description="computes the frozen networks of all members; none: each by its own engine")
    ] = None
