"""``anomaly export``: writes a finished run's detector to a file, or changes the threshold of such a file."""

from __future__ import annotations

from pathlib import Path

import click

from anomaly_core import AnomalyError, MissingLibrary, RunFolder, refuse_ignored, registry
from anomaly_export.metadata import Precision
from anomaly_predict import quick_engine


@click.command("export")
@click.argument("source", metavar="RUN|FILE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["onnx", "openvino", "torchscript", "triton"]),
    help="What to write. triton: the ONNX file in a model repository, which Triton and KServe serve.",
)
@click.option(
    "--precision",
    type=click.Choice(["f32", "bf16", "int8"]),
    help="What it computes in; by default as the run's engine did. bf16 (openvino alone) is faster where the CPU has it, "
    "and two to three digits are right. int8 (openvino alone) is the quantised network of a run that was fitted in it.",
)
@click.option(
    "--output",
    metavar="FILE",
    help="Where; by default model.onnx, model.xml or model.pt in the run's folder. For triton: the repository's folder.",
)
@click.option("--name", metavar="NAME", help="Of the model in a triton repository; by default the category or the method.")
@click.option("--version", type=int, metavar="N", help="Of the model in a triton repository; by default the next.")
@click.option("--threshold", type=float, metavar="X", help="Instead of the run's own; with FILE, changes that file.")
@click.option(
    "--any-size", is_flag=True, help="The graph takes RGB images of any size and resizes them itself, for C++, C# or Triton."
)
@click.option(
    "--images", type=click.IntRange(min=1), default=32, show_default=True, help="Test images that are compared with the run."
)
@click.option("--no-verify", is_flag=True, help="Use RUN or FILE even if it is not as it was written; a damaged FILE stays so.")
def export(
    source: Path,
    format_: str | None,
    precision: Precision | None,
    output: str | None,
    name: str | None,
    version: int | None,
    threshold: float | None,
    any_size: bool,
    images: int,
    no_verify: bool,
) -> None:
    """Write the detector of the finished run in the folder RUN, and compare it with the run.

    Without --format, the run keeps it for itself, in RUN/engine: `anomaly predict RUN IMAGES` then needs no torch.

    OpenVINO's format is two files, .xml and .bin; the others are one. The raw score leaves the graph; the threshold stands
    beside it: `anomaly export FILE --threshold X` changes it without exporting again. Use a file with `anomaly predict FILE
    IMAGES`, or anomaly_export.ExportedDetector(FILE).
    """
    if format_ != "triton":
        of_repositories = "it is for a model repository. Add --format triton, or leave it out."
        refuse_ignored(name=of_repositories, version=of_repositories)
    if not source.is_dir():
        if threshold is None or format_ is not None or output is not None:
            raise click.UsageError("with FILE there is one thing to change: --threshold X. To export, give a run's folder.")
        of_runs = "the graph in FILE stays as it is. Leave it out, or give the run's folder to export again."
        refuse_ignored(precision=of_runs, images=of_runs, any_size=of_runs)
        from anomaly_export.metadata import read_metadata
        from anomaly_export.writers import rewrite

        container, metadata = read_metadata(source, not no_verify)
        before = metadata.calibration.threshold
        rewrite(container, source, metadata.with_threshold(threshold))
        click.echo(f"{source}: threshold {before if before is not None else 'none'} -> {threshold}")
        return
    if format_ is None:
        of_files = "it is for a file. Add --format onnx, openvino, torchscript or triton, or leave it out."
        refuse_ignored(precision=of_files, output=of_files, threshold=of_files, no_verify=of_files, any_size=of_files)
        click.echo(_kept(source, images))
        return
    try:
        from anomaly_export.export import export_run
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f'exporting a run needs {error.name}, which is not installed: pip install "anomaly-export[train]"'
        ) from error

    if format_ == "triton":
        from anomaly_export.triton import export_triton

        if output is None:
            raise click.UsageError("--format triton needs --output: the folder of the model repository, new or not.")
        options = {"precision": precision, "threshold": threshold, "images": images, "verify": not no_verify}
        click.echo(str(export_triton(source, output, name=name, version=version, any_size=any_size, **options)))
        return
    report = export_run(
        source,
        format_,
        output,
        precision=precision,
        threshold=threshold,
        images=images,
        verify=not no_verify,
        any_size=any_size,
    )
    click.echo(str(report))


def _kept(folder: Path, images: int) -> str:
    """Have the run keep its graph; what came of it. AnomalyError if no graph can stand for this run."""
    config = RunFolder.open(folder).config()
    own = quick_engine(config, "cpu")
    usable = own or quick_engine(config, "cpu", "onnx") or quick_engine(config, "cpu", "openvino")
    if usable is None:
        registry.engines["onnx"].require_library()
        raise AnomalyError(
            f"the run in {str(folder)!r} predicts with torch alone: it looks at tiles (data.tile), searches approximately "
            "(model.search), or its engine is torch or of lower precision (model.engine, $ANOMALY_ENGINE). Give --format to "
            "write a file."
        )
    from anomaly_export.kept import keep

    named = "" if own else f"; `anomaly predict --engine {usable.name}` takes it: the run's own is another, by model.engine"
    return keep(folder, usable.name, images, anew=True) + named
