"""The engine ``openvino_int8``: a frozen network quantised after training, as an OpenVINO model that is saved with the run.

nncf's post-training quantisation, with its fast bias correction: weights are INT8 with a scale a channel, activations UINT8
between the bounds that they have on training images, some of them spoilt: within the bounds of normal images, the features of
defects would be cut off. Products and sums of products are exact integers on every CPU.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from anomaly_core import BaseModeler, ConfigError, DataError, MissingLibrary, RunError
from anomaly_export.compilers import in_openvino, network_as_onnx
from anomaly_export.graph import DetectorGraph, to_onnx
from anomaly_export.quiet import import_nncf, import_openvino, in_silence
from anomaly_features import Compute, FrozenNetwork, TransformerExtractor

IN_FLOAT = 2  # convolutions behind the pixels: faint texture is lost in INT8 there, and they take a tenth of the time
SPOILT = 4  # one training image of so many comes again with a patch that no normal image has
OVERFLOW_FIX = "enable"  # of nncf: weights of 7 bits, whose products no CPU saturates, so that all compute the same
HEADER = 8  # bytes: the length of the graph's text, which the weights follow
log = logging.getLogger(__name__)


def openvino_int8(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The quantised network in OpenVINO; what is not quantised is computed in float32. It takes images of 8 bits, as they are
    decoded, and rounds others to them."""
    model = read(network.quantised)
    height, width = (side.get_length() for side in model.input(0).partial_shape[1:3])
    if (height, width) != size:
        raise ConfigError(
            f"model.engine=openvino_int8: the network was quantised for images of {height} x {width} pixels, and is given "
            f"{size[0]} x {size[1]}. Choose another engine."
        )
    compute = in_openvino(model, "int8")
    return lambda images: compute(_pixels(images))


def calibrate(network: FrozenNetwork, images: Iterable[Tensor]) -> Tensor:
    """Quantise a network by the ranges that its values have on training images; uint8 (n,), for :func:`read`.

    Args:
        network: the network.
        images: batches of float32 (B, 3, H, W) RGB in [0, 1], of one size.

    Raises:
        MissingLibrary: nncf is not installed.
        DataError: there is no image.
    """
    if find_spec("nncf") is None:
        raise MissingLibrary(
            'model.engine=openvino_int8 is fitted with nncf, which is not installed: pip install "anomaly-export[int8]". '
            "To use a run that was fitted with it, it is not needed."
        )
    pixels = [_pixels(batch).permute(0, 3, 1, 2) for batch in images]
    count = sum(map(len, pixels))
    if not count:
        raise DataError("model.engine=openvino_int8 is calibrated on training images, and there is none. Add normal images.")
    log.info("model.engine=openvino_int8: the frozen network is quantised, by %d training images.", count)
    openvino, nncf = import_openvino(), import_nncf()
    model = openvino.Core().read_model(network_as_onnx(network, (pixels[0].shape[-2], pixels[0].shape[-1]))[0], b"")
    _fold_constants(model)
    options: dict[str, Any] = {
        "preset": nncf.QuantizationPreset.MIXED,  # UINT8 activations: what a ReLU leaves takes all 256 values
        "subset_size": count + len(range(0, count, SPOILT)),
        "ignored_scope": nncf.IgnoredScope(names=_first_convolutions(model), validate=False),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(overflow_fix=OVERFLOW_FIX),
    }
    if isinstance(network, TransformerExtractor):
        options["model_type"] = nncf.ModelType.TRANSFORMER
    single = [image for batch in pixels for image in batch.split(1)]
    single += _spoilt(single[::SPOILT])
    dataset = nncf.Dataset(single, lambda image: (image.float() / 255).numpy())
    with in_silence():
        quantised = nncf.quantize(model, dataset, **options)
    return _as_state(_of_pixels(quantised))


