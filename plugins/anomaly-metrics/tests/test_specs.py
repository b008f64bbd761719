"""What the metrics say of themselves, for tables and reports."""

from __future__ import annotations

from anomaly_core import BaseMetric, MetricSpec, registry

NAMES = [
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "image_accuracy",
    "image_precision",
    "image_recall",
    "image_f1",
    "object_auroc",
]
NAMES += ["pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_005", "aupimo", "auspro_005", "seg_f1"]


def specs() -> dict[str, MetricSpec]:
    return {name: registry.metrics[name].spec for name in NAMES}


def test_each_is_a_metric_with_a_title_and_a_sentence_of_its_own() -> None:
    for name, spec in specs().items():
        assert isinstance(registry.metrics[name].build(None), BaseMetric)
        assert spec.summary.endswith(".")
        assert spec.level == ("image" if name.startswith(("image_", "object_")) else "pixel")
    assert len({spec.title for spec in specs().values()}) == len({spec.summary for spec in specs().values()}) == len(NAMES)


def test_those_whose_threshold_saw_the_test_set_say_so() -> None:
    assert {name for name, spec in specs().items() if spec.oracle} == {"image_f1_max", "pixel_f1_max"}
    assert all("chosen on the test images" in spec.summary for spec in specs().values() if spec.oracle)


def test_which_are_computed_when_none_is_named_and_which_lead() -> None:
    assert {name for name, spec in specs().items() if not spec.default} == {
        "aupro_005",
        "aupimo",
        "auspro_005",
        "seg_f1",
        "object_auroc",
    }
    assert {name for name, spec in specs().items() if spec.prominence == "headline"} == {"image_auroc", "pixel_auroc", "aupro"}
