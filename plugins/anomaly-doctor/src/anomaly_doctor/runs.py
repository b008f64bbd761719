"""``anomaly doctor RUN``: whether a finished run or an exported file is as it was written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_core import CONFIG, MANIFEST, AnomalyError, PluginError, RunFolder, quoted, registry

if TYPE_CHECKING:
    from anomaly_doctor.doctor import Report

WHOLE = "as the run wrote it"


def examine_run(path: Path, report: Report) -> None:
    """Add what is known of a run's folder, or of a file that `anomaly export` wrote, and what is wrong with it."""
    try:
        if path.is_dir():
            _examine_folder(RunFolder(path), report)
        else:
            _examine_file(path, report)
    except AnomalyError as error:
        report.problems.append(str(error))


def _examine_folder(run: RunFolder, report: Report) -> None:
    place = str(run.folder)
    if not (run.folder / MANIFEST).exists() and not (run.folder / CONFIG).exists():
        report.problems.append(f"{place!r} is no run's folder: it has no {MANIFEST}. Give one that `anomaly run` made.")
        return
    manifest = run.manifest()
    status = manifest["status"]
    facts = {"status": status, "category": manifest.get("category", "")}
    versions = manifest.get("versions", {})
    report.sections["run"] = {"folder": place, **facts, **{f"made with {name}": text for name, text in versions.items()}}
    if status != "complete":
        cause = f": {manifest['error']}" if manifest.get("error") else ""
        report.problems.append(f"the run in {place!r} is {status!r}{cause}. Go on with `anomaly run --resume {quoted(place)}`.")
        return
    differing = run.differing()
    names = [*dict.fromkeys([*manifest.get("files", {}), *differing])]
    report.sections["files"] = {name: "differs" if name in differing else WHOLE for name in names}
    report.problems += differing.values()
    if not differing:
        _examine_kept(run, report)


def _examine_kept(run: RunFolder, report: Report) -> None:
    """The graphs that the run keeps for `anomaly predict`, each in the folder's file that an engine opens."""
    config, states = run.config(), dict[str, str]()
    for name, component in registry.engines.items():
        try:
            if not component.spec.opener:
                continue
            component.require_library()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                opened = component.load("opener")(run, config, name, None)
        except PluginError:  # its library is not installed, as other sections say
            continue
        problems = [f"{one.message} `anomaly export {quoted(str(run.folder))}` makes it anew." for one in told]
        report.problems += [text for text in problems if text not in report.problems]  # two engines may open one file
        states |= {name: "differs" if told else WHOLE} if told or opened is not None else {}
    if states:
        report.sections["kept graph"] = states


def _examine_file(path: Path, report: Report) -> None:
    for name, component in registry.engines.items():
        if path.suffix.lower() in component.spec.suffixes:
            component.load("reader")(path, name, None)
            report.sections["file"] = {"file": str(path), "engine": name, "state": "as `anomaly export` wrote it"}
            return
    report.problems.append(f"{str(path)!r} is neither a run's folder nor a file that an engine opens. Check the path.")
