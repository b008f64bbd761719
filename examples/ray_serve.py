"""A detector behind Ray Serve: replicas on as many cores or machines as there are, images batched while they wait.

    pip install anomaly-core "anomaly-export[onnx]" "ray[serve]"
    anomaly export RUN --format onnx --output model.onnx
    python examples/ray_serve.py model.onnx --replicas 2
    curl --data-binary @image.png http://127.0.0.1:8000/

It judges and forgets: there is no history, no page and no alarm here, as `anomaly serve` has them.
"""

from __future__ import annotations

import argparse
import asyncio
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from anomaly_core import DataError
from anomaly_predict import open_detector

LARGEST = 32 << 20  # bytes of an image


@serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Judge:
    """One replica: a process with a detector of its own, which computes on one core."""

    def __init__(self, path: str) -> None:
        self.detector: Any = open_detector(path, threads=1)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]  # as Ray has it
    async def judged(self, images: list[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        """The verdicts on the images of several requests, which Ray Serve collects."""
        predictions = await asyncio.to_thread(self.detector.score, images)
        calibration = self.detector.calibration
        return [
            {
                "score": one.score,
                "is_anomalous": calibration.is_anomalous(one.score),
                "p_value": calibration.p_value(one.score),
                "threshold": calibration.threshold,
            }
            for one in predictions
        ]

    async def __call__(self, request: Request) -> JSONResponse:
        """A file's bytes in, a verdict out."""
        file = await request.body()
        if len(file) > LARGEST:
            return JSONResponse({"error": f"more than {LARGEST:,} bytes"}, 413)
        try:
            image = await asyncio.to_thread(self.detector.decode, BytesIO(file))
        except DataError:
            return JSONResponse({"error": "this is no image that can be read"}, 422)
        return JSONResponse(await self.judged(image))


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an exported file, or a run's folder")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    judge: Any = Judge  # which the decorator has made a deployment
    serve.run(judge.options(num_replicas=given.replicas).bind(str(given.model.absolute())), blocking=True)


if __name__ == "__main__":
    main()
