"""Jobs in the background: one at a time, kept in the store, so that a restart finds them."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from anomaly_core import AnomalyError, described
from anomaly_serve.faults import NotFound, Unusable
from anomaly_serve.records import Job
from anomaly_serve.teaching.process import Cancelled, WorkerProcess

SAVED_EVERY = 2.0  # seconds between two writes of a job's progress
AGAIN = ("interrupted", "failed", "cancelled")
log = logging.getLogger("anomaly_core.serve")


class JobStore(Protocol):
    """What jobs need of the store."""

    def products(self) -> list[str]: ...
    def save_job(self, job: Job) -> None: ...
    def jobs(self, product: str, limit: int = 100) -> list[Job]: ...
    def job(self, id: str) -> Job | None: ...


class Running:
    """A job that is being done: what it says of itself, and its end."""

    def __init__(self, job: Job, save: Callable[[Job], None], process: WorkerProcess) -> None:
        self.job = job
        self.process = process
        self._save = save
        self._saved = 0.0

    def told(self, line: dict[str, Any]) -> None:
        """A line of progress of the process."""
        done, total = line.get("done"), line.get("total")
        self.tell(line["doing"], done / total if done is not None and total else None)

    def tell(self, message: str, progress: float | None = None, **facts: Any) -> None:
        """Say what is going on; ``facts`` join those of the job and are kept at once."""
        told = {"message": message, "progress": progress, "updated": time.time()}
        self.job = replace(self.job, **told, facts={**self.job.facts, **facts})  # type: ignore[arg-type]
        if facts or time.monotonic() - self._saved >= SAVED_EVERY:
            self._saved = time.monotonic()
            self._save(self.job)


class Jobs:
    """The queue of jobs.

    Args:
        store: keeps them.
        work: does one, in the one thread of the queue; it returns what is to be said at the end, and raises AnomalyError with
            why it failed.
        process: the process of a job.
    """

    def __init__(self, store: JobStore, work: Callable[[Running], str], process: Callable[[Job], WorkerProcess]) -> None:
        self._store, self._work, self._process = store, work, process
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._running: Running | None = None
        self._cancelled: set[str] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="teaching", daemon=True)

    def start(self) -> None:
        """Begin. What ran when the service ended is interrupted; what waited goes on waiting."""
        waiting = []
        for product in self._store.products():
            for job in self._store.jobs(product):
                if job.state == "running":
                    self._end(job, "interrupted", "the service ended while this ran")
                elif job.state == "waiting":
                    waiting.append(job)
        for job in sorted(waiting, key=lambda one: one.created):
            self._queue.put(job.id)
        self._thread.start()

    def stop(self) -> None:
        """End, and with it the process of the job that runs, which is interrupted."""
        with self._lock:
            self._stopping = True
            running = self._running
        if running is not None:
            running.process.end()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, product: str, who: str, facts: dict[str, Any]) -> Job:
        """Put a job in the queue."""
        now = time.time()
        job = Job(
            f"{int(now * 1000):012x}{secrets.token_hex(4)}", product, "waiting", now, now, who, message="waiting", facts=facts
        )
        self._store.save_job(job)
        self._queue.put(job.id)
        return job

    def again(self, id: str, who: str) -> Job:
        """Start a job that was interrupted, cancelled or failed once more; Unusable if it cannot be."""
        job = self.get(id)
        if job.state not in AGAIN:
            raise Unusable(f"this job is {job.state}: only one that was interrupted, cancelled or failed is started again.")
        again = self.submit(job.product, who, {name: value for name, value in job.facts.items() if name in job.facts["asked"]})
        self._end(job, job.state, job.message, again=again.id)
        return again

    def cancel(self, id: str) -> Job:
        """End a job that waits or runs; others stay as they are."""
        with self._lock:
            job = self.get(id)
            if self._running is not None and self._running.job.id == id:
                self._cancelled.add(id)
                self._running.process.end()
                return self._running.job
            return self._end(job, "cancelled", "cancelled while it waited") if job.state == "waiting" else job

    def get(self, id: str) -> Job:
        """A job as it is now; NotFound if there is none."""
        with self._lock:
            if self._running is not None and self._running.job.id == id:
                return self._running.job
        job = self._store.job(id)
        if job is None:
            raise NotFound("there is no such job. Load the page again.")
        return job

    def of(self, product: str, limit: int = 100) -> list[Job]:
        """The last jobs of a product, the newest first."""
        with self._lock:
            running = self._running.job if self._running else None
            jobs = [running if running and running.id == job.id else job for job in self._store.jobs(product, limit)]
        return sorted(jobs, key=lambda job: job.created, reverse=True)

    def _loop(self) -> None:
        while (id := self._queue.get()) is not None and not self._stopping:
            try:
                self._do(id)
            except Exception as error:  # the store failed: the next job may go better
                log.exception("a job could not be done: %s", described(error))

    def _do(self, id: str) -> None:
        with self._lock:
            job = self._store.job(id)
            if job is None or job.state != "waiting" or self._stopping:
                return
            job = replace(job, state="running", message="starting", updated=time.time())
            self._store.save_job(job)
            running = self._running = Running(job, self._store.save_job, self._process(job))
        try:
            message = self._work(running)
            state, progress = "done", 1.0
        except Cancelled:
            with self._lock:
                by_hand = id in self._cancelled
            state, message = ("cancelled", "cancelled") if by_hand else ("interrupted", "the service ended while this ran")
            progress = None
        except AnomalyError as error:
            state, message, progress = "failed", str(error), None
        except Exception as error:
            log.exception("a job failed")
            state, message, progress = "failed", f"{described(error)}. The service's log has the details.", None
        finally:
            running.process.end(mark=False)
        with self._lock:
            self._running = None
            self._cancelled.discard(id)
            self._end(running.job, state, message, progress)

    def _end(self, job: Job, state: Any, message: str, progress: float | None = None, **facts: Any) -> Job:
        ended = replace(job, state=state, message=message, progress=progress, updated=time.time(), facts={**job.facts, **facts})
        self._store.save_job(ended)
        return ended
