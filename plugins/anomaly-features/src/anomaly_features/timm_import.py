"""``timm``, imported and asked without torch's compiler, which takes longer to import than timm itself and is not used here.

torchvision asks ``torch._dynamo`` for one function when it is imported, and timm has it mark a few methods of one model. Both
are handed a function that does the same, and that imports the compiler when it is called.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_UTILS = "torch._dynamo.utils"


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Inside, what would import torch's compiler for later use gets it later; afterwards all is as it was."""
    if "torch._dynamo" in sys.modules or "timm" in sys.modules:
        yield
        return
    module = ModuleType(_UTILS)
    disable: Callable[..., Any] = torch.compiler.disable

    def real(name: str) -> Any:
        """Another name than the one below: the compiler is imported now."""
        if name.startswith("__"):  # asked of every module, by inspect for one
            raise AttributeError(name)
        if sys.modules.get(_UTILS) is module:
            del sys.modules[_UTILS]
        return getattr(importlib.import_module(_UTILS), name)

    def is_compile_supported(device_type: Any) -> Any:
        return real("is_compile_supported")(device_type)

    def disabled(function: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
        """As torch.compiler.disable, which acts on the compiler: until that is imported, there is nothing to disable."""
        if function is None or "torch._dynamo" in sys.modules:
            return disable(function, recursive, reason=reason)
        known: list[Callable[..., Any]] = []

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            if "torch._dynamo" not in sys.modules:
                return function(*arguments, **options)
            if not known:
                known.append(disable(function, recursive, reason=reason))
            return known[0](*arguments, **options)

        return call

    module.is_compile_supported, module.__getattr__ = is_compile_supported, real  # type: ignore[attr-defined, method-assign]
    sys.modules[_UTILS], torch.compiler.disable = module, disabled
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_UTILS) is module:
            del sys.modules[_UTILS]


with _without_compiler():
    import timm as timm


class _Undrawn(TorchFunctionMode):
    """Inside, no random weights are drawn. Where tensors have no values, drawing some would import the compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "erfinv_"):
            return args[0] if args else kwargs["tensor"]  # torch.nn.init hands it on by name
        return func(*args, **(kwargs or {}))


def outline(name: str, **options: Any) -> Any:
    """A timm model whose weights have names and shapes and no values."""
    with torch.device("meta"), _Undrawn():
        return timm.create_model(name, pretrained=False, **options)
