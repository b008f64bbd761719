"""``anomaly threshold``."""

from __future__ import annotations

import click


@click.command("threshold")
def threshold() -> None:
    """Not written yet."""
