"""``anomaly ensemble``: finished runs as one detector."""

from __future__ import annotations

import click

from anomaly_core import require_training


@click.command("ensemble")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--scale",
    type=click.Choice(["tail", "p_value"]),
    default="tail",
    show_default=True,
    help="What is averaged: minus the logarithm of the p-value; beyond all normal images, tail goes on.",
)
@click.option("--output", metavar="DIR", help="Folder under which the new run is written; none means that of the first run.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--no-verify", is_flag=True, help="Use the runs' files as they are, without comparing them with what they wrote.")
def ensemble(runs: tuple[str, ...], scale: str, output: str | None, device: str, no_verify: bool) -> None:
    """Combine finished runs of one category into one detector: a run like any other, with a threshold of its own.

    The runs, of any methods, must have been fitted and tested on the same images. Their scores and maps become comparable by
    the normal images that they had scored without having seen them. The runs stay as they are, and the new one does not need
    them.
    """
    require_training("`anomaly ensemble`")
    from anomaly_core import RunResults, print_summary, progress_bar
    from anomaly_ensemble.combining import combine

    result = combine(runs, scale=scale, output=output, device=device, progress=progress_bar, verify=not no_verify)
    print_summary(RunResults([result]))
