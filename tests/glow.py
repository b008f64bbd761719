"""A sound plugin as source, for a folder on ``sys.path``: the model ``glow``, whose import leaves a trace."""

from __future__ import annotations

from anomaly_core import Component, Registry

# The trace lies beside the module itself.
PLUGIN = """
    from pathlib import Path
    from anomaly_core import ModelSpec

    Path(__file__).with_suffix(".imported").touch()
    GLOW = ModelSpec(target="{module}.glow:Glow", config="{module}.config:GlowConfig", trainer="memory")
"""
GLOW = """
    class Glow:
        def __init__(self, depth=1):
            self.depth = depth
"""
CONFIG = """
    from dataclasses import dataclass
    from anomaly_core import ModelConfig

    @dataclass(kw_only=True)
    class GlowConfig(ModelConfig):
        depth: int = 1

    class Bare:
        pass

    @dataclass
    class Stranger:
        depth: int = 1
"""


def package(module: str) -> dict[str, str]:
    """Path -> source of the plugin's package."""
    return {
        f"{module}/__init__.py": "",
        f"{module}/plugin.py": PLUGIN.format(module=module),
        f"{module}/glow.py": GLOW,
        f"{module}/config.py": CONFIG,
    }


def component(registry: Registry, qualified: str) -> Component:
    """The component that is so called, usable or not."""
    (only,) = [c for c in registry.components() if c.qualified == qualified]
    return only


def imported(distributions, module: str = "fake_glow") -> bool:
    """Whether the plugin's own module was imported."""
    return (distributions.site / module / "plugin.imported").exists()
