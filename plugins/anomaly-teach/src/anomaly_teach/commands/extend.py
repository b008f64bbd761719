"""``anomaly extend``: more normal images for a finished run, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from anomaly_core import require_training

if TYPE_CHECKING:
    from anomaly_teach.extending import Extension

MOST_SHOWN = 20  # images in the table


@click.command("extend")
@click.argument("run_folder", metavar="RUN")
@click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
@click.option(
    "--false-alarm",
    "false_alarms",
    is_flag=True,
    help="The images are false alarms: the run learns them, and they do not count for the threshold.",
)
@click.option("--yes", "accept", is_flag=True, help="Learn images too that look anomalous to the run.")
@click.option("--test/--no-test", "with_test", default=False, show_default=True, help="Score the run's test set again.")
@click.option(
    "--output",
    metavar="DIR",
    help="Folder under which the new run is written; none means beside RUN (moved: as its config says).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--no-verify", is_flag=True, help="Use the run's files as they are, without comparing them with what it wrote.")
def extend(
    run_folder: str,
    images: tuple[str, ...],
    false_alarms: bool,
    accept: bool,
    with_test: bool,
    output: str | None,
    device: str,
    no_verify: bool,
) -> None:
    """Add normal images to the finished run in the folder RUN, as a new run: nothing is fitted anew, and RUN stays as it is.

    IMAGES are files, folders, globs, or - for a list on standard input.
    """
    require_training("`anomaly extend`")
    from anomaly_core import progress_bar
    from anomaly_predict import image_paths
    from anomaly_teach.extending import extend as extend_run

    extension = extend_run(
        run_folder,
        image_paths(images),
        false_alarms=false_alarms,
        accept=accept,
        with_test=with_test,
        output=output,
        device=device,
        progress=progress_bar,
        verify=not no_verify,
    )
    _show(extension)


def _show(extension: Extension) -> None:
    """Print what was learnt, what it changed, and where the new run is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from anomaly_core import RunResults, print_summary, printable, quoted

    columns = [Column(name, justify="right") for name in ("before", "after")]
    table = Table(Column("image", overflow="fold"), *columns, box=None, padding=(0, 1), header_style="bold")
    oddest = sorted(extension.images, key=lambda image: -image.before)
    for image in oddest[:MOST_SHOWN]:
        table.add_row(escape(printable(image.path)), f"{image.before:.4g}", f"{image.after:.4g}")
    console = Console()
    console = console if console.is_terminal else Console(width=160)  # a pipe has no width of its own
    console.print(table)
    before, after = extension.before, extension.after
    count = len(extension.images)
    more = f" (the {MOST_SHOWN} highest scores are shown)" if count > MOST_SHOWN else ""
    texts = [f"learnt {count} image{'s' if count > 1 else ''} in {extension.seconds:.1f} s{more}"]
    texts += [f"{name.replace('_', ' ')}: {value:.6g}" for name, value in extension.figures.items()]
    if after.threshold is not None:
        old = "none" if before.threshold is None else f"{before.threshold:.4g}"
        same = " as before" if after.threshold == before.threshold else f", before {old}"
        texts.append(f"threshold {after.threshold:.4g}{same}, from {after.source}; {after.promise()}".rstrip("; "))
    if extension.result is not None:
        print_summary(RunResults([extension.result]))
    else:
        texts.append(f"results in {extension.run.folder}")
        texts.append(f"not tested: `anomaly evaluate {quoted(extension.run.folder)}` scores the test set")
    for text in texts:
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
