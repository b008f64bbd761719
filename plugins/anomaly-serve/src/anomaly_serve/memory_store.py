"""A store in memory, with the interface of the real one, until that is there."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomaly_core import Calibration
from anomaly_serve.records import Judgement, Settings, Version


class Store:
    def __init__(self) -> None:
        self.kept: dict[str, Judgement] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        self._products: dict[str, list[Version]] = {}
        self._settings: dict[tuple[str, int], list[Settings]] = {}

    @classmethod
    def open(cls, url: str | None, folder: Path, quota: int = 10 << 30) -> Store:
        return cls()

    def close(self) -> None:
        pass

    def record(self, judgement: Judgement, image: bytes | None, suffix: str = ".png") -> Future[None]:
        self.kept[judgement.id] = judgement
        if image is not None:
            self.files[judgement.id] = image, "image/" + suffix[1:]
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def judgement(self, id: str) -> Judgement | None:
        return self.kept.get(id)

    def judgements(self, product: str, *, limit: int = 50, before: str | None = None, **filters: Any) -> list[Judgement]:
        rows = [one for one in reversed(list(self.kept.values())) if one.product == product]
        for name, value in filters.items():
            rows = [one for one in rows if value is None or getattr(one, name) == value]
        return [one for one in rows if before is None or one.id < before][:limit]

    def image(self, id: str) -> tuple[bytes, str] | None:
        return self.files.get(id)

    def products(self) -> list[str]:
        return list(self._products)

    def add_product(self, name: str, who: str) -> None:
        self._products.setdefault(name, [])

    def versions(self, product: str) -> list[Version]:
        return list(self._products[product])

    def version(self, product: str, number: int) -> Version | None:
        return next((one for one in self._products[product] if one.number == number), None)

    def active(self, product: str) -> Version | None:
        return next((one for one in self._products[product] if one.is_active), None)

    def add_version(
        self,
        product: str,
        path: str,
        *,
        parent: int | None = None,
        who: str,
        note: str = "",
        calibration: Calibration,
        least_area: float | None = None,
    ) -> Version:
        number = len(self._products[product]) + 1
        version = Version(product, number, path, parent, time.time(), who, note, False)
        self._products[product].append(version)
        self.add_settings(product, number, calibration, least_area, who, "its own")
        return version

    def activate(self, product: str, number: int | None, who: str) -> None:
        self._products[product] = [replace(one, is_active=one.number == number) for one in self._products[product]]

    def settings(self, product: str, version: int) -> list[Settings]:
        return list(self._settings.get((product, version), []))

    def add_settings(
        self, product: str, version: int, calibration: Calibration, least_area: float | None, who: str, why: str
    ) -> Settings:
        own = self._settings.setdefault((product, version), [])
        own.append(Settings(len(own) + 1, calibration, least_area, time.time(), who, why))
        return own[-1]
