"""Components that cannot be used: what is wrong, whose fault it is and the next step; and a sound one beside them."""

from __future__ import annotations

from importlib import metadata

import pytest

from anomaly_core import MetricSpec, ModelSpec, PluginError, Registry
from glow import component, imported

RUNNING = metadata.version("anomaly-core")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("OTHER = 1", "AttributeError"),
        ("from anomaly_core import MetricSpec\nBAD = MetricSpec(target='a:b')", "is a MetricSpec, .* ModelSpec"),
        ("BAD = 7", "is a int, .* ModelSpec"),
    ],
)
def test_a_plugin_that_fails_to_import_breaks_nothing_else(glow, source, cause):
    glow.install("anomaly-bad", "0.3", points={"models": {"bad": "fake_bad:BAD"}}, files={"fake_bad.py": source})
    registry = Registry()
    assert registry.models["glow"].check() is None
    bad = registry.models["bad"]
    with pytest.raises(PluginError, match=cause) as caught:
        _ = bad.spec
    for word in ("model 'bad'", "anomaly-bad 0.3", "fake_bad:BAD", "Update or reinstall", "--no-plugin anomaly-bad"):
        assert word in str(caught.value)
    assert (caught.value.__cause__ is None) == ("Spec" in cause)
    assert str(bad.check()) == str(caught.value)


def test_a_target_that_fails_to_import_is_named(glow):
    (glow.site / "fake_glow" / "glow.py").write_text("import a_package_that_is_not_there")
    found = Registry().models["glow"]
    assert found.spec.trainer == "memory"
    with pytest.raises(PluginError, match=r"anomaly-glow 1.2.3 .*fake_glow.glow:Glow: ModuleNotFoundError") as caught:
        found.build()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "fake_glow.glow:Glow" in str(found.check())


@pytest.mark.parametrize("name", ["Bare", "Stranger"])
def test_a_config_must_be_a_dataclass_that_extends_the_base_of_its_kind(glow, name):
    spec = ModelSpec(target="fake_glow.glow:Glow", config=f"fake_glow.config:{name}", trainer="memory")
    added = Registry().add("odd", spec)
    with pytest.raises(PluginError, match=f"{name} is not a dataclass that extends anomaly_core.ModelConfig"):
        added.config_class()
    assert "ModelConfig" in str(added.check())


def test_a_kind_without_config_says_so():
    with pytest.raises(PluginError, match="command 'run' has no config; only a model, dataset, trainer"):
        Registry().commands["run"].config_class()


def test_a_target_that_is_no_address_is_named(distributions):
    added = Registry().add("odd", MetricSpec(target="os.path"))
    with pytest.raises(PluginError, match=r"'os.path' is not of the form package.module:attribute"):
        added.load()


@pytest.mark.parametrize("line", ["glow = fake_glow.plugin", "glow = ", "glow = fake_glow:plugin:GLOW", "glow = a b:c"])
def test_a_malformed_entry_point_is_broken(distributions, line):
    distributions.install("anomaly-glow", entry_points=f"# a comment\n[anomaly_core.models]\n{line}\nfine = os:path [extra]\n")
    registry = Registry()
    bad = component(registry, "anomaly-glow:glow")
    assert bad.status == "broken" and "is not of the form package.module:attribute" in bad.reason
    assert "glow" not in registry.models and "fine" in registry.models
    assert str(bad.check()) == bad.reason
    for use in (lambda: registry.models["glow"], lambda: bad.spec):
        with pytest.raises(PluginError, match=r"anomaly-glow 1.2.3 .* is broken: its entry point"):
            use()


def test_a_malformed_line_of_entry_points_costs_itself_alone(glow):
    glow.install("anomaly-torn", entry_points="[anomaly_core.models]\ntorn\nfine = os:path\n")
    registry = Registry()
    assert "glow" in registry.models and "fine" in registry.models
    torn = component(registry, "anomaly-torn:torn")
    assert torn.status == "broken" and "its entry point 'torn' is not of the form" in torn.reason


@pytest.mark.parametrize(
    "requires", ["anomaly-core>=99", "anomaly-core<0.0.1", "Anomaly_Core==99.*", "anomaly-core>=99; python_version>'3'"]
)
def test_a_plugin_for_another_core_is_refused_when_used(glow, requires):
    glow.install("anomaly-new", points={"models": {"new": "fake_glow.plugin:GLOW"}}, requires=["click", requires])
    registry = Registry()
    new = component(registry, "anomaly-new:new")
    assert new.status == "incompatible" and f"anomaly-core {RUNNING} is running" in new.reason
    assert "new" not in registry.models and "glow" in registry.models
    with pytest.raises(PluginError, match=r"anomaly-new 1.2.3 .* it requires anomaly-core.*is running"):
        registry.models["new"]
    with pytest.raises(PluginError, match="it requires anomaly-core"):
        new.load()
    assert str(new.check()) == new.reason
    assert not imported(glow)


@pytest.mark.parametrize(
    "requires", [f"anomaly-core=={RUNNING}", "anomaly-core", "anomaly-core>=99; extra == 'x'", "anomaly-core-tools>=99"]
)
def test_a_requirement_that_admits_the_running_core_is_fine(distributions, requires):
    distributions.install("anomaly-new", points={"models": {"new": "nowhere:NEW"}}, requires=[requires])
    assert Registry().models["new"].status == "ok"


def test_a_requirement_that_cannot_be_read_is_incompatible(distributions):
    distributions.install("anomaly-new", points={"models": {"new": "nowhere:NEW"}}, requires=["anomaly-core >>> 1"])
    found = component(Registry(), "anomaly-new:new")
    assert found.status == "incompatible" and "anomaly-core >>> 1" in found.reason


def test_an_added_component_that_fails_says_how_to_take_it_away(distributions):
    with pytest.raises(PluginError, match=r"metric 'mine', added by hand, .*registry.remove\('mine', 'metric'\)"):
        Registry().add("mine", MetricSpec(target="collections:Missing")).load()
