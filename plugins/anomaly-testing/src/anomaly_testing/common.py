"""Checks that every kind of component shares: its spec, its addresses and its config."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import yaml
from pydantic import TypeAdapter

from anomaly_core import MissingLibrary, validate
from anomaly_doctor import describe_options
from anomaly_testing.checks import Skip, Subject, named, require
from anomaly_testing.worker import imports_nothing_heavy


def torch_free(subject: Subject) -> None:
    """The spec and the config import no torch, in a fresh process."""
    imports_nothing_heavy(subject.component)


def importable(subject: Subject) -> None:
    """Everything that the spec names can be imported."""
    failure = subject.component.check()
    if isinstance(failure, MissingLibrary):
        raise Skip(str(failure))
    require(failure is None, str(failure))


def described(subject: Subject) -> None:
    """The spec has a summary of one line, and every option a meaning."""
    summary = subject.component.spec.summary
    require(summary.strip() and "\n" not in summary, f"its summary is {summary!r}; write one line for the help.")
    longest = 160 if subject.component.kind == "metric" else 120  # a metric's is its meaning in reports too
    require(len(summary) <= longest, f"its summary has {len(summary)} characters; {longest} are allowed.")
    if subject.component.section:
        for name, _, _, meaning in describe_options(subject.component.config_class()):
            require(meaning, f"the option {name!r} has no description; give it one with pydantic's Field(description=...).")


def named_well(subject: Subject) -> None:
    """The name can be typed: lower-case letters, digits, ``_``, ``-`` and ``.``."""
    name = subject.component.name
    require(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name), f"the name {name!r} holds other characters.")


def defaults_are_valid(subject: Subject) -> None:
    """The config's defaults pass its own validation."""
    cls, section = subject.component.config_class(), subject.component.section
    defaults = validate(cls, {}, section)
    values = {item.name: getattr(defaults, item.name) for item in dataclasses.fields(cls)}
    validate(cls, {key: value for key, value in values.items() if value is not None}, section)


def config_survives_yaml(subject: Subject) -> None:
    """The config comes back from YAML as it was written."""
    cls: Any = subject.component.config_class()
    config = validate(cls, {}, subject.component.section)
    text = yaml.safe_dump(TypeAdapter(cls).dump_python(config, mode="json"), sort_keys=False)
    again = validate(cls, yaml.safe_load(text), subject.component.section)
    require(again == config, f"written to YAML and read again, {config} is {again}.")


SPEC = named(torch_free, importable, described, named_well)
CONFIG = named(defaults_are_valid, config_survives_yaml)
