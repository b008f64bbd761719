"""Random damage to the files of a finished run: to bytes, JSON, tables, YAML and tensors, and files that are none."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

VALUES: list[Any] = [
    None, "", "text", "0.5", "nan", True, False, 0, 1, -1, 2**70, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf"),
    -float("inf"), [], {}, [1], {"a": 1}, [[]], "\x00", "\ud800", "../../etc/passwd", "/etc/passwd", "9" * 5000,
]  # fmt: skip
FILES = ("manifest.json", "calibration.json", "metrics.json", "predictions.csv", "config.yaml", "model.safetensors")


def mutate(folder: Path, chance: random.Random) -> str:
    """Damage one file of a run; what was done, in words."""
    path = folder / chance.choice(FILES)
    kinds = [bytes_changed, special, bytes_changed, *PARSED[path.suffix]]
    what = chance.choice(kinds)(path, chance)
    return f"{path.name}: {what}"


def bytes_changed(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = chance.randrange(max(1, len(content)))
    match chance.randrange(6):
        case 0:
            content[place] ^= 1 << chance.randrange(8)
            what = f"bit of byte {place} flipped"
        case 1:
            del content[place:]
            what = f"cut after {place} bytes"
        case 2:
            content.clear()
            what = "emptied"
        case 3:
            content[place:place] = chance.randbytes(chance.randrange(1, 9))
            what = f"bytes put in at {place}"
        case 4:
            content[:] = chance.randbytes(len(content))
            what = "random bytes"
        case _:
            content += bytes(content)
            what = "doubled"
    path.write_bytes(content)
    return what


def special(path: Path, chance: random.Random) -> str:
    """No regular file in its place."""
    path.unlink()
    kind = chance.choice(["missing", "folder", "pipe", "link to itself", "dead link", "endless device"])
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to({"link to itself": path.name, "dead link": "nowhere", "endless device": "/dev/zero"}[kind])
    return kind


def json_changed(path: Path, chance: random.Random) -> str:
    values = json.loads(path.read_text("utf-8"))
    holder, key = _somewhere(values, chance)
    match chance.randrange(4):
        case 0:
            del holder[key]
            what = f"{key} left out"
        case 1 if isinstance(holder, dict):
            holder["other"] = holder.pop(key)
            what = f"{key} renamed"
        case 2 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * chance.choice([-1, 1e-3, 1.5, 1e6]) + chance.choice([0, 1])
            what = f"{key} is {holder[key]}"
        case _:
            value = chance.choice(VALUES)
            holder[key] = value
            what = f"{key} is {str(value)[:20]!r}"
    path.write_bytes(json.dumps(values).encode("utf-8", "surrogatepass"))
    return what


def nested(path: Path, chance: random.Random) -> str:
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    return "nested 100,000 deep"


def _somewhere(values: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container in a tree, and one of its keys."""
    while True:
        key = chance.choice(list(values) if isinstance(values, dict) else range(len(values)))
        inner = values[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            return values, key
        values = inner


def table_changed(path: Path, chance: random.Random) -> str:
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
    row, column = chance.randrange(len(rows)), chance.randrange(len(rows[0]))
    match chance.randrange(6):
        case 0:
            for cells in rows:
                del cells[column]
            what = f"column {column} left out"
        case 1:
            rows[row][column] = str(chance.choice([*VALUES, "1e999", "=1+1", "-nan"])).encode("utf-8", "replace").decode()
            what = f"cell {row}, {column} is {rows[row][column][:20]!r}"
        case 2:
            del rows[row]
            what = f"row {row} left out"
        case 3:
            rows.append(rows[row])
            what = f"row {row} doubled"
        case 4:
            rows[row] += ["more"] * 3
            what = f"row {row} too long"
        case _:
            del rows[1:]
            what = "a header alone"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), "utf-8")
    return what


def yaml_changed(path: Path, chance: random.Random) -> str:
    values = yaml.safe_load(path.read_text("utf-8"))
    holder, key = _somewhere(values, chance)
    if chance.random() < 0.3:
        del holder[key]
        what = f"{key} left out"
    else:
        holder[key] = chance.choice([value for value in VALUES if value != "\ud800"])
        what = f"{key} is {str(holder[key])[:20]!r}"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    return what


def tensors_changed(path: Path, chance: random.Random) -> str:
    state = load_file(path)
    name = chance.choice(list(state))
    tensor = state.pop(name)
    match chance.randrange(7):
        case 0:
            what = "left out"
        case 1:
            state[f"{name}.other"] = tensor
            what = "renamed"
        case 2:
            state[name] = torch.zeros([*tensor.shape, 2])
            what = "of another shape"
        case 3:
            state[name] = torch.full(tensor.shape, float("nan"))
            what = "of NaN"
        case 4:
            state[name] = torch.empty(0)
            what = "empty"
        case 5:
            state[name] = tensor.double() if tensor.is_floating_point() else tensor.float()
            what = "of another type"
        case _:
            state |= {name: tensor, "strange.tensor": torch.ones(3)}
            what = "beside a strange one"
    save_file(state, path)
    return f"tensor {name} {what}"


PARSED: dict[str, list[Callable[[Path, random.Random], str]]] = {
    ".json": [json_changed] * 5 + [nested],
    ".csv": [table_changed] * 4,
    ".yaml": [yaml_changed] * 4,
    ".safetensors": [tensors_changed] * 4,
}


def copied(run: Path, folder: Path) -> Path:
    """A fresh copy of a run's folder in place of an earlier one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder, symlinks=True)
    return folder
