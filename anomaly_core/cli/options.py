"""Options that several commands have, spelt and completed alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from anomaly_core.cli.completion import names

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

category_option: Decorator[Any] = click.option(
    "--category", "categories", multiple=True, metavar="NAME", help="A category; repeatable. None (or `all`) means all of them."
)

metric_option: Decorator[Any] = click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    shell_complete=names("metric"),
    help="A metric; repeatable. None means the defaults.",
)


def set_option(what: str) -> Decorator[Any]:
    """``--set SECTION.KEY=VALUE``; ``what`` it sets stands in its help."""
    return click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help=f"{what}; repeatable.")
