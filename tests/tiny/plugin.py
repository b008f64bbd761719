"""What the tiny plugin registers: each spec by its own name in lower case."""

from __future__ import annotations

from anomaly_core import ComponentSpec, DatasetSpec, MetricSpec, ModelSpec, TrainerSpec

LAUNCHER = "anomaly_trainers.launch:launch"  # asked for by --devices alone
PALETTE = ModelSpec(
    target="tiny.methods:Palette",
    config="tiny.config:PaletteConfig",
    trainer="one_pass",
    presets="tiny:presets",
    summary="a pixel is as odd as its colour",
)
MIRROR = ModelSpec(
    target="tiny.methods:Mirror",
    config="tiny.config:MirrorConfig",
    trainer="descent",
    summary="a pixel is as odd as it is badly reconstructed",
)
ONE_PASS = TrainerSpec(
    target="tiny.trainers:OnePass", config="tiny.config:OnePassConfig", launcher=LAUNCHER, summary="one pass"
)
DESCENT = TrainerSpec(
    target="tiny.trainers:Descent", config="tiny.config:DescentConfig", launcher=LAUNCHER, summary="gradient descent"
)
TREE = DatasetSpec(target="tiny.data:Tree", config="tiny.config:TreeConfig", summary="a tree of folders")
WEAVE = DatasetSpec(target="tiny.data:Weave", config="tiny.config:WeaveConfig", summary="woven textures, drawn")
AUROC = MetricSpec(
    target="tiny.metrics:Auroc",
    title="Image AUROC",
    summary="how often an anomalous image scores above a normal one",
    prominence="headline",
    default=True,
)
ALARMS = MetricSpec(
    target="tiny.metrics:Alarms",
    summary="the share of normal images above the threshold",
    prominence="table",
    higher_is_better=False,
    default=True,
    at_threshold=True,
)
BEST_ACCURACY = MetricSpec(target="tiny.metrics:BestAccuracy", summary="at the best of all thresholds", oracle=True)
CONTRAST = MetricSpec(
    target="tiny.metrics:Contrast",
    summary="by how much the map is higher where there is a defect",
    level="pixel",
    prominence="headline",
    default=True,
)
RESIDUE = MetricSpec(
    target="tiny.metrics:Residue",
    summary="the mean difference of images and their reconstructions",
    level="reconstruction",
    higher_is_better=False,
    default=True,
)


def entry_points() -> dict[str, dict[str, str]]:
    """Group without its ``anomaly_core.`` -> name -> address."""
    points: dict[str, dict[str, str]] = {}
    for name, spec in globals().items():
        if isinstance(spec, ComponentSpec):
            points.setdefault(f"{spec.kind}s", {})[name.lower()] = f"{__name__}:{name}"
    return points