def _pixels(images: Tensor) -> Tensor:
    """float32 (B, 3, H, W) in [0, 1] -> uint8 (B, H, W, 3), as they were decoded."""
    return (images.detach() * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _spoilt(images: list[Tensor]) -> list[Tensor]:
    """uint8 (1, 3, H, W) images with a black patch, a white one, or one of noise."""
    copies, draw = [image.clone() for image in images], np.random.default_rng(0)
    for number, image in enumerate(copies):
        height, width = image.shape[-2:]
        h, w = (int(draw.integers(side // 14, side // 3)) for side in (height, width))
        top, left = draw.integers(height - h), draw.integers(width - w)
        noise = torch.from_numpy(draw.integers(0, 256, (1, 3, h, w), dtype=np.uint8))
        image[..., top : top + h, left : left + w] = (noise * 0, noise * 0 + 255, noise)[number % 3]
    return copies


def read(state: Tensor) -> Any:
    """The OpenVINO model that :func:`calibrate` made; RunError if it is none."""
    data = state.cpu().numpy().tobytes()
    length = int.from_bytes(data[:HEADER], "little")
    try:
        return import_openvino().Core().read_model(data[HEADER : HEADER + length], data[HEADER + length :])
    except Exception as error:  # OpenVINO raises many kinds of exceptions
        raise RunError(
            "the quantised network that the run was fitted with cannot be read: the run is damaged. `anomaly doctor RUN` "
            "compares its files with what it wrote. Fit again."
        ) from error


def whole(modeler: BaseModeler, outputs: Sequence[str]) -> Any:
    """The detector of a run that was fitted in INT8 as one OpenVINO model: its quantised network, and the rest in float32.

    Args:
        modeler: its modeler, with an ``extractor``.
        outputs: the names of the graph's outputs, as :class:`~anomaly_export.graph.DetectorGraph` has them.
    """
    openvino, extractor = import_openvino(), cast(Any, modeler).extractor
    network, graph = read(extractor.quantised), DetectorGraph(modeler).eval()
    images = graph.example()
    with torch.no_grad():
        features = extractor(images.permute(0, 3, 1, 2).float() / 255)
    rest = openvino.Core().read_model(_without_network(graph, extractor, images, features, outputs), b"")
    source = network.input(0).node
    source.output(0).set_names({"images"})
    levels = {f"features_{number}": level.node.input_value(0) for number, level in enumerate(network.outputs)}
    for parameter in rest.inputs:
        _connect(parameter, {"images": source.output(0), **levels}[parameter.any_name])
    return openvino.Model(rest.get_results(), [source], "detector")


def _of_pixels(model: Any) -> Any:
    """A model of images in [0, 1] as one of uint8 (B, H, W, 3) pixels, as a whole detector takes them: alone and as its part it
    then computes the same, and rounds nothing to the other side."""
    openvino = import_openvino()
    height, width = (side.get_length() for side in model.input(0).partial_shape[2:])
    pixels = openvino.opset13.parameter([-1, height, width, 3], np.uint8, "images")
    images = openvino.opset13.convert(openvino.opset13.transpose(pixels, [0, 3, 1, 2]), "f32")
    _connect(model.input(0), openvino.opset13.divide(images, openvino.opset13.constant(255, np.float32)).output(0))
    return openvino.Model(model.get_results(), [pixels], "network")


def _connect(parameter: Any, source: Any) -> None:
    for target in parameter.get_target_inputs():
        target.replace_source_output(source)


def _without_network(
    graph: DetectorGraph, extractor: FrozenNetwork, images: Tensor, features: list[Tensor], outputs: Sequence[str]
) -> bytes:
    """The graph in ONNX, with the network's feature maps as inputs ``features_0``, ... beside ``images``."""

    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = graph

        def forward(self, images: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
            extractor.features = lambda images: list(levels)  # type: ignore[method-assign]  # while it is traced
            try:
                return cast(tuple[Tensor, ...], self.graph(images))
            finally:
                del extractor.features

    names = ["images", *(f"features_{number}" for number in range(len(features)))]
    return to_onnx(Rest().eval(), (images, *features), outputs, names)


def _first_convolutions(model: Any) -> list[str]:
    convolutions = (op for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution"))
    return [op.get_friendly_name() for op in islice(convolutions, IN_FLOAT)]


def _fold_constants(model: Any) -> None:
    """Weights as the convolutions take them: through a reshaped constant, nncf takes the wrong axis of a depthwise convolution
    for its channels, and OpenVINO then computes it in float32."""
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def _as_state(model: Any) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        import_openvino().save_model(model, str(path), compress_to_fp16=False)
        graph, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return torch.frombuffer(bytearray(len(graph).to_bytes(HEADER, "little") + graph + weights), dtype=torch.uint8)
