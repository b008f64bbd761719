"""Where the metadata lies in an exported file, and the digest of all the rest: one class per format, and no engine.

A container is read before an engine sees the file: it runs nothing, holds no weights in memory, and opens only regular files,
so that it never waits. Its digest covers every byte that an engine reads but the metadata, which has a digest of its own:
another threshold leaves the digest of graph and weights alone.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol
from xml.parsers import expat
from xml.sax.saxutils import escape

from anomaly_core import RunError, open_untrusted, parse_json, read_untrusted

KEY = "anomaly"  # the metadata's key in every format
PLAIN = f"{KEY}."  # of what an ONNX file says in plain text too, for programs without JSON
ENTRY = f"extra/{KEY}.json"  # in a TorchScript archive

_LARGEST_METADATA = 1 << 25  # bytes: the scores of more than a million held-out images
_LARGEST_CODE = 1 << 28  # bytes that the compressed records of a TorchScript archive may unpack to
_MOST_FIELDS = 100_000  # of a message in an ONNX model; a graph has one for each node and weight
_DEEPEST = 64  # elements within each other in OpenVINO's .xml
_CHUNK = 1 << 20
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # protobuf's kinds of fields; fixed ones with their bytes

Span = tuple[int, int]  # first byte, and the one after the last


class Container(Protocol):
    """An exported file without its engine. ``metadata`` is the text of its metadata; None if it has none."""

    metadata: str | None

    def digest(self) -> str:
        """The SHA-256 of graph and weights: of everything but the metadata; OSError and ValueError as on opening."""

    def write(self, target: Path, metadata: str) -> None:
        """A copy with other metadata and the same graph, byte for byte; OpenVINO's weights stay where they are."""


def open_container(path: Path) -> Container:
    """The container in a file, by its suffix; OSError if it is missing or no regular file, ValueError if it is damaged,
    RunError if OpenVINO's weights are not beside it."""
    classes: dict[str, Callable[[Path], Container]] = {".onnx": OnnxFile, ".xml": OpenvinoFile}
    return classes.get(path.suffix.lower(), TorchscriptFile)(path)


class OnnxFile:
    """ONNX: a protobuf message, whose fields 14 are the metadata's pairs of key and value. ``plain``: see :func:`plain`."""

    _GRAPH, _METADATA = 7, 14
    _INITIALIZER, _EXTERNAL = 5, 13  # of a graph, of an initializer

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: str | None = None
        self.plain: dict[str, str] = {}
        self._spans: list[Span] = []
        with open_untrusted(path) as file:
            for number, whole, content in _fields(file, (0, file.seek(0, 2))):
                if number == self._METADATA:
                    self._keep(file, whole, content)
                elif number == self._GRAPH:
                    self._require_own_weights(file, content)

    def _require_own_weights(self, file: BinaryIO, graph: Span) -> None:
        for number, _, initializer in _fields(file, graph):
            if number == self._INITIALIZER and any(inner == self._EXTERNAL for inner, *_ in _fields(file, initializer)):
                raise ValueError("it has weights in another file, which no digest covers")

    def _keep(self, file: BinaryIO, whole: Span, content: Span) -> None:
        pair = {number: value for number, _, value in _fields(file, content)}
        key = _text(file, pair.get(1, (0, 0)))
        if key != KEY and not key.startswith(PLAIN):
            return
        if (key == KEY and self.metadata is not None) or key in self.plain:
            raise ValueError("it has metadata twice")
        self._spans.append(whole)
        text = _text(file, pair.get(2, (0, 0)))
        if key == KEY:
            self.metadata = text
        else:
            self.plain[key] = text

    def digest(self) -> str:
        with open_untrusted(self.path) as file:
            return _sha256(_outside(file, self._spans))

    def write(self, target: Path, metadata: str) -> None:
        with open_untrusted(self.path) as file, target.open("wb") as copy:
            copy.writelines(_outside(file, self._spans))
            for key, text in {KEY: metadata, **plain(metadata)}.items():
                copy.write(field(self._METADATA, field(1, key.encode()) + field(2, text.encode())))


