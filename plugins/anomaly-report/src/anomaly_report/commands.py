"""``anomaly report``: a run's report again, or a leaderboard of all runs below a folder."""

from __future__ import annotations

from pathlib import Path

import click

FORMATS = ("png", "pdf", "svg")


@click.command("report")
@click.argument("folder", metavar="RUN|DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--each", is_flag=True, help="With DIR: write the report of each complete run first.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Another file for the page. A run's page then holds all pictures itself, and nothing is written into RUN.",
)
@click.option(
    "--figures",
    type=click.Choice(FORMATS),
    help="Write the page's figures as files too, for a paper, into figures/ beside the page.",
)
@click.option("--no-verify", is_flag=True, help="Take a run's files as they are, without comparing them with what it wrote.")
def report(folder: Path, each: bool, output: Path | None, figures: str | None, no_verify: bool) -> None:
    """Rebuild the report of the finished run in the folder RUN, or make a leaderboard of all runs below DIR.

    Writes RUN/report.html, or DIR/leaderboard.html; they open without internet.
    """
    from anomaly_report.runs import is_run, read_runs

    if is_run(folder):
        if each:
            raise click.UsageError(f"--each is for a folder of runs, and {str(folder)!r} is one run.")
        from anomaly_report.report import write_report

        click.echo(write_report(folder, output, verify=not no_verify, figures=figures))
        return
    if figures and not each:
        raise click.UsageError(f"--figures are those of runs, and {str(folder)!r} is a folder of them: add --each.")
    from anomaly_report.leaderboard import write_leaderboard

    rows = read_runs(folder, verify=not no_verify)
    if each:
        _write_each([row.folder for row in rows if row.status == "complete"], figures, verify=not no_verify)
    complete = sum(row.status == "complete" for row in rows)
    page = write_leaderboard(folder, rows, output=output)
    click.echo(f"{complete} complete {'run' if complete == 1 else 'runs'}, {len(rows) - complete} other")
    click.echo(page)


def _write_each(folders: list[Path], figures: str | None, *, verify: bool) -> None:
    """One run that cannot be reported does not keep the others from it."""
    from anomaly_core import AnomalyError
    from anomaly_report.report import write_report

    for folder in folders:
        try:
            click.echo(write_report(folder, verify=verify, figures=figures))
        except AnomalyError as error:
            click.echo(f"warning: {error}", err=True)
