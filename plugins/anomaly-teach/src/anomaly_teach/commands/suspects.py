"""``anomaly suspects``."""

from __future__ import annotations

import click


@click.command("suspects")
def suspects() -> None:
    """Not written yet."""