class OpenvinoFile:
    """OpenVINO: an ``.xml`` file, whose runtime info holds the metadata, and a ``.bin`` file beside it with the weights."""

    _ELEMENT = re.compile(rb'<anomaly\s+value="([^"<>]*)"\s*/>')

    def __init__(self, path: Path) -> None:
        self.metadata: str | None = None
        self._text = read_untrusted(path)
        self._weights = path.with_suffix(".bin")
        self._value: Span | None = None
        self._needed = 0  # bytes of weights
        self._place: list[str] = []  # the open elements
        parser = expat.ParserCreate()
        parser.StartElementHandler = lambda name, attributes: self._begin(name, attributes, parser.CurrentByteIndex)
        parser.EndElementHandler = lambda name: self._place.pop()
        parser.StartDoctypeDeclHandler = _no_doctype
        try:
            parser.Parse(self._text, True)
        except expat.ExpatError as error:
            raise ValueError(f"it is not XML: {error}") from error
        try:
            with open_untrusted(self._weights) as file:
                size = file.seek(0, 2)
        except FileNotFoundError:
            step = "are not beside it. Copy both files to one folder."
            raise RunError(f"cannot use {str(path)!r}: its weights, {self._weights.name}, {step}") from None
        except OSError as error:
            raise OSError(f"of {self._weights.name}: {error}") from error
        if size < self._needed:
            raise ValueError(f"{self._weights.name} has {size} bytes, of {self._needed} that the .xml names")

    def _begin(self, name: str, attributes: dict[str, str], position: int) -> None:
        if len(self._place) == _DEEPEST:
            raise ValueError(f"its elements are nested more than {_DEEPEST} deep")
        self._place.append(name)
        if self._place == ["net", "rt_info", KEY]:
            element = self._ELEMENT.match(self._text, position)
            if self._value or not element or len(element[1]) > _LARGEST_METADATA:
                raise ValueError("its metadata is there twice, too large, or in another form")
            self._value, self.metadata = element.span(1), attributes["value"]
        elif name == "data" and "offset" in attributes:
            extent = (attributes["offset"], attributes.get("size", ""))
            if not all(re.fullmatch("[0-9]{1,18}", number) for number in extent):
                raise ValueError("a constant has no place among the weights")
            self._needed = max(self._needed, sum(map(int, extent)))

    def digest(self) -> str:
        first, last = self._value or (0, 0)
        with open_untrusted(self._weights) as file:
            return _sha256([self._text[:first], self._text[last:]], _outside(file, []))

    def write(self, target: Path, metadata: str) -> None:
        first, last = self._value or (0, 0)
        value = escape(metadata, {'"': "&quot;"}).encode()
        target.write_bytes(self._text[:first] + value + self._text[last:])


