"""The service's memory: verdicts, kept images, versions, settings, changes, alarms and jobs, in SQLite or PostgreSQL."""

from anomaly_serve.store.store import Store

__all__ = ["Store"]
