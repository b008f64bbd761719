"""The options that open doors."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from doorstep import FakeService, picture, until

from anomaly_core import ConfigError
from anomaly_serve.doors import DoorOptions, FolderDoor, add_doors, doors_options


@click.command()
@click.option("--port", type=int, default=1)
@doors_options
def serve(port: int, doors: DoorOptions) -> None:
    """Serve."""
    click.echo(f"{port} {doors}")


def test_a_command_gets_the_doors_as_one_argument(tmp_path: Path) -> None:
    result = CliRunner().invoke(serve, ["--port", "5", "--watch", "a=in", "--watch", "b=on", "--accept", "x", "--reject", "y"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("5 DoorOptions(watch=('a=in', 'b=on'), accept=")
    help_text = CliRunner().invoke(serve, ["--help"]).output
    assert help_text.index("--watch") < help_text.index("--accept") < help_text.index("--mqtt ") < help_text.index("--camera")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accept", "x"], "--accept would be ignored"),
        (["--verdict-files"], "--verdict-files would be ignored"),
        (["--every", "2"], "--every would be ignored"),
        (["--watch", "in", "--accept", "x"], "give --accept DIR and --reject DIR"),
    ],
)
def test_an_option_without_its_door_is_refused(words: list[str], message: str) -> None:
    result = CliRunner().invoke(serve, words)
    assert result.exit_code == 2 and message in " ".join(result.output.split())


def test_the_only_product_need_not_be_named_and_several_must(service: FakeService, tmp_path: Path) -> None:
    for name in ("in", "a=b"):
        (tmp_path / name).mkdir()
    options = DoorOptions(watch=(str(tmp_path / "in"), str(tmp_path / "a=b")), accept=tmp_path / "x", reject=tmp_path / "y")
    doors = add_doors(service, options).doors
    assert [door.product for door in doors if isinstance(door, FolderDoor)] == ["bolts", "bolts"]
    service.products["nuts"] = service.products["bolts"]
    with pytest.raises(ConfigError, match=r"name the product, as in --watch PRODUCT=.*bolts, nuts"):
        add_doors(service, options)
    with pytest.raises(ConfigError, match=r"no product 'screws'\. The service has: bolts, nuts"):
        add_doors(service, DoorOptions(watch=("screws=in",), accept=tmp_path / "x", reject=tmp_path / "y"))


def test_several_products_have_a_subfolder_each(service: FakeService, tmp_path: Path) -> None:
    service.products["nuts"] = service.products["bolts"]
    for name in ("bolts", "nuts"):
        picture(tmp_path / "in" / name / "a.png", 20)
    watch = tuple(f"{name}={tmp_path / 'in' / name}" for name in ("bolts", "nuts"))
    doors = add_doors(service, DoorOptions(watch=watch, accept=tmp_path / "ok", reject=tmp_path / "nok"))
    for door in doors.doors:
        assert isinstance(door, FolderDoor)
        door._watch._settled, door.interval = 0.0, 0.01
    with doors:
        until(lambda: len(list((tmp_path / "ok").rglob("*.png"))) == 2)
    assert {path.parent.name for path in (tmp_path / "ok").rglob("*.png")} == {"bolts", "nuts"}


def test_watched_folders_within_each_other_are_refused(service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    both = (f"bolts={tmp_path / 'in'}", f"bolts={tmp_path / 'in' / 'deep'}")
    with pytest.raises(ConfigError, match="watched twice, or holds another watched folder"):
        add_doors(service, DoorOptions(watch=both, accept=tmp_path / "x", reject=tmp_path / "y"))
    with pytest.raises(ConfigError, match="watched twice"):
        add_doors(service, DoorOptions(watch=both[:1] * 2, accept=tmp_path / "x", reject=tmp_path / "y"))
