"""MQTT against a real mosquitto: nothing is lost while it is away, nor when the service is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doorstep import until

from anomaly_core import ConfigError, MissingLibrary
from anomaly_serve.doors import Broker, DoorOptions, MqttDoor, add_doors, mqtt
from anomaly_serve.doors.broker import SECRET, password_of
from anomaly_serve.service import Service
from anomaly_serve.testing import as_file, grey_image, prepared_service

MOSQUITTO = shutil.which("mosquitto") or ("/usr/sbin/mosquitto" if Path("/usr/sbin/mosquitto").exists() else None)
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


class Mosquitto:
    """A broker on this machine that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        (folder / "data").mkdir(parents=True)
        (folder / "acl").write_text("topic readwrite line/#\ntopic readwrite replies/#\n")
        user = "user root\n" if hasattr(os, "getuid") and os.getuid() == 0 else ""
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\nautosave_interval 1\n"
            f"persistence_location {folder / 'data'}/\n{user}acl_file {folder / 'acl'}\nmax_queued_messages 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}/line"

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)], stderr=subprocess.DEVNULL)
        until(self.answers, 30)

    def answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


class Plant:
    """What listens and sends on the other side of the broker."""

    def __init__(self, port: int) -> None:
        from paho.mqtt import client as paho

        self.heard: list[Any] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "plant", protocol=paho.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe([("line/#", 1), ("replies/#", 1)])
        self.client.on_message = lambda client, _, message: self.heard.append(message)
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.properties = Properties(PacketTypes.PUBLISH)
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", port, clean_start=False, properties=lasting)
        self.client.loop_start()

    def on(self, topic: str) -> list[Any]:
        return [message for message in list(self.heard) if message.topic == topic]

    def verdicts(self, product: str = "bolt") -> list[str]:
        return [json.loads(message.payload)["id"] for message in self.on(f"line/{product}/verdict")]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def plant(broker: Mosquitto) -> Iterator[Plant]:
    plant = Plant(broker.port)
    until(plant.client.is_connected)
    yield plant
    plant.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with prepared_service(tmp_path / "store") as service:
        yield service


def judge(service: Service, count: int) -> list[str]:
    """The ids of so many verdicts, in order."""
    image = as_file(grey_image())
    return [service.score("bolt", image).result(10).judgement.id for _ in range(count)]


@needs_broker
def test_verdicts_alarms_and_health_are_told(service: Service, broker: Mosquitto, plant: Plant, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "LOOK", 0.1)
    service.store.add_alarm("bolt", 1, "an old one", {}, since=1.0)
    with add_doors(service, DoorOptions(mqtt=broker.url)):
        until(lambda: plant.on("line/status"))
        ids = judge(service, 5)
        defect = service.score("bolt", as_file(grey_image(spot=True)), name="7.png").result(10).judgement
        service.store.add_alarm("bolt", 1, "images are brighter", {"by": 0.18}, since=12.5)
        until(lambda: len(plant.verdicts()) == 6 and plant.on("line/bolt/alarm"))
        time.sleep(0.3)
    assert plant.verdicts() == [*ids, defect.id]
    last = json.loads(plant.on("line/bolt/verdict")[-1].payload)
    assert last["is_anomalous"] is True and last["name"] == "7.png" and last["regions"] and last["version"] == 1
    (alarm,) = plant.on("line/bolt/alarm")  # once, and not the old one
    assert json.loads(alarm.payload)["text"] == "images are brighter" and json.loads(alarm.payload)["since"] == 12.5
    until(lambda: [bytes(one.payload) for one in plant.on("line/status")] == [b"online", b"offline"])
    late = Plant.__new__(Plant)
    Plant.__init__(late, broker.port)  # takes over the session, and is told the state that was kept
    until(lambda: any(one.retain and one.payload == b"offline" for one in late.on("line/status")))
    late.close()


