"""MQTT: verdicts, alarms and health to a broker, and images from it: at least once, in order, none lost while it is away."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from anomaly_core import AnomalyError, ConfigError, MissingLibrary, described
from anomaly_serve.answers import verdict_json
from anomaly_serve.doors.asking import ask, fault_of
from anomaly_serve.doors.broker import Broker
from anomaly_serve.doors.outbox import Outbox

WINDOW = 20  # verdicts that are on their way at once
IMAGES = 8  # images that the broker sends before one is acknowledged
AGAIN = 10.0  # seconds after which what the broker refused is told again
LOOK = 5.0  # seconds between two looks for alarms
SAVE = 0.5  # seconds between two times that what was acknowledged is kept
FLUSH = 3.0  # seconds that the end waits for acknowledgements
ABSENCE = 7 * 24 * 3600  # seconds for which the broker keeps images for a service that is away
log = logging.getLogger("anomaly_core.serve")


class MqttDoor:
    """Tells a broker what is judged, and judges the images that it sends. Topics, below the prefix:

    - ``PRODUCT/verdict``: each verdict as JSON, QoS 1, in order; from the history, after the broker or the service was away.
    - ``PRODUCT/alarm``: each alarm of drift as JSON, QoS 1.
    - ``status``: ``online`` or ``offline``, retained; the broker itself says ``offline`` when the service is gone.
    - ``PRODUCT/image``, or ``PRODUCT/image/NAME``: an image file as bytes, QoS 1: acknowledged when its verdict is in the
      history. With MQTT 5's response topic, the answer goes there too, with the correlation data.
    - ``PRODUCT/error``: why an image got no verdict.

    Args:
        service: what judges, with its store.
        broker: where the broker is.
        password: the user's.
        ca: a file of certificates that the broker's is signed by; None: those that the system trusts.

    Attributes:
        connected: whether the broker is there.

    Raises:
        MissingLibrary: paho-mqtt is not installed.
    """

    def __init__(self, service: Any, broker: Broker, password: str | None = None, ca: Path | None = None) -> None:
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties
        except ImportError as error:
            raise MissingLibrary(f'--mqtt needs paho-mqtt ({error}): pip install "anomaly-serve[mqtt]"') from error
        self.service, self.broker = service, broker
        self.connected = False
        self._store = service.store
        self._properties: Callable[[str], Any] = lambda kind: Properties(getattr(PacketTypes, kind))
        self._key = f"mqtt {broker.prefix}"[:150]
        self._wake, self._stopping = Event(), Event()
        self._thread = Thread(target=self._run, name="mqtt", daemon=True)
        self._acks: deque[tuple[int, Any]] = deque()
        self._incoming: deque[tuple[int, Any]] = deque()
        self._asked: list[tuple[int, Any, Future[Any]]] = []
        self._again: list[tuple[float, int, Any]] = []
        self._on_their_way: dict[int, tuple[str, str, int]] = {}  # mid -> kind, product or id, number
        self._connection = 0
        self._hold = self._saved = self._looked = 0.0
        self._said = ""
        self._client = client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, self._identity(), protocol=paho.MQTTv5, manual_ack=True
        )
        if broker.user is not None:
            client.username_pw_set(broker.user, password)
        if broker.tls:
            try:
                client.tls_set(None if ca is None else str(ca))
            except (OSError, ValueError) as error:
                raise ConfigError(f"--mqtt-ca {str(ca)!r}: {error}. Give certificates in PEM form.") from error
        client.will_set(f"{broker.prefix}/status", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, 15)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_publish, client.on_message = self._on_publish, self._on_message

    def __str__(self) -> str:
        return f"MQTT: tells {self.broker} below {self.broker.prefix!r}"

    def start(self) -> None:
        """Begin; the broker need not be there yet."""
        self._outbox = Outbox(self._store, self._key)
        told = self._store.state(f"{self._key} alarms")
        self._alarms: dict[str, int] = {} if told is None else dict(told)
        if told is None:  # alarms of the time before are no news
            self._alarms = {product: self._newest_alarm(product) for product in self._store.products()}
            self._store.keep_state(f"{self._key} alarms", self._alarms)
        self.service.listeners.append(self._committed)
        wishes = self._properties("CONNECT")
        wishes.SessionExpiryInterval, wishes.ReceiveMaximum = ABSENCE, IMAGES
        wishes.MaximumPacketSize = self.service.options.max_bytes + (1 << 16)
        self._client.connect_async(self.broker.host, self.broker.port, keepalive=30, clean_start=False, properties=wishes)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Take no more images, tell what can be told in three seconds, and say that the service is offline."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._committed in self.service.listeners:
            self.service.listeners.remove(self._committed)
        if self.connected:
            last = self._client.publish(f"{self.broker.prefix}/status", "offline", qos=1, retain=True)
            with suppress(RuntimeError, ValueError):  # the broker went away meanwhile, and says so itself
                last.wait_for_publish(FLUSH)
        self._client.disconnect()
        self._client.loop_stop()

    # ---- in paho's thread and the service's: only notes

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._say(f"the broker at {self.broker} refuses: {reason}. Check user, password and rights; it is tried again.")
            return
        prefix = self.broker.prefix
        client.publish(f"{prefix}/status", "online", qos=1, retain=True)
        client.subscribe(f"{prefix}/+/image/#", qos=1)
        self.connected = True
        self._say(f"connected to the broker at {self.broker}.", level=logging.INFO)
        self._wake.set()

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        self._say(f"the broker at {self.broker} cannot be reached. Verdicts are kept for it, and it is tried again.")

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.connected = False
        self._connection += 1
        if not self._stopping.is_set():
            self._say(f"the broker at {self.broker} is away ({reason}). Verdicts are kept for it.")

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        self._acks.append((mid, reason))
        self._wake.set()

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self._incoming.append((self._connection, message))
        self._wake.set()

    def _committed(self, scored: Any, image: Any) -> None:
        self._outbox.add(scored.judgement)
        self._wake.set()

    # ---- in the door's own thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(SAVE)
            self._wake.clear()
            self._step()
        end = time.monotonic() + FLUSH
        while time.monotonic() < end and (self._asked or (self.connected and len(self._outbox))):
            self._wake.wait(0.05)
            self._wake.clear()
            self._step()
        self._step(save=True)

    def _step(self, *, save: bool = False) -> None:
        try:
            self._take_acknowledgements()
            self._take_images()
            self._answer()
            self._tell()
            if save or time.monotonic() - self._saved >= SAVE:
                self._saved = time.monotonic()
                self._outbox.save()
        except Exception as error:  # such as of a database that is away; a door that closed itself would be worse
            self._say(f"MQTT: {described(error)}. It is tried again.")

    def _take_acknowledgements(self) -> None:
        while self._acks:
            mid, reason = self._acks.popleft()
            kind, name, number = self._on_their_way.pop(mid, ("", "", 0))
            if kind and reason.is_failure:
                self._say(f"the broker at {self.broker} refuses verdicts: {reason}. Check the user's rights; they are kept.")
                self._hold = time.monotonic() + AGAIN
                if kind == "verdict":
                    self._outbox.put_back(name)
            elif kind == "verdict":
                self._outbox.acknowledge(name)
            elif kind == "alarm":
                self._alarms[name] = max(number, self._alarms.get(name, 0))
                self._store.keep_state(f"{self._key} alarms", self._alarms)

    def _take_images(self) -> None:
        now = time.monotonic()
        due = [(connection, message) for moment, connection, message in self._again if moment <= now]
        self._again = [one for one in self._again if one[0] > now]
        while self._incoming:
            due.append(self._incoming.popleft())
        if self._stopping.is_set():  # the broker has them yet, and sends them again
            return
        for connection, message in due:
            product, name = self._named(message.topic)
            future = ask(self.service, product, bytes(message.payload), name, "mqtt")
            future.add_done_callback(lambda _: self._wake.set())
            self._asked.append((connection, message, future))

    def _answer(self) -> None:
        """Answer what was judged, and acknowledge the image."""
        done = [one for one in self._asked if one[2].done()]
        self._asked = [one for one in self._asked if not one[2].done()]
        for connection, message, future in done:
            error = future.exception()
            if error is not None and fault_of(error) == "busy":
                self._again.append(
                    (time.monotonic() + min(float(getattr(error, "retry_after", 1)), AGAIN), connection, message)
                )
                continue
            product, name = self._named(message.topic)
            if error is None:
                text = json.dumps(verdict_json(future.result().judgement), allow_nan=False)
            else:
                told = str(error) if isinstance(error, AnomalyError) else described(error)
                text = json.dumps({"product": product, "name": name, "error": told})
                log.warning("no verdict on an image by MQTT: %s", told)
                self._client.publish(f"{self.broker.prefix}/{product}/error", text, qos=1)
            self._respond(message, text)
            if connection == self._connection:  # else the broker sends it again, and the id would be another's
                self._client.ack(message.mid, message.qos)

    def _respond(self, message: Any, text: str) -> None:
        topic = getattr(message.properties, "ResponseTopic", "")
        if not topic:
            return
        if topic.startswith(("$", f"{self.broker.prefix}/")) or any(letter in topic for letter in "+#\0"):
            self._say(f"no answer goes to the response topic {topic!r}, which is the service's own or none.")
            return
        properties = self._properties("PUBLISH")
        if correlation := getattr(message.properties, "CorrelationData", None):
            properties.CorrelationData = correlation
        self._client.publish(topic, text, qos=1, properties=properties)

    def _tell(self) -> None:
        if self._outbox.is_behind:
            self._outbox.fill()
        now = time.monotonic()
        while self.connected and now >= self._hold and len(self._on_their_way) < WINDOW:
            judgement = self._outbox.take()
            if judgement is None:
                break
            topic = f"{self.broker.prefix}/{judgement.product}/verdict"
            sent = self._client.publish(topic, json.dumps(verdict_json(judgement), allow_nan=False), qos=1)
            self._on_their_way[sent.mid] = "verdict", judgement.id, 0
        if self.connected and now >= self._hold and now - self._looked >= LOOK:
            self._looked = now
            self._tell_alarms()

    def _tell_alarms(self) -> None:
        told = {(name, number) for kind, name, number in self._on_their_way.values() if kind == "alarm"}
        for product in self._store.products():
            for alarm in reversed(self._store.alarms(product)):
                if alarm.id > self._alarms.get(product, 0) and (product, alarm.id) not in told:
                    facts = {"id": alarm.id, "product": product, "version": alarm.version, "time": alarm.time}
                    text = json.dumps({**facts, "since": alarm.since, "text": alarm.text, "facts": alarm.facts})
                    sent = self._client.publish(f"{self.broker.prefix}/{product}/alarm", text, qos=1)
                    self._on_their_way[sent.mid] = "alarm", product, alarm.id

    def _newest_alarm(self, product: str) -> int:
        return max((alarm.id for alarm in self._store.alarms(product, limit=1)), default=0)

    def _named(self, topic: str) -> tuple[str, str]:
        """The product and the image's name, in a topic below the prefix."""
        product, _, rest = topic[len(self.broker.prefix) + 1 :].partition("/")
        return product, rest.removeprefix("image").removeprefix("/")

    def _identity(self) -> str:
        """The name that the broker knows this service by, the same after each start."""
        state = self._store.state(f"{self._key} client")
        if state is None:
            state = {"name": f"anomaly-{secrets.token_hex(8)}"}
            self._store.keep_state(f"{self._key} client", state)
        return str(state["name"])

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        """Say it, unless it was the last that was said."""
        if text != self._said:
            log.log(level, "%s", text)
            self._said = text
