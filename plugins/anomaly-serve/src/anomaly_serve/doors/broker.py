"""The address of an MQTT broker, and its password, which is never on the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from anomaly_core import ConfigError, read_untrusted

SECRET = "ANOMALY_MQTT_PASSWORD"


@dataclass(frozen=True)
class Broker:
    """Where a broker is: ``mqtt[s]://[USER@]HOST[:PORT][/PREFIX]``."""

    host: str
    port: int
    prefix: str = "anomaly"
    user: str | None = None
    tls: bool = False

    @classmethod
    def of(cls, url: str) -> Broker:
        """The broker of an address; ConfigError if it is none, or holds a password, which others would see."""
        form = "Give mqtt://[USER@]HOST[:PORT][/PREFIX], or mqtts:// for TLS."
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"--mqtt {url}: {error}. {form}") from error
        if parts.password is not None:
            raise ConfigError(
                f"--mqtt: others can read a password in an address. Put it into ${SECRET} or --mqtt-password-file."
            )
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"--mqtt {url}: it is no address of a broker. {form}")
        prefix = unquote(parts.path).strip("/") or "anomaly"
        if any(letter in prefix for letter in "+#\0") or prefix.startswith("$"):
            raise ConfigError(f"--mqtt {url}: {prefix!r} cannot begin a topic. Leave out +, # and a leading $.")
        tls = parts.scheme == "mqtts"
        user = None if parts.username is None else unquote(parts.username)
        return cls(parts.hostname, port or (8883 if tls else 1883), prefix, user, tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def password_of(broker: Broker, file: Path | None) -> str | None:
    """The broker's password, from the first line of a file or the environment; ConfigError if it is not for anybody."""
    if file is None:
        password = os.environ.get(SECRET)
    else:
        try:
            password = read_untrusted(file, 1 << 16).decode().splitlines()[0].strip()
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise ConfigError(f"cannot read a password from {str(file)!r}: {error}. Its first line must be it.") from error
    if password and broker.user is None:
        raise ConfigError("there is a password for the broker, and no user. Name one: mqtt://USER@HOST.")
    return password