class TorchscriptFile:
    """TorchScript: a zip archive, whose last record, ``extra/anomaly.json``, is the metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_untrusted(path) as file:
            try:
                self._examine(zipfile.ZipFile(file))
            except Exception as error:  # a damaged archive raises a dozen kinds
                raise ValueError(f"it is no sound TorchScript archive: {error or type(error).__name__}") from error

    def _examine(self, archive: zipfile.ZipFile) -> None:
        records = archive.infolist()
        if sum(record.file_size for record in records if record.compress_type) > _LARGEST_CODE:
            raise ValueError(f"its compressed records unpack to more than {_LARGEST_CODE} bytes")
        self._root = records[0].filename.partition("/")[0]
        ours = [record for record in records if record.filename == f"{self._root}/{ENTRY}"]
        self._others = [record for record in records if record not in ours]
        self._end = ours[0].header_offset if ours else archive.start_dir  # of the others
        self.metadata: str | None = None
        if ours:
            if ours[0].compress_type or ours[0].file_size > _LARGEST_METADATA:
                raise ValueError("its metadata is compressed, or too large")
            self.metadata = archive.read(ours[0]).decode()

    def _require_last(self) -> None:
        if any(record.header_offset >= self._end for record in self._others):
            raise ValueError("its metadata is not its last record")

    def digest(self) -> str:
        self._require_last()
        names = "filename header_offset compress_type flag_bits CRC compress_size file_size".split()
        facts = [[getattr(record, name) for name in names] for record in self._others]
        with open_untrusted(self.path) as file:
            return _sha256(_outside(file, [(self._end, file.seek(0, 2))]), [repr(facts).encode()])

    def write(self, target: Path, metadata: str) -> None:
        self._require_last()
        with open_untrusted(self.path) as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, _CHUNK)
        with zipfile.ZipFile(target, "a") as archive:
            # A new record overwrites the directory of the archive; from here on, it overwrites the old metadata too.
            archive.start_dir = self._end
            archive.filelist[:] = [record for record in archive.filelist if record.header_offset < self._end]
            archive.NameToInfo = {record.filename: record for record in archive.filelist}
            archive.writestr(zipfile.ZipInfo(f"{self._root}/{ENTRY}"), metadata)


def plain(metadata: str) -> dict[str, str]:
    """What a verdict needs of the metadata, as text without JSON: ``anomaly.threshold`` and ``anomaly.map_threshold`` (empty
    without one), and ``anomaly.scores``, those of normal images, sorted, with blanks between. Nothing of unsound metadata."""
    try:
        calibration = parse_json(metadata)["calibration"]
        numbers = {name: calibration.get(name) for name in ("threshold", "map_threshold")}
        texts = {name: "" if number is None else repr(float(number)) for name, number in numbers.items()}
        texts["scores"] = " ".join(repr(float(score)) for score in calibration.get("scores", ()))
    except (AttributeError, KeyError, TypeError, ValueError):  # whoever reads the metadata says what is wrong with it
        return {}
    return {f"{PLAIN}{name}": text for name, text in texts.items()}


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message: bytes, text or a message."""
    return _varint(8 * number + _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _fields(file: BinaryIO, span: Span) -> Iterator[tuple[int, Span, Span]]:
    """The number, the whole and the content of each field of a protobuf message."""
    start, end = span
    for _ in range(_MOST_FIELDS):
        if start == end:
            return
        file.seek(start)
        number, kind = divmod(_read_varint(file), 8)
        length = _read_varint(file) if kind == _BYTES else 0
        content = file.tell()
        last = content + length
        if kind == _VARINT:
            _read_varint(file)
            last = file.tell()
        elif kind in _FIXED:
            last += _FIXED[kind]
        elif kind != _BYTES:
            break
        if last > end:
            break
        yield number, (start, last), (content, last)
        start = last
    raise ValueError("it is cut short, or no ONNX model")


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("it is cut short, or no ONNX model")


def _text(file: BinaryIO, span: Span) -> str:
    first, last = span
    if last - first > _LARGEST_METADATA:
        raise ValueError(f"its metadata has more than {_LARGEST_METADATA} bytes")
    file.seek(first)
    return file.read(last - first).decode()


def _outside(file: BinaryIO, spans: Iterable[Span]) -> Iterator[bytes]:
    """The bytes of a file outside some spans, in parts."""
    size = file.seek(0, 2)
    start = 0
    for first, last in [*spans, (size, size)]:
        file.seek(start)
        while start < first and (chunk := file.read(min(_CHUNK, first - start))):
            start += len(chunk)
            yield chunk
        start = last


def _sha256(*sources: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        for chunk in source:
            digest.update(chunk)
    return digest.hexdigest()


def _no_doctype(*_: object) -> NoReturn:
    raise ValueError("it declares a document type")  # entities could make a large file of a small one