@needs_broker
def test_while_the_broker_is_away_verdicts_go_on_and_all_arrive_in_order(
    service: Service, broker: Mosquitto, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    with add_doors(service, DoorOptions(mqtt=broker.url)) as doors:
        ids = judge(service, 10)
        until(lambda: plant.verdicts() == ids)
        broker.stop()
        (door,) = doors.doors
        assert isinstance(door, MqttDoor)
        until(lambda: not door.connected)
        ids += judge(service, 700)  # more than memory holds
        broker.start()
        until(lambda: len(set(plant.verdicts())) == len(ids), 40)
        ids += judge(service, 5)
        until(lambda: len(set(plant.verdicts())) == len(ids))
    assert list(dict.fromkeys(plant.verdicts())) == ids
    assert "is away" in caplog.text


@needs_broker
def test_images_are_judged_and_answered_on_the_response_topic(
    service: Service, broker: Mosquitto, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    with add_doors(service, DoorOptions(mqtt=broker.url)):
        until(lambda: plant.on("line/status"))
        plant.properties.ResponseTopic, plant.properties.CorrelationData = "replies/7", b"seven"
        plant.client.publish("line/bolt/image/lot 3/7.png", as_file(grey_image(spot=True)), 1, properties=plant.properties)
        plant.client.publish("line/bolt/image", as_file(grey_image()), 1)
        plant.client.publish("line/bolt/image/bad", b"no image", 1, properties=plant.properties)
        plant.client.publish("line/screws/image", as_file(grey_image()), 1)
        plant.properties.ResponseTopic = "line/status"
        plant.client.publish("line/bolt/image", as_file(grey_image()), 1, properties=plant.properties)
        until(lambda: len(plant.verdicts()) == 3 and len(plant.on("replies/7")) == 2)
        until(lambda: plant.on("line/bolt/error") and plant.on("line/screws/error"))
        until(lambda: "which is the service's own" in caplog.text)
    answers = [json.loads(message.payload) for message in plant.on("replies/7")]
    assert {message.properties.CorrelationData for message in plant.on("replies/7")} == {b"seven"}
    (answer,) = [one for one in answers if "score" in one]
    assert answer["is_anomalous"] is True and answer["name"] == "lot 3/7.png" and answer["source"] == "mqtt"
    (fault,) = [one for one in answers if "score" not in one]
    assert "image" in fault["error"] and fault["name"] == "bad"
    assert "no product" in json.loads(plant.on("line/screws/error")[0].payload)["error"]


SERVICE = """
    import sys, time
    from pathlib import Path
    from anomaly_serve.doors import DoorOptions, add_doors
    from anomaly_serve.testing import as_file, grey_image, prepared_service
    store, url, count, fresh = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "fresh"
    from anomaly_serve.service import Service, ServiceOptions
    from anomaly_serve.store import Store
    from anomaly_serve.testing import BrightSpots
    service = Service(Store.open(None, store), ServiceOptions(opener=lambda path: BrightSpots())).start()
    if fresh:
        service.add_version("bolt", store / "bright", who="test", activate=True)
    doors = add_doors(service, DoorOptions(mqtt=url))
    doors.start()
    image = as_file(grey_image())
    for _ in range(count):
        print(service.score("bolt", image).result(10).judgement.id, flush=True)
    time.sleep(60)
"""


@needs_broker
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_services_lose_no_verdict_and_no_image(broker: Mosquitto, plant: Plant, tmp_path: Path) -> None:
    ids: list[str] = []
    run: Callable[[int, str], subprocess.Popen[str]] = lambda count, fresh: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", textwrap.dedent(SERVICE), str(tmp_path / "store"), broker.url, str(count), fresh],
        stdout=subprocess.PIPE,
        text=True,
    )

    def killed(process: subprocess.Popen[str], count: int) -> None:
        assert process.stdout is not None
        ids.extend(process.stdout.readline().strip() for _ in range(count))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

    killed(run(30, "fresh"), 30)  # in the middle of telling
    until(lambda: any(one.payload == b"offline" for one in plant.on("line/status")))  # the broker says so itself
    plant.client.publish("line/bolt/image/while-away", as_file(grey_image()), 1)
    broker.stop()
    killed(run(20, "again"), 20)  # without a broker
    broker.start()
    last = run(3, "again")
    try:
        until(lambda: set(ids) <= set(plant.verdicts()), 40)
        until(lambda: "while-away" in [json.loads(one.payload)["name"] for one in plant.on("line/bolt/verdict")])
    finally:
        killed(last, 3)
    told = plant.verdicts()
    assert set(ids[:50]) <= set(told)
    assert [one for one in dict.fromkeys(told) if one in ids[:50]] == ids[:50]


@needs_broker
def test_a_broker_that_forbids_a_topic_is_told_again_and_loses_nothing(
    service: Service, broker: Mosquitto, plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "AGAIN", 0.2)
    acl = broker.config.parent / "acl"
    allowed = acl.read_text()
    acl.write_text("topic read line/#\ntopic write line/status\n")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    with add_doors(service, DoorOptions(mqtt=broker.url)):
        ids = judge(service, 3)
        until(lambda: "refuses verdicts" in caplog.text)
        acl.write_text(allowed)
        broker.process.send_signal(signal.SIGHUP)
        until(lambda: set(plant.verdicts()) == set(ids))


def test_a_broker_that_is_not_there_is_said_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        with add_doors(service, DoorOptions(mqtt=f"mqtt://127.0.0.1:{nobody.getsockname()[1]}")):
            judge(service, 2)
            until(lambda: "cannot be reached" in caplog.text)
            time.sleep(1.5)  # another try
    assert caplog.text.count("cannot be reached") == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mqtt://me:secret@host", "others can read"),
        ("http://host", "no address of a broker"),
        ("mqtt://host:99999", "ort out of range"),
        ("mqtt://host/line/+", "cannot begin a topic"),
    ],
)
def test_addresses_that_are_none_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Broker.of(url)
    assert "secret" not in str(caught.value)


def test_addresses_and_passwords_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Broker.of("mqtts://me@host/a/b/") == Broker("host", 8883, "a/b", "me", True)
    assert Broker.of("mqtt://host:77") == Broker("host", 77, "anomaly", None, False)
    (tmp_path / "password").write_text("word\n")
    assert password_of(Broker("host", 1, user="me"), tmp_path / "password") == "word"
    monkeypatch.setenv(SECRET, "other")
    assert password_of(Broker("host", 1, user="me"), None) == "other"
    with pytest.raises(ConfigError, match="no user"):
        password_of(Broker("host", 1), None)


def test_without_paho_the_message_says_what_to_install(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(MissingLibrary, match=r"anomaly-serve\[mqtt\]"):
        MqttDoor(service, Broker("host", 1))
