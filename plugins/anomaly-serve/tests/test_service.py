"""The service in this process: from an image to a committed verdict, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from threading import current_thread
from typing import Any

import numpy as np
import pytest

from anomaly_core import DataError
from anomaly_serve.faults import Busy, NotFound, NotReady, TooLarge, UnknownProduct
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.testing import BrightSpots, as_file, grey_image, prepared_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with prepared_service(tmp_path) as service:
        yield service


def test_a_verdict_is_that_of_the_detector_and_is_committed(service: Service) -> None:
    image = grey_image(spot=True)
    scored = service.score("bolt", as_file(image), name="a.png").result(10)
    own = BrightSpots().predict(image)
    judgement = scored.judgement
    assert judgement.score == own.score and judgement.is_anomalous and judgement.threshold == 0.5
    assert judgement.size == (48, 64) and judgement.version == 1 and judgement.settings == 1
    assert scored.map is not None and np.array_equal(scored.map, own.maps[0, 0])
    (region,) = judgement.regions or ()
    assert region["box"][0] in range(12, 20) and region["area"] > 100
    assert service.store.judgement(judgement.id) == judgement
    kept = service.store.image(judgement.id)
    assert kept is not None and kept[0] == as_file(image)


def test_pixels_and_files_of_all_kinds_agree(service: Service) -> None:
    image = grey_image(spot=True)
    forms = [image, *(as_file(image, kind) for kind in ("png", "bmp", "tiff"))]
    scores = {service.score("bolt", form).result(10).judgement.score for form in forms}
    assert len(scores) == 1
    grey = service.score("bolt", image[..., 0]).result(10).judgement
    assert grey.size == (48, 64)


def test_what_is_no_image_has_no_verdict(service: Service) -> None:
    for bad in (b"", b"no image", as_file(grey_image())[:80]):
        with pytest.raises(DataError):
            service.score("bolt", bad).result(10)
    with pytest.raises(UnknownProduct, match="Known: bolt"):
        service.score("nut", b"")
    with pytest.raises(NotFound, match="no version 7"):
        service.score("bolt", as_file(grey_image()), version=7).result(10)
    assert not service.store.judgements("bolt") and service.in_work == 0


def test_pixels_are_counted_before_decoding(tmp_path: Path) -> None:
    with prepared_service(tmp_path, options=ServiceOptions(max_pixels=100)) as service:
        for form in (as_file(grey_image()), grey_image()):
            with pytest.raises(TooLarge, match="64 x 48"):
                service.score("bolt", form).result(10)


def test_a_full_queue_refuses_and_an_end_answers_what_was_accepted(tmp_path: Path) -> None:
    slow = ServiceOptions(queue=3, opener=lambda path: BrightSpots(delay=0.1))
    with prepared_service(tmp_path, options=slow) as service:
        accepted = [service.score("bolt", grey_image()) for _ in range(3)]
        with pytest.raises(Busy) as refused:
            service.score("bolt", grey_image())
        assert refused.value.retry_after
        service.stop()
        assert all(future.done() for future in accepted)
        with pytest.raises(NotReady, match="ends"):
            service.score("bolt", grey_image())


def test_a_listener_that_fails_costs_no_verdict(service: Service) -> None:
    seen = []
    service.listeners += [lambda scored, image: 1 / 0, lambda scored, image: seen.append((scored, image.shape))]
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        scored = service.score("bolt", grey_image()).result(10)
        service.stop()
    assert seen == [(scored, (32, 32, 3))]


def test_another_version_judges_after_it_is_activated(service: Service, tmp_path: Path) -> None:
    second = service.add_version("bolt", tmp_path / "other", who="eva", note="taught on", parent=1)
    assert (second.number, second.is_active) == (2, False)
    assert service.score("bolt", grey_image()).result(10).judgement.version == 1
    assert service.score("bolt", grey_image(), version=2).result(10).judgement.version == 2
    service.activate("bolt", 2, "eva")
    assert service.score("bolt", grey_image()).result(10).judgement.version == 2
    for number in range(3, 7):  # more than stay loaded
        service.add_version("bolt", tmp_path / f"{number}", who="eva")
    assert service.score("bolt", grey_image(), version=1).result(10).judgement.version == 1


class Divided(BrightSpots):
    """Of several callers, as files of ONNX are; the name is of the thread that scored last."""

    def __init__(self, callers: int | None = None) -> None:
        super().__init__()
        self.callers, self.threads = callers, set[str]()

    def for_callers(self, callers: int) -> Divided:
        return self.__dict__.setdefault("parts", Divided(callers))

    def score(self, images: Any) -> Any:
        self.threads.add(current_thread().name.rpartition("_")[0])
        time.sleep(0.01)
        return super().score(images)


def test_a_detector_that_can_be_divided_scores_where_images_are_decoded(tmp_path: Path) -> None:
    detector = Divided()
    options = ServiceOptions(opener=lambda path: detector, threads=2, decoders=3)
    with prepared_service(tmp_path, options=options) as service:
        assert service.score("bolt", grey_image(spot=True)).result(10).judgement.is_anomalous
        futures = [service.score("bolt", grey_image(seed=i)) for i in range(20)]
        judgements = [future.result(10).judgement for future in futures]
        assert not any(one.is_anomalous for one in judgements)
        assert max(one.times["wait"] for one in judgements) > 20  # for a thread, too
    divided = detector.for_callers(2)
    assert divided.callers == 2 and divided.threads == detector.threads == {"decode"}


def test_settings_hold_from_now_on(service: Service) -> None:
    image = grey_image(spot=True)
    version = service.products["bolt"].active
    assert version is not None
    settings = service.apply_settings("bolt", 1, version.settings.calibration.with_threshold(1.5), None, "eva", "too many")
    judgement = service.score("bolt", image).result(10).judgement
    assert (judgement.settings, judgement.is_anomalous, judgement.threshold) == (settings.number, False, 1.5) == (2, False, 1.5)


def test_many_at_once_from_many_threads(service: Service) -> None:
    sizes: list[int] = []
    service.batched.append(lambda size, milliseconds: sizes.append(size))
    futures = [service.score("bolt", grey_image(seed=i), keep=False) for i in range(200)]
    wait(futures, 30)
    ids = [future.result().judgement.id for future in futures]
    assert len(set(ids)) == 200 and sum(sizes) == 200 and max(sizes) <= 8
    assert service.in_work == 0
