"""The types of options: in words, and what values they take."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any

from pydantic import ByteSize


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


def takes_list(hint: Any) -> bool:
    """Whether an option may hold several values."""
    return any(typing.get_origin(member) in (list, tuple) for member in _members(hint))


def takes_scalar(hint: Any) -> bool:
    """Whether an option may hold one value, other than none."""
    return any(typing.get_origin(member) not in (list, tuple) and member is not type(None) for member in _members(hint))


def takes_text(hint: Any) -> bool:
    """Whether an option may hold any text."""
    return str in _members(hint)


def _members(hint: Any) -> list[Any]:
    """The member types of a union."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _members(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in arguments for member in _members(argument)]
    return [hint]
