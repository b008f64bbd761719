"""``anomaly new-plugin``: a distribution to start from."""

from __future__ import annotations

from pathlib import Path

import click

KINDS = ("model", "dataset", "metric", "trainer", "backbone", "command", "hooks")
TRAINERS = ("memory", "gradient")
LICENSES = ("Apache-2.0", "MIT", "BSD-3-Clause", "Proprietary")


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="model", show_default=True, help="What the plugin provides.")
@click.option(
    "--trainer",
    type=click.Choice(TRAINERS),
    help="Of a model: one pass into a memory, or a network that is trained by gradient descent; memory by default.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder that the new one is written into; the working directory by default.",
)
@click.option("--license", "licence", type=click.Choice(LICENSES), default="Apache-2.0", show_default=True, help="Its licence.")
@click.option("--author", default="", help="Who holds the copyright; the plugin's contributors by default.")
def new_plugin(name: str, kind: str, trainer: str | None, output: Path, licence: str, author: str) -> None:
    """Write the distribution anomaly-NAME with a component NAME that works, its tests, README, licence and CI file.

    A backbone's NAME is timm's name of the model, such as resnet18.tv_in1k.
    """
    from anomaly_testing.writer import write_plugin

    if trainer is not None and kind != "model":
        raise click.UsageError(f"--trainer says how a model is fitted, and the plugin is a {kind}. Leave one of the two out.")
    folder, component = write_plugin(name, kind, output, licence, author, trainer or TRAINERS[0])
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    click.echo(f"wrote {folder} with {len(files)} files:")
    for path in files:
        click.echo(f"  {path}")
    click.echo(f'\nnext:\n  cd {folder}\n  pip install -e ".[dev]"\n  pytest\n  anomaly check {component}')
