"""The options of ``anomaly serve`` that open doors, and the doors that they open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anomaly_core import ConfigError, refuse_ignored

if TYPE_CHECKING:
    from anomaly_serve.doors.asking import Door

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class DoorOptions:
    """The doors that are asked for.

    Attributes:
        watch: ``[PRODUCT=]DIR``: folders whose images are judged and moved.
        accept, reject, failed: where they go; with several watched folders, to a subfolder named as the product.
        verdict_files: whether a ``.json`` goes beside each.
        mqtt: ``mqtt[s]://[USER@]HOST[:PORT][/PREFIX]`` of a broker.
        mqtt_password_file, mqtt_ca: files with the password, and with the certificates that the broker's is signed by.
        camera: ``[PRODUCT=]SOURCE``: cameras, by number, address or file.
        every: seconds between two images of a camera; None: as fast as they are judged.
    """

    watch: tuple[str, ...] = ()
    accept: Path | None = None
    reject: Path | None = None
    failed: Path | None = None
    verdict_files: bool = False
    mqtt: str | None = None
    mqtt_password_file: Path | None = None
    mqtt_ca: Path | None = None
    camera: tuple[str, ...] = ()
    every: float | None = None


class Doors:
    """Doors that open and close together."""

    def __init__(self, doors: list[Door]) -> None:
        self.doors = doors

    def start(self) -> None:
        """Open them, once the service has started."""
        for door in self.doors:
            door.start()

    def stop(self) -> None:
        """Close them, before the service stops: nothing more comes in, and what came in is finished."""
        for door in reversed(self.doors):
            door.stop()

    def __enter__(self) -> Doors:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


_DIR = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--watch",
        multiple=True,
        metavar="[PRODUCT=]DIR",
        help="Judge what comes into a folder, and move it to --accept or --reject; may be repeated.",
    ),
    click.option("--accept", type=_DIR, metavar="DIR", help="Where watched images go that are judged normal."),
    click.option("--reject", type=_DIR, metavar="DIR", help="Where watched images go that are judged anomalous."),
    click.option(
        "--failed", type=_DIR, metavar="DIR", help="Where watched files go that are no image, with a .txt that says why."
    ),
    click.option("--verdict-files", is_flag=True, help="Write a .json with the verdict beside each image that is moved."),
    click.option(
        "--mqtt",
        metavar="URL",
        help="Tell verdicts to a broker and take images from it: mqtt://[USER@]HOST[:PORT][/PREFIX], or mqtts://. "
        "The password is in $ANOMALY_MQTT_PASSWORD or --mqtt-password-file.",
    ),
    click.option("--mqtt-password-file", type=_FILE, metavar="FILE", help="Its first line is the broker's password."),
    click.option("--mqtt-ca", type=_FILE, metavar="FILE", help="Certificates (PEM) that the broker's is signed by."),
    click.option(
        "--camera",
        multiple=True,
        metavar="[PRODUCT=]SOURCE",
        help="Judge a camera's frames: its number, an address such as rtsp://..., or a video file; may be repeated.",
    ),
    click.option(
        "--every",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Between two frames of a camera that are judged; none: as fast as they are judged.",
    ),
)


def doors_options(command: F) -> F:
    """Give a click command the options of all doors; it gets them as one argument, ``doors``: :class:`DoorOptions`."""

    @functools.wraps(command)
    def with_doors(*arguments: Any, **options: Any) -> Any:
        doors = DoorOptions(**{field.name: options.pop(field.name) for field in fields(DoorOptions)})
        unwatched = not doors.watch and "it says where watched images go. Add --watch [PRODUCT=]DIR, or leave it out."
        unbrokered = not doors.mqtt and "it is for --mqtt. Add --mqtt URL, or leave it out."
        refuse_ignored(
            accept=unwatched,
            reject=unwatched,
            failed=unwatched,
            verdict_files=unwatched,
            mqtt_password_file=unbrokered,
            mqtt_ca=unbrokered,
            every=not doors.camera and "it is for --camera. Add --camera [PRODUCT=]SOURCE, or leave it out.",
        )
        if doors.watch and not (doors.accept and doors.reject):
            raise click.UsageError("--watch moves what it judged: give --accept DIR and --reject DIR, too.")
        return command(*arguments, doors=doors, **options)

    for option in reversed(_OPTIONS):
        with_doors = option(with_doors)
    return with_doors  # type: ignore[return-value]  # what a decorator of click does to a function


def add_doors(service: Any, options: DoorOptions) -> Doors:
    """The doors of a service, closed yet: ``start()`` them after it, and ``stop()`` them before it.

    Args:
        service: a :class:`anomaly_serve.service.Service` that knows its products.
        options: which doors.

    Raises:
        ConfigError: a product or folder does not exist, two doors are one, or an address is none.
        MissingLibrary: an extra is not installed.
    """
    doors: list[Door] = []
    if options.mqtt is not None:  # first, so that it is closed last, and tells what the others did
        from anomaly_serve.doors.broker import Broker, password_of
        from anomaly_serve.doors.mqtt import MqttDoor

        broker = Broker.of(options.mqtt)
        if options.mqtt_ca is not None and not broker.tls:
            raise ConfigError("--mqtt-ca is for TLS, and --mqtt has none. Give mqtts://, or leave it out.")
        doors.append(MqttDoor(service, broker, password_of(broker, options.mqtt_password_file), options.mqtt_ca))
    return Doors([*doors, *_folder_doors(service, options), *_camera_doors(service, options)])


def _folder_doors(service: Any, options: DoorOptions) -> list[Door]:
    from anomaly_serve.doors.folder import FolderDoor, Folders

    if not options.watch:
        return []
    assert options.accept is not None and options.reject is not None
    pairs = [_of_product(service, "--watch", text) for text in options.watch]
    watched = [Path(text).resolve() for _, text in pairs]
    for one in watched:
        if any(other.is_relative_to(one) for other in watched if other is not one):
            raise ConfigError(
                f"--watch: {str(one)!r} is watched twice, or holds another watched folder. Watch folders beside each other."
            )
    several = len(pairs) > 1
    targets = [path for path in (options.accept, options.reject, options.failed) if path is not None]
    doors: list[Door] = []
    for product, text in pairs:
        accept, reject, *failed = [path / product if several else path for path in targets]
        folders = Folders(Path(text), accept, reject, failed[0] if failed else None)
        for other in watched:
            for target in folders.targets:
                if target.resolve().is_relative_to(other):
                    raise ConfigError(f"{str(target)!r} lies in the watched folder {str(other)!r}. Choose a folder beside it.")
        doors.append(FolderDoor(service, product, folders, sidecar=options.verdict_files))
    return doors


def _camera_doors(service: Any, options: DoorOptions) -> list[Door]:
    if not options.camera:
        return []
    from anomaly_serve.doors.camera import CameraDoor

    pairs = [_of_product(service, "--camera", text) for text in options.camera]
    return [CameraDoor(service, product, source, every=options.every) for product, source in pairs]


def _of_product(service: Any, option: str, text: str) -> tuple[str, str]:
    """The product and the rest of ``[PRODUCT=]REST``; ConfigError if there is no such product, or it must be named."""
    products = sorted(service.products)
    name, equals, rest = text.partition("=")
    if equals and name in products:
        return name, rest
    if len(products) == 1 and (not equals or Path(text).exists() or "/" in name):
        return products[0], text
    known = ", ".join(products) or "none"
    if equals:
        raise ConfigError(f"{option} {text}: there is no product {name!r}. The service has: {known}.")
    raise ConfigError(f"{option} {text}: name the product, as in {option} PRODUCT={text}. The service has: {known}.")
