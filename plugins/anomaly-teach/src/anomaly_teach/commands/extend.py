"""``anomaly extend``."""

from __future__ import annotations

import click


@click.command("extend")
def extend() -> None:
    """Not written yet."""
