"""``anomaly predict``: a finished run applied to new images."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import click


@click.command("predict")
@click.argument("run_folder", metavar="RUN")
@click.argument("images", nargs=-1, required=True)
@click.option("--maps", "maps_folder", metavar="DIR", help="Write a picture of each image, its map and the overlay.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line instead of CSV.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def predict(
    run_folder: str, images: tuple[str, ...], maps_folder: str | None, jsonl: bool, batch_size: int, device: str
) -> None:
    """Score IMAGES (files or folders) with the finished run in the folder RUN.

    Prints path, score, verdict and p-value (the share of normal images that look at least this odd).
    """
    from anomaly_core.judge import safe_name
    from anomaly_core.pictures import save_panel
    from anomaly_core.predict import image_files, load_run
    from anomaly_core.screening import readable
    from anomaly_core.spreadsheet import SafeWriter

    detector = load_run(run_folder, device=device)
    paths, skipped = readable(image_files(images), detector.config.data.on_bad_image)
    for item in skipped:
        click.echo(f"skipped: {item.reason}", err=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # file names are bytes: those that are no UTF-8 are printed as they are
        sys.stdout.reconfigure(errors="surrogateescape")
    writer = SafeWriter(sys.stdout)
    if not jsonl:
        writer.writerow(["path", "score", "is_anomalous", "p_value"])
    number = 0
    for inputs, prediction in detector.stream(paths, batch_size=batch_size):
        for index, score in enumerate(prediction.scores.tolist()):
            path = paths[number]
            verdict, odd = detector.calibration.is_anomalous(score), detector.calibration.p_value(score)
            if jsonl:
                click.echo(json.dumps({"path": str(path), "score": score, "is_anomalous": verdict, "p_value": odd}))
            else:
                writer.writerow([str(path), repr(score), "" if verdict is None else int(verdict), f"{odd:.4g}"])
            if maps_folder is not None:
                target = Path(maps_folder) / f"{number:05d}-{safe_name(path.stem)}.png"
                anomaly_map = None if prediction.maps is None else prediction.maps[index]
                title = f"{path.name}  score {score:.4g}"
                made = None if prediction.reconstruction is None else prediction.reconstruction[index]
                save_panel(
                    target,
                    inputs[index],
                    anomaly_map,
                    None,
                    detector.calibration,
                    title,
                    with_mask=False,
                    reconstruction=made,
                )
            number += 1
