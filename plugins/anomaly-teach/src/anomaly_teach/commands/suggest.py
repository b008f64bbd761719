"""``anomaly suggest``."""

from __future__ import annotations

import click


@click.command("suggest")
def suggest() -> None:
    """Not written yet."""
