"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, EngineSpec

READER = "anomaly_export.detector:ExportedDetector"
REWRITER = "anomaly_export.writers:recalibrate"
OPENER, KEEPER = "anomaly_export.kept:open_kept", "anomaly_export.kept:keep"

ONNX = EngineSpec(
    target="anomaly_export.compilers:onnx",
    module="onnxruntime",
    install='pip install "anomaly-export[onnx]"',
    suffixes=(".onnx",),
    reader=READER,
    rewriter=REWRITER,
    opener=OPENER,
    keeper=KEEPER,
    summary="ONNX Runtime on the CPU, in float32",
    auto=20,
)
OPENVINO = EngineSpec(
    target="anomaly_export.compilers:openvino",
    module="openvino",
    install='pip install "anomaly-export[openvino]"',
    suffixes=(".xml", ".onnx"),
    reader=READER,
    rewriter=REWRITER,
    opener=OPENER,
    keeper=KEEPER,
    summary="OpenVINO on the CPU, in float32",
    auto=10,
)
OPENVINO_BF16 = EngineSpec(
    target="anomaly_export.compilers:openvino_bf16",
    module="openvino",
    install='pip install "anomaly-export[openvino]"',
    precision="bfloat16",
    summary="OpenVINO on the CPU, in bfloat16: twice as fast where the CPU has it, and two to three digits are right",
)
OPENVINO_INT8 = EngineSpec(
    target="anomaly_export.quantised:openvino_int8",
    calibrator="anomaly_export.quantised:calibrate",
    module="openvino",
    install='pip install "anomaly-export[openvino]"',
    opener=OPENER,
    keeper=KEEPER,
    precision="int8",
    summary="OpenVINO on the CPU, in INT8: the network is quantised by training images when the run is fitted",
)
TORCHSCRIPT = EngineSpec(
    target="anomaly_export.compilers:torchscript",
    module="torch",
    install='pip install "anomaly-export[train]"',
    suffixes=(".pt", ".torchscript"),
    reader=READER,
    rewriter=REWRITER,
    summary="a traced and frozen graph in PyTorch's own interpreter, on the CPU, in float32",
)
EXPORT = CommandSpec(
    target="anomaly_export.commands:export", summary="Write a finished run's detector as ONNX, OpenVINO or TorchScript."
)
