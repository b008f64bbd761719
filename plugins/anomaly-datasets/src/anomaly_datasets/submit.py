"""``anomaly submit``: what MVTec AD 2's evaluation server judges, from finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from anomaly_core import require_training


@click.command("submit")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("submission"), show_default=True, help="The submission's folder."
)
@click.option("--root", metavar="DIR", help="The data set's folder; none means the run's own.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def submit(runs: tuple[str, ...], output: Path, root: str | None, device: str) -> None:
    """Score the private images of MVTec AD 2 with finished runs, one of each category, for its evaluation server.

    Writes anomaly_images and anomaly_images_thresholded below DIR, and the archive to upload once all eight objects are there.
    Several calls may fill one folder.
    """
    require_training("`anomaly submit`")
    from anomaly_core import progress_bar
    from anomaly_datasets.submission import SERVER, missing_objects, pack
    from anomaly_datasets.submission import submit as submit_run
    from anomaly_predict import load_run

    for run in runs:
        for name, count in submit_run(load_run(run, device), output, root, progress_bar):
            click.echo(f"{name}: {count} images in {output}")
    missing = missing_objects(output)
    if missing:
        click.echo(f"The server wants all objects; still missing: {', '.join(missing)}. Submit their runs to the same folder.")
    else:
        click.echo(f"Complete: check {pack(output)} with the publisher's own script, and upload it to {SERVER}.")
