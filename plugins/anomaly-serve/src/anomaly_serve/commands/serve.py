"""``anomaly serve``: detectors on the line."""

from __future__ import annotations

import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core import RunError, printable
from anomaly_serve.doors import DoorOptions, add_doors, doors_options

if TYPE_CHECKING:
    from anomaly_serve.service import Service

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command("serve")
@click.argument("given", metavar="[NAME=]RUN|FILE", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes one that is free.")
@click.option(
    "--store",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("anomaly-service"),
    show_default=True,
    help="Folder for the database, kept images and backups.",
)
@click.option("--database", metavar="URL", help="Another database than SQLite in --store, such as postgresql://...")
@click.option("--quota", default="10GiB", show_default=True, metavar="SIZE", help="Disk space for kept images.")
@click.option(
    "--keep-days", type=click.FloatRange(0, min_open=True), metavar="DAYS", help="Remove older verdicts; none by default."
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Lines NAME TOKEN; who asks must send one. None: whoever reaches the address may do everything.",
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name that the service goes by; repeatable.")
@click.option("--queue", type=click.IntRange(1, 100_000), default=256, show_default=True, help="Images in work at once.")
@click.option("--max-bytes", default="32MiB", show_default=True, metavar="SIZE", help="Of one image as it is sent.")
@click.option("--max-pixels", type=click.IntRange(1), default=64_000_000, show_default=True, help="Of one image.")
@click.option("--threads", type=click.IntRange(1), help="Threads that an engine computes with; one per core by default.")
@click.option("--device", default="auto", show_default=True, help="Of runs that need torch: auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--teach-from",
    "teach_from",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    metavar="DIR",
    help="A folder below which images may be watched to teach from; repeatable. No other folder can be.",
)
@click.option("--teach-quota", default="5GiB", show_default=True, metavar="SIZE", help="Disk space for images to teach from.")
@click.option(
    "--keep-versions",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Versions of each product, the last that were taught, that keep their files.",
)
@doors_options
def serve(
    given: tuple[str, ...],
    host: str,
    port: int,
    folder: Path,
    database: str | None,
    quota: str,
    keep_days: float | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    queue: int,
    max_bytes: str,
    max_pixels: int,
    threads: int | None,
    device: str,
    teach_from: tuple[Path, ...],
    teach_quota: str,
    keep_versions: int,
    doors: DoorOptions,
) -> None:
    """Serve detectors over HTTP, with a page to teach, set and inspect.

    Each RUN or FILE that `anomaly export` wrote is a product, by NAME, else the run's category or the file's name. One that
    --store does not know becomes a new version of its product and judges from then on; one that it knows changes nothing, as
    somebody may have chosen another version since. Without any, what the store has is served.

    Ctrl-C or SIGTERM: what was accepted is answered, then it ends.
    """
    from anomaly_serve.access import Tokens
    from anomaly_serve.app import create_app
    from anomaly_serve.drifting import Drifting
    from anomaly_serve.server import listening, server_for
    from anomaly_serve.service import Service, ServiceOptions
    from anomaly_serve.serving import bring, named, size_of
    from anomaly_serve.store import Store

    tokens = Tokens() if token_file is None else Tokens.read(token_file)
    teaching: dict[str, Any] = {"teach_from": teach_from, "teach_quota": size_of(teach_quota), "keep_versions": keep_versions}
    options = ServiceOptions(queue, size_of(max_bytes), max_pixels, threads, device, **teaching)
    wanted = [named(one) for one in given]
    is_loopback = host in LOOPBACK
    try:
        door = listening(host, port)
    except OSError as error:
        raise RunError(
            f"cannot listen at {host}, port {port}: {error}. Choose another --host or --port; --port 0 takes one that is free."
        ) from error
    with door:
        store = Store.open(database, folder, size_of(quota), keep_days)
        try:
            service = Service(store, options)
            with Drifting(service), service:  # which sees the last images too
                bring(service, wanted, "command line")
                if not is_loopback and not tokens:
                    warnings.warn(
                        "whoever reaches this address may score, teach and change thresholds: there are no tokens, and no TLS. "
                        "Give --token-file FILE, and put a proxy with TLS before it.",
                        stacklevel=2,
                    )
                opened = add_doors(service, doors)
                _tell(service, door, host)
                names = ["127.0.0.1", "[::1]", "localhost", host, *hosts]
                app = create_app(service, tokens, names if is_loopback or hosts else None)
                for one in opened.doors:
                    click.echo(printable(str(one)), err=True)
                with opened:
                    server_for(app).run(sockets=[door])
        finally:
            store.close()


def _tell(service: Service, door: socket.socket, host: str) -> None:
    """A line for each product, and the address of the page, on standard error."""
    for name, product in sorted(service.products.items()):
        active = product.active
        if active is None:
            text = f"no version judges: {product.fault}" if product.fault else "no version judges yet"
        else:
            calibration = active.settings.calibration
            threshold = "no threshold" if calibration.threshold is None else f"threshold {calibration.threshold:.6g}"
            text = f"version {active.number} of {len(product.versions())}, {threshold}"
        click.echo(printable(f"{name}: {text}"), err=True)
    if not service.products:
        click.echo("no product yet: teach one on the page, or give a run.", err=True)
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, f"[{host}]" if ":" in host else host)
    click.echo(f"page: http://{shown}:{door.getsockname()[1]}/", err=True)
    sys.stderr.flush()
