"""The registry's rules, on distributions that exist on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from anomaly_core import KINDS, MetricSpec, ModelSpec, PluginError, Registry
from glow import component, imported

RUNNING = metadata.version("anomaly-core")


def test_finding_imports_nothing_and_using_imports_what_is_used(glow):
    registry = Registry()
    found = registry.models["glow"]
    assert (found.kind, found.name, found.qualified) == ("model", "glow", "anomaly-glow:glow")
    assert (found.distribution, found.version, found.status, found.reason) == ("anomaly-glow", "1.2.3", "ok", "")
    assert not imported(glow)
    assert isinstance(found.spec, ModelSpec)
    assert imported(glow) and "fake_glow.glow" not in sys.modules
    assert found.config_class()().depth == 1
    assert "fake_glow.glow" not in sys.modules
    assert found.build(depth=3).depth == 3
    assert found.load().__name__ == "Glow"
    assert found.check() is None


def test_location_is_the_folder_installed_in(glow):
    assert Registry().models["glow"].location == str(glow.site.resolve())


def test_location_of_an_editable_install_is_its_source(distributions):
    info = distributions.install("anomaly-glow", points={"models": {"glow": "fake_glow.plugin:GLOW"}})
    info.joinpath("direct_url.json").write_text(
        json.dumps({"url": "file:///home/ann/my%20glow", "dir_info": {"editable": True}})
    )
    assert Registry().models["glow"].location == "/home/ann/my glow"


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"url": 5, "dir_info": {"editable": true}}',
        '{"dir_info": {"editable": true}}',
        '{"url": "file:///x", "dir_info": {}}',
    ],
)
def test_a_strange_direct_url_does_not_hide_a_plugin(distributions, text):
    info = distributions.install("anomaly-glow", points={"models": {"glow": "fake_glow.plugin:GLOW"}})
    info.joinpath("direct_url.json").write_text(text)
    assert Registry().models["glow"].location == str(distributions.site.resolve())


def test_every_group_is_found_and_no_torch_is_imported(distributions):
    groups = {kind: f"{kind}s" for kind in KINDS}
    distributions.install("anomaly-all", points={group: {f"x_{kind}": "nowhere:X"} for kind, group in groups.items()})
    code = (
        "import sys; from anomaly_core import registry\n"
        "for c in registry.components():\n"
        "    if c.distribution == 'anomaly-all': print(c.kind, c.name in getattr(registry, c.kind + 's'), c.name)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules, 'nowhere' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(distributions.site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*(f"{kind} True x_{kind}" for kind in groups), "False False False"]


def test_the_core_comes_in_by_the_same_door():
    registry = Registry()
    run = registry.commands["run"]
    assert (run.distribution, run.version) == ("anomaly-core", RUNNING)


def test_groups_are_mappings(glow):
    registry = Registry()
    assert list(registry.models).count("glow") == 1 and len(registry.models) == len(list(registry.models))
    assert "glow" in registry.models and "anomaly-glow:glow" in registry.models and "nothing" not in registry.models
    assert registry.models.get("nothing") is None and registry.models.get("glow").name == "glow"
    assert [c.name for c in registry.models.values()] == [name.rpartition(":")[2] for name in registry.models]
    assert registry.group("model")["glow"] is registry.models["glow"]
    with pytest.raises(TypeError):
        registry.models["glow"] = 1
    with pytest.raises(PluginError, match="no kind of component is called 'shoe'"):
        registry.group("shoe")


def test_the_first_distribution_on_the_path_is_the_one_that_counts(glow, tmp_path):
    newer = glow.folder(tmp_path / "newer")
    glow.install("Anomaly_Glow", "9.0", points={"models": {"gleam": "fake_glow.plugin:GLOW"}}, into=newer)
    registry = Registry()
    assert registry.models["gleam"].version == "9.0"
    assert "glow" not in registry.models and registry.models["anomaly-glow:gleam"].distribution == "Anomaly_Glow"


def test_a_first_distribution_without_plugins_shadows_too(glow, tmp_path):
    glow.install("anomaly-glow", "9.0", into=glow.folder(tmp_path / "newer"))
    assert "glow" not in Registry().models


def test_refresh_reads_path_and_environment_again(glow, monkeypatch):
    registry = Registry()
    assert "late" not in registry.models and "glow" in registry.models
    glow.install("anomaly-late", points={"models": {"late": "fake_late:LATE"}})
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-glow")
    assert "late" not in registry.models and "glow" in registry.models
    registry.refresh()
    assert "late" in registry.models and "glow" not in registry.models


def test_two_distributions_with_one_name(rivals):
    registry = Registry()
    assert [c.status for c in registry.components() if c.name == "glow"] == ["conflict", "conflict"]
    assert "also provided by anomaly-shine 2.0" in component(registry, "anomaly-glow:glow").reason
    assert "glow" not in registry.models
    assert {"anomaly-glow:glow", "anomaly-shine:glow"} <= set(registry.models)
    with pytest.raises(PluginError) as caught:
        registry.models["glow"]
    for word in ("anomaly-glow 1.2.3", "anomaly-shine 2.0", "anomaly-glow:glow", "anomaly-shine:glow"):
        assert word in str(caught.value)
    assert registry.models["anomaly-shine:glow"].build().__class__.__module__ == "fake_shine.glow"
    assert registry.models["Anomaly_Glow:glow"].build().__class__.__module__ == "fake_glow.glow"


def test_the_same_name_in_another_kind_is_no_conflict(glow):
    glow.install("anomaly-shine", points={"datasets": {"glow": "fake_shine:X"}})
    registry = Registry()
    assert registry.models["glow"].status == registry.datasets["glow"].status == "ok"


def test_blocking_one_of_two_ends_the_conflict(rivals, monkeypatch):
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-shine")
    registry = Registry()
    assert registry.models["glow"].distribution == "anomaly-glow"
    assert registry.models["glow"].status == "ok"
    monkeypatch.setenv("ANOMALY_BLOCK", "glow")
    registry.refresh()
    with pytest.raises(PluginError, match="blocked by ANOMALY_BLOCK"):
        registry.models["glow"]


@pytest.mark.parametrize("name", ["anomaly-glow", "Anomaly_Glow", "glow", "anomaly-glow:glow", " anomaly.glow , other"])
@pytest.mark.parametrize("way", ["ANOMALY_BLOCK", "--no-plugin"])
def test_what_is_blocked_is_never_imported(glow, monkeypatch, way, name):
    registry = Registry()
    if way == "ANOMALY_BLOCK":
        monkeypatch.setenv(way, name)
    else:
        registry.block(*name.split(","))
    blocked = component(registry, "anomaly-glow:glow")
    assert (blocked.status, blocked.reason) == ("blocked", f"blocked by {way}")
    assert "glow" not in registry.models and "glow" not in list(registry.models)
    for use in (lambda: registry.models["glow"], lambda: registry.models["anomaly-glow:glow"], blocked.load):
        with pytest.raises(PluginError, match=f"'glow' of anomaly-glow 1.2.3 is blocked by {way}"):
            use()
    assert str(blocked.check()) == blocked.reason
    assert not imported(glow)


def test_block_reaches_a_registry_that_was_read_before(glow):
    registry = Registry()
    assert "glow" in registry.models
    registry.block("anomaly-glow")
    assert "glow" not in registry.models


def test_only_what_is_allowed_is_left_and_the_core(rivals, monkeypatch):
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly_shine,anomaly-other")
    registry = Registry()
    assert registry.models["glow"].distribution == "anomaly-shine"
    assert {c.distribution for c in registry.components() if c.status != "blocked"} == {"anomaly-shine", "anomaly-core"}
    with pytest.raises(PluginError, match="blocked: it is not among ANOMALY_PLUGINS"):
        registry.models["anomaly-glow:glow"]


def test_an_empty_allow_list_is_none(glow, monkeypatch):
    monkeypatch.setenv("ANOMALY_PLUGINS", "")
    assert "glow" in Registry().models


def test_the_core_cannot_be_blocked(glow, monkeypatch):
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-core,run")
    registry = Registry()
    registry.block("anomaly-core", "anomaly-core:run")
    assert registry.commands["run"].status == "ok"


def test_a_missing_name_is_met_with_close_matches_and_what_is_installed(glow):
    with pytest.raises(PluginError) as caught:
        Registry().models["glwo"]
    assert "no model is called 'glwo'. Did you mean 'glow'?" in str(caught.value)
    assert "glow" in str(caught.value).partition("Installed: ")[2]


def test_a_known_name_is_met_with_the_distribution_to_install(glow, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(glow.site), *_path_of_the_core_alone(glow.site.parent)])
    registry = Registry()
    for group, name, distribution in [
        ("model", "fastflow", "anomaly-flow"),
        ("model", "patchcore", "anomaly-patchcore"),
        ("metric", "lpips", "anomaly-autoencoder"),
        ("metric", "image_auroc", "anomaly-metrics"),
        ("trainer", "memory", "anomaly-trainers"),
        ("executor", "dask", "anomaly-benchmark"),
        ("dataset", "visa", "anomaly-datasets"),
        ("command", "report", "anomaly-report"),
        ("command", "list-plugins", "anomaly-doctor"),
        ("backbone", "tf_efficientnet_lite0", "anomaly-backbones"),
    ]:
        with pytest.raises(PluginError, match=f"no {group} is called '{name}'.*`pip install {distribution}`"):
            registry.group(group)[name]


def test_a_known_name_that_an_installed_version_lacks_asks_for_another_version(glow):
    glow.install("anomaly-report", "0.0.1", points={"hooks": {"report": "nowhere:X"}})
    with pytest.raises(
        PluginError, match=r"another version of anomaly-report than anomaly-report 0.0.1: `pip install --upgrade"
    ):
        Registry().commands["report"]


def test_add_and_remove(distributions):
    registry = Registry()
    added = registry.add("mine", MetricSpec(target="collections:Counter"))
    assert (added.kind, added.distribution, added.status) == ("metric", "(added)", "ok")
    assert registry.metrics["mine"] is added is registry.metrics["(added):mine"] and added in registry.components()
    assert registry.metrics["mine"].build("aab") == {"a": 2, "b": 1}
    replaced = registry.add("mine", MetricSpec(target="collections:OrderedDict"))
    assert registry.metrics["mine"] is replaced and list(registry.metrics).count("mine") == 1
    registry.remove("mine", "metric")
    assert "mine" not in registry.metrics


def test_what_was_added_speaks_for_the_name_and_the_installed_stays_reachable(rivals):
    registry = Registry()
    added = registry.add("glow", ModelSpec(target="collections:Counter", config="nowhere:X", trainer="memory"))
    assert registry.models["glow"] is added
    assert registry.models["anomaly-glow:glow"].distribution == "anomaly-glow"
    assert {"glow", "anomaly-glow:glow", "anomaly-shine:glow"} <= set(registry.models)
    assert len({c.qualified for c in registry.models.values()}) == len(registry.models)


def test_add_refuses_what_is_no_spec():
    with pytest.raises(PluginError, match="'mine' was added with a str; expected one of ModelSpec, "):
        Registry().add("mine", "collections:Counter")  # type: ignore[arg-type]


def _path_of_the_core_alone(folder: Path) -> list[str]:
    """A folder on which the core is installed and nothing else: its metadata, copied."""
    core = metadata.distribution("anomaly-core")
    info = folder / "core" / f"anomaly_core-{RUNNING}.dist-info"
    info.mkdir(parents=True)
    for name in ("METADATA", "entry_points.txt"):
        info.joinpath(name).write_text(core.read_text(name) or "", encoding="utf-8")
    return [str(folder / "core")]
