"""The Open Inference Protocol v2, as Triton, KServe and OpenVINO Model Server speak it: products are its models."""

from anomaly_serve.v2.routes import routes as routes
