"""The report of `anomaly doctor` on pretrained weights."""

from __future__ import annotations

from typing import Any

from anomaly_core import hookimpl


class Examiner:
    """Adds the section ``backbones`` to the report."""

    @hookimpl
    def anomaly_doctor(self, report: Any) -> None:
        """The weights that presets need, and where they are."""
        try:
            from anomaly_features.backbones import Backbones
            from anomaly_features.weights import needed

            needs = needed(Backbones())
        except Exception as error:  # torch, timm and torchvision may fail in any way if their builds do not match
            reason = f"{type(error).__name__}: {error}"
            report.problems.append(f"the backbones cannot be listed: {reason}. Do torch and torchvision come from one place?")
            return
        for need in needs:
            if need.problem:
                report.problems.append(f"backbone {need.name}: {need.problem}")
        absent = [need.name for need in needs if need.file is None and not need.problem]
        if absent:
            report.notes.append(
                f"no weights of {', '.join(absent)}: presets that need them need internet or `anomaly backbones fetch`."
            )
        report.sections["backbones"] = {
            need.name: f"{need.file.place}, {need.file.path}" if need.file else "not found" for need in needs
        }


OBSERVERS = Examiner()
