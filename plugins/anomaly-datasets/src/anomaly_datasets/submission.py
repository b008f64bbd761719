"""The folder that MVTec AD 2's evaluation server judges: an anomaly map and a mask of each private image, and its archive.

The server wants ``anomaly_images/<object>/<part>/<image>.tiff``, of float16, and ``anomaly_images_thresholded``, the same with
PNG files of 0 and 255, both at the images' own size, in a ``.tar.gz`` that holds all eight objects. The layout is that of
public descriptions; the publisher's own checker (``MVTecAD2_public_code_utils``) is the authority.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import Progress, RunError, build_data, exclusive, quiet, write_whole
from anomaly_datasets.facts import MVTEC_AD2

if TYPE_CHECKING:
    from anomaly_predict import RunDetector

PARTS = ("test_private", "test_private_mixed")
MAPS, MASKS, ARCHIVE = "anomaly_images", "anomaly_images_thresholded", "submission.tar.gz"
SAMPLE_FORMAT, IEEE_FLOAT = 339, 3  # the TIFF tag that says what the bits of a sample are
SERVER = "https://benchmark.mvtec.com"


def submit(detector: RunDetector, output: Path, root: str | None = None, progress: Progress = quiet) -> list[tuple[str, int]]:
    """Score the private images of a run's categories and write their maps and masks below ``output``.

    Args:
        detector: a finished run on ``mvtec_ad2``.
        output: the submission's folder; it may hold other objects, of other runs.
        root: the data set's folder; None: the run's.
        progress: shows the progress.

    Returns:
        For each object how many images it has.

    Raises:
        RunError: the run is of another data set, has no map threshold or sees a part of the images, or ``output`` holds its
            object already.
        DataError: a private image is missing or cannot be read.
    """
    config = detector.config
    if config.data.name.rpartition(":")[2] != "mvtec_ad2":
        raise RunError(
            f"the run is of the data set {config.data.name!r}, and the server judges mvtec_ad2. Name a run that was started "
            "with --data mvtec_ad2."
        )
    if detector.calibration.map_threshold is None:
        raise RunError(
            "the run has no map threshold, which its masks need: the method makes no anomaly maps, or no normal image was held "
            "out. Name a run with data.validation=true of a method with maps."
        )
    if detector.reader.roi:
        raise RunError(
            "the run sees only a part of the images (data.roi, data.ignore), and the server judges whole images. Name a run "
            "without these options."
        )
    overrides = {"data.lighting": None} | ({} if root is None else {"data.root": root})
    data = {part: build_data(config.replace(**overrides, **{"data.part": part})) for part in PARTS}
    images = {
        category: {part: [sample.path for sample in data[part].test_samples(category)] for part in PARTS}
        for category in data[PARTS[0]].chosen_categories()
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {str(output)!r}: {error}. Name another folder with --output.") from error
    with exclusive(output, f"another process writes a submission to {str(output)!r}. Wait until it is done."):
        for leftover in output.glob(".incoming-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        for category in images:
            taken = [folder for kind in (MAPS, MASKS) if (folder := output / kind / category).exists()]
            if taken:
                raise RunError(
                    f"{str(taken[0])!r} is there already; nothing was changed. Remove the object from both folders, or name "
                    "another folder with --output."
                )
        return [(category, _write_object(detector, category, parts, output, progress)) for category, parts in images.items()]


def _write_object(detector: RunDetector, category: str, parts: dict[str, list[Path]], output: Path, progress: Progress) -> int:
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=output, ignore_cleanup_errors=True) as incoming:
        for part, paths in parts.items():
            pairs = progress(_native_maps(detector, paths), f"{category}: {part}", len(paths))
            for path, anomaly_map in pairs:
                name = Path(category, part, path.stem)
                write_whole(Path(incoming, MAPS, name).with_suffix(".tiff"), float16_tiff(_relative(anomaly_map, detector)))
                mask = Image.fromarray(np.where(anomaly_map > detector.calibration.map_threshold, 255, 0).astype(np.uint8))
                write_whole(Path(incoming, MASKS, name).with_suffix(".png"), _encoded(mask, "PNG"))
        for kind in (MAPS, MASKS):
            (output / kind).mkdir(exist_ok=True)
            Path(incoming, kind, category).rename(output / kind / category)
    return sum(map(len, parts.values()))


def _native_maps(detector: RunDetector, paths: Sequence[Path]) -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """Each image with its map at the image's own size; what a crop hides from the model gets the map's least value."""
    tiled = detector.config.data.tile is not None
    spec, position = detector.modeler.input_spec, 0
    if not tiled and (spec.center_crop or spec.resize == "keep"):
        warnings.warn(
            "the model's crop (model.center_crop, model.resize=keep) hides the border of the images, where no defect can be "
            "found, and the server judges whole images. Fit without a crop.",
            stacklevel=2,
        )
    for _, prediction in detector.stream(paths, batch_size=detector.config.data.batch_size):
        for index, path in enumerate(paths[position : position + len(prediction.scores)]):
            if prediction.maps is None or not prediction[index : index + 1].finite()[0]:
                raise RunError(f"the run gives no finite anomaly map of {str(path)!r}. Submit another run, or fit again.")
            anomaly_map = prediction.maps[index]
            if not tiled:
                height, width = detector.reader.size(path)
                anomaly_map = _whole(spec, anomaly_map, width, height)
            yield path, anomaly_map[0].numpy()
        position += len(prediction.scores)


def _whole(spec: Any, anomaly_map: Any, width: int, height: int) -> Any:
    seen = spec.native_map(anomaly_map, width, height)
    left, top, right, bottom = spec.native_region(width, height)
    if (right - left, bottom - top) == (width, height):
        return seen
    whole = seen.new_full((1, height, width), float(seen.min()))
    whole[:, top:bottom, left:right] = seen
    return whole


def _relative(anomaly_map: NDArray[np.float32], detector: RunDetector) -> NDArray[np.float32]:
    """A map on a scale that float16 resolves for every method: 0 is a typical normal pixel, 1 the map threshold.

    One line for all maps of a run, which changes no order of pixels, and so no metric that the server computes.
    """
    low, threshold = detector.calibration.map_low or 0.0, detector.calibration.map_threshold or 0.0
    largest = float(np.finfo(np.float16).max)
    relative: NDArray[np.float32] = (anomaly_map - low) / ((threshold - low) or 1.0)
    return relative.clip(-largest, largest)


def float16_tiff(anomaly_map: NDArray[np.float32]) -> bytes:
    """An array (H, W) as a TIFF of half-precision floats: Pillow writes their bits as 16-bit samples, and a tag tells so."""
    bits = Image.fromarray(anomaly_map.astype("<f2").view("<u2"))
    return _encoded(bits, "TIFF", tiffinfo={SAMPLE_FORMAT: IEEE_FLOAT})


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def missing_objects(output: Path) -> list[str]:
    """The objects that a submission still lacks. RunError if one that is there is not whole."""
    missing = []
    for category in MVTEC_AD2.categories:
        names = [
            {
                path.relative_to(output / kind / category).with_suffix("")
                for path in (output / kind / category).rglob(f"*{suffix}")
            }
            for kind, suffix in ((MAPS, ".tiff"), (MASKS, ".png"))
        ]
        if not any(names):
            missing.append(category)
        elif names[0] != names[1] or {name.parts[0] for name in names[0]} != set(PARTS):
            raise RunError(
                f"the object {category!r} in {str(output)!r} is not whole: remove it from {MAPS} and {MASKS}, and submit "
                "its run again."
            )
    return missing


def pack(output: Path) -> Path:
    """The archive for the server, in the submission's folder."""
    archive, part = output / ARCHIVE, output / f".{ARCHIVE}.part"
    try:
        with tarfile.open(part, "w:gz", compresslevel=1) as file:
            for kind in (MAPS, MASKS):
                file.add(output / kind, kind)
        part.replace(archive)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"cannot write {str(archive)!r}: {error}. Free some space, and submit again.") from error
    return archive
