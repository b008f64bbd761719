"""``anomaly distill-teacher``: a teacher for EfficientAD, made of the user's own unlabelled images."""

from __future__ import annotations

from pathlib import Path

import click

from anomaly_core import refuse_ignored, require_training


@click.command("distill-teacher")
@click.option("--images", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Folder of images; no labels.")
@click.option(
    "--from",
    "backbone",
    metavar="NAME",
    default="tf_efficientnet_lite0",
    show_default=True,
    help="timm's name of the network that it learns from; the paper's is wide_resnet101_2.tv_in1k.",
)
@click.option("--size", type=click.Choice(["S", "M", "XS"]), default="S", show_default=True, help="Of EfficientAD's networks.")
@click.option("--steps", type=click.IntRange(min=1), default=10_000, show_default=True, help="The paper's had 60,000.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Images a step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Of Adam; falls to 0 along a cosine.",
)
@click.option("--image-size", type=click.IntRange(min=64), default=256, show_default=True, help="Pixels that the teacher sees.")
@click.option("--backbones", metavar="DIR", help="Folder with weight files; else $ANOMALY_BACKBONES, else ./backbones.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Governs everything that is random.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", required=True, help="Ends in .safetensors."
)
def distill_teacher(
    images: Path,
    backbone: str,
    size: str,
    steps: int,
    batch_size: int,
    learning_rate: float,
    image_size: int,
    backbones: str | None,
    device: str,
    seed: int,
    output: Path,
) -> None:
    """Make a teacher for EfficientAD from your own unlabelled images.

    A small network learns to describe patches as a large one, trained on ImageNet, does. The more the images vary, the better
    the teacher: those of many products, good and bad, and of anything else. Take the file with --set model.teacher=FILE.
    """
    refuse_ignored(output=output.suffix != ".safetensors" and f"{str(output)!r} must end in .safetensors.")
    require_training("`anomaly distill-teacher`")
    from anomaly_core import choose_device, printable, progress_bar
    from anomaly_distillation.efficientad.making import make_teacher

    made = make_teacher(
        images,
        output,
        backbone=backbone,
        size=size,  # type: ignore[arg-type]  # one of click's choices
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        image_size=image_size,
        backbones=backbones,
        device=choose_device(device),
        seed=seed,
        progress=progress_bar,
    )
    click.echo(printable(f"{output}: a teacher of the size {size}, made from {made.made_from} in {made.seconds:.0f} s"))
    click.echo(f"error {made.error:.3f} of the target's variance (1: nothing was learnt)")
    click.echo(
        printable(f"Next: `anomaly run --model efficientad --set model.teacher={output} --set model.size={size} --data ...`")
    )
