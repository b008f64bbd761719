"""The service: images of several products in, verdicts out, each committed to the store before it is answered. Thread-safe."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import Calibration, core_count, described, thread_count
from anomaly_serve.batching import Answer
from anomaly_serve.faults import NotFound, UnknownProduct
from anomaly_serve.identifiers import new_id
from anomaly_serve.incoming import Pixels, decoded
from anomaly_serve.judging import Asked, InWork, Scored, judged
from anomaly_serve.options import ServiceOptions as ServiceOptions
from anomaly_serve.places import Listener, Places, Telling
from anomaly_serve.products import Product, first_settings, require_name
from anomaly_serve.records import Judgement, Settings, Version

if TYPE_CHECKING:
    from anomaly_serve.store import Store
    from anomaly_serve.teaching import Teaching

LONGEST_NAME = 200  # characters of what a sender calls an image
PATIENCE = 60.0  # seconds that the end of the service waits for what was accepted


class Service:
    """Scores images of several products.

    Args:
        store: keeps versions, settings and verdicts; who opened it closes it after :meth:`stop`.
        options: the limits.

    Attributes:
        products: name -> product.
        listeners: each is called with (scored, image as the detector saw it) after the verdict was committed, in one thread.
            What it raises is a warning. Images stay in the queue until all have been told: a slow one slows the service.
        batched: each is called with (size, milliseconds) of every batch, and must be quick.
        judged: each is called with what was scored, in the thread that committed it, and must be quick; for figures.
        teaching: what teaches its products, once the page has begun it; it ends with the service.
    """

    def __init__(self, store: Store, options: ServiceOptions | None = None) -> None:
        self.store = store
        self.options = options or ServiceOptions()
        self.listeners: list[Listener] = []
        self.batched: list[Callable[[int, float], Any]] = []
        self.judged: list[Callable[[Scored], Any]] = []
        self.teaching: Teaching | None = None
        self._products: dict[str, Product] = {}
        self.products: Mapping[str, Product] = MappingProxyType(self._products)
        self._places = Places(self.options.queue)
        self._changing = RLock()  # what the store has, and what is loaded, change together

    # ---- life

    def start(self) -> Service:
        """Load the active version of every product; one that cannot be loaded is warned of, and the others serve."""
        self._pool = ThreadPoolExecutor(self.options.decoders or core_count(), "decode")
        self._loader = ThreadPoolExecutor(1, "load")
        self._telling = Telling(self.listeners, self._places.free)
        for name in self.store.products():
            product = self._add(name)
            product.restore()
            if product.fault:
                warnings.warn(f"product {name!r}: {product.fault}", stacklevel=2)
        self._places.opened = True
        return self

    def stop(self, patience: float = PATIENCE) -> None:
        """Take no more images, answer those that were accepted, and end."""
        if self.teaching is not None:
            self.teaching.stop()
        if not self._places.close(patience):
            return
        self._loader.shutdown(cancel_futures=True)
        self._pool.shutdown()
        for product in self._products.values():
            product.close()
        self._telling.close(patience)

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def runs(self) -> bool:
        """Whether it takes images."""
        return self._places.opened

    @property
    def in_work(self) -> int:
        """Images that were accepted and not answered yet."""
        return self._places.taken

    # ---- products, versions, settings

    def product(self, name: str) -> Product:
        """A product by its name; UnknownProduct if there is none."""
        try:
            return self._products[name]
        except KeyError:
            known = ", ".join(sorted(self._products)[:20]) or "none yet"
            raise UnknownProduct(f"there is no product {name[:80]!r}. Known: {known}. GET /v1/products lists them.") from None

    def add_product(self, name: str, who: str) -> Product:
        """A product, new unless it is known."""
        if name not in self._products:
            self.store.add_product(require_name(name), who)
            return self._add(name)
        return self._products[name]

    def add_version(
        self,
        product: str,
        path: str | Path,
        *,
        parent: int | None = None,
        who: str,
        note: str = "",
        taught: dict[str, Any] | None = None,
        activate: bool = False,
    ) -> Version:
        """Add the detector at a path as a new version of a product, which is new too if it is not known. Opens it, which takes
        as long as that takes. Raises what :func:`~anomaly_predict.open_detector` does.

        Args:
            product, path: of whom, and where the run or the exported file is.
            parent, who, note, taught: as of :meth:`~anomaly_serve.store.Store.add_version`.
            activate: let it judge at once.
        """
        path = Path(path).absolute()
        detector = self.options.open(path)
        own = self.add_product(product, who)
        first = first_settings(detector)
        record = self.store.add_version(product, str(path), parent=parent, who=who, note=note, taught=taught, **first)
        own.load(record.number, detector)
        if activate:
            self.activate(product, record.number, who)
        return self.store.version(product, record.number) or record

    def activate(self, product: str, number: int | None, who: str) -> None:
        """Have a version judge from now on, or none; loads it first, so that nothing changes if that fails."""
        own = self.product(product)
        if number is not None:
            own.load(number)
        with self._changing:
            self.store.activate(product, number, who)
            while not own.activate(number) and number is not None:  # others have taken its place in memory since
                own.load(number)

    def apply_settings(
        self, product: str, version: int, calibration: Calibration, least_area: float | None, who: str, why: str
    ) -> Settings:
        """Have a version judge by new settings from now on."""
        own = self.product(product)
        if self.store.version(product, version) is None:
            raise NotFound(f"{product!r} has no version {version}. GET /v1/products/{product}/versions lists them.")
        with self._changing:
            settings = self.store.add_settings(product, version, calibration, least_area, who, why)
            own.settle(settings, version)
        return settings

    # ---- images

    def score(
        self,
        product: str,
        image: bytes | Pixels,
        *,
        name: str = "",
        source: str = "http",
        version: int | None = None,
        keep: bool = True,
        record: bool = True,
    ) -> Future[Scored]:
        """Score an image; thread-safe, and does not wait.

        Args:
            image: the bytes of an image file, or uint8 (H, W, 3) RGB or (H, W).
            name: what the sender calls it.
            version: another version than the active one, which is loaded if it has to be.
            keep: whether the image is kept, with its verdict.
            record: whether the verdict is committed, and told to the listeners; without, it leaves no trace.

        Returns:
            Ends after the verdict is committed. Its exception is a :class:`ServiceError`, or a DataError where the image cannot
            be used.

        Raises:
            UnknownProduct, NoVersion, NotReady, Busy: at once.
        """
        own = self.product(product)
        self._places.take()
        try:
            answer: Future[Scored] = Future()
            answer.set_running_or_notify_cancel()  # a client that is gone cancels nothing: what was accepted is recorded
            asked = Asked(new_id(), product, name[:LONGEST_NAME], source, time.time())
            loaded = own.enter(version)
            if loaded is not None:
                self._begin(InWork(asked, own, loaded, record, keep and record, answer), image)
            else:
                assert version is not None  # the active one is loaded
                self._loader.submit(self._load_first, asked, own, version, record, keep and record, answer, image)
        except BaseException:
            self._places.free()
            raise
        return answer

    def map_of(self, judgement: Judgement) -> NDArray[np.float32] | None:
        """The map of a verdict, again from the kept image by the version that judged it; None if no image was kept, or the
        detector has no maps. Waits for it."""
        kept = self.store.image(judgement.id)
        if kept is None:
            return None
        return self.score(judgement.product, kept[0], version=judgement.version, record=False).result().map

    # ---- the way of an image

    def _load_first(
        self,
        asked: Asked,
        product: Product,
        number: int,
        record: bool,
        keep: bool,
        answer: Future[Scored],
        image: bytes | Pixels,
    ) -> None:
        try:
            loaded = None
            while loaded is None:
                product.load(number)
                loaded = product.enter(number)
            self._begin(InWork(asked, product, loaded, record, keep, answer), image)
        except BaseException as error:
            self._places.free()
            answer.set_exception(error)

    def _begin(self, job: InWork, image: bytes | Pixels) -> None:
        try:
            self._pool.submit(self._decode, job, image)
        except BaseException:
            job.loaded.engine.leave()
            raise

    def _decode(self, job: InWork, image: bytes | Pixels) -> None:
        try:
            job.queued = 1000 * (time.perf_counter() - job.since)
            name, most = job.asked.name, self.options.max_pixels
            job.incoming = decoded(job.loaded.detector, image, name=name, most_pixels=most, keep=job.keep)
            job.loaded.engine.put(job.incoming.placed, lambda answer: self._answered(job, answer))
        except BaseException as error:
            self._fail(job, error)

    def _answered(self, job: InWork, answer: Answer) -> None:
        answer = answer._replace(waited=answer.waited + job.queued)
        if job.loaded.engine.in_place:
            self._judge(job, answer)
            return
        try:
            self._pool.submit(self._judge, job, answer)
        except RuntimeError as error:  # the service has ended without patience
            self._fail(job, error)

    def _judge(self, job: InWork, answer: Answer) -> None:
        try:
            assert job.incoming is not None
            version = job.product.loaded(job.loaded.number) or job.loaded  # with the settings of this moment
            scored = judged(job.asked, version, job.incoming, answer)
            if not job.record:
                self._finish(job, scored)
                return
            kept = self.store.record(scored.judgement, job.incoming.file, job.incoming.suffix)
            kept.add_done_callback(lambda done: self._committed(job, scored, done.exception()))
        except BaseException as error:
            self._fail(job, error)

    def _committed(self, job: InWork, scored: Scored, error: BaseException | None) -> None:
        if error is not None:
            self._fail(job, error)
            return
        self._observe(scored)
        if self.listeners and job.incoming is not None:
            self._telling.put(scored, job.incoming.placed)  # which frees the place in the queue
            job.loaded.engine.leave()
            job.answer.set_result(scored)
        else:
            self._finish(job, scored)

    def _finish(self, job: InWork, scored: Scored) -> None:
        job.loaded.engine.leave()
        self._places.free()
        job.answer.set_result(scored)

    def _fail(self, job: InWork, error: BaseException) -> None:
        job.loaded.engine.leave()
        self._places.free()
        job.answer.set_exception(error)

    def _add(self, name: str) -> Product:
        callers = self.options.threads or thread_count()
        product = Product(name, self.store, self.options.open, callers=callers, batched=self._was_batched)
        return self._products.setdefault(name, product)

    def _was_batched(self, size: int, milliseconds: float) -> None:
        for observer in self.batched:
            observer(size, milliseconds)

    def _observe(self, scored: Scored) -> None:
        for observer in self.judged:
            try:
                observer(scored)
            except Exception as error:  # the verdict is committed, and is answered
                warnings.warn(f"a figure of {scored.judgement.id} is missing: {described(error)}", stacklevel=2)
