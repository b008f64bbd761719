"""Places in the queue: how many images are in work at once, and the end, which waits for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

from anomaly_core import described
from anomaly_serve.faults import Busy, NotReady
from anomaly_serve.incoming import Pixels
from anomaly_serve.judging import Scored

Listener = Callable[[Scored, Pixels], Any]


class Places:
    """The places for images in work, of all products.

    Attributes:
        taken: how many are.
        opened: whether an image can get one.
    """

    def __init__(self, count: int) -> None:
        self.taken = 0
        self.opened = False
        self._count = count
        self._changed = Condition()

    def take(self) -> None:
        """Take one; NotReady if they are closed, Busy if none is free."""
        with self._changed:
            if not self.opened:
                raise NotReady("the service ends, and takes no more images. Send it again in a moment.", retry_after=5)
            if self.taken >= self._count:
                raise Busy(
                    f"{self.taken} images are in work, as many as this service takes at once. Send it again later, as "
                    "Retry-After says, or start the service with a greater --queue.",
                    retry_after=1,
                )
            self.taken += 1

    def free(self) -> None:
        """Give one back."""
        with self._changed:
            self.taken -= 1
            if not self.taken:
                self._changed.notify_all()

    def close(self, patience: float) -> bool:
        """Give none any more, and wait in seconds until all are free; False if they were closed."""
        with self._changed:
            if not self.opened:
                return False
            self.opened = False
            self._changed.wait_for(lambda: not self.taken, patience)
            return True


class Telling:
    """One thread that tells listeners of verdicts, in the order in which they were committed."""

    def __init__(self, listeners: list[Listener], told: Callable[[], Any]) -> None:
        self._listeners = listeners
        self._told = told
        self._waiting: SimpleQueue[tuple[Scored, Pixels] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="listen", daemon=True)
        self._thread.start()

    def put(self, scored: Scored, image: Pixels) -> None:
        """Have the listeners told, and ``told`` called after that."""
        self._waiting.put((scored, image))

    def close(self, patience: float) -> None:
        """Tell what waits, then end."""
        self._waiting.put(None)
        self._thread.join(patience)

    def _serve(self) -> None:
        while self._next():  # a function of its own, so that an idle thread keeps no image
            pass

    def _next(self) -> bool:
        if (item := self._waiting.get()) is None:
            return False
        for listener in list(self._listeners):
            try:
                listener(*item)
            except Exception as error:
                warnings.warn(f"a listener failed on {item[0].judgement.id}: {described(error)}", stacklevel=2)
        self._told()
        return True
