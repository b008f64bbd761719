"""Teaching: image sets, advice, fits in the background, trials of a new version before it judges."""

from anomaly_serve.teaching.teaching import Fit, Teaching

__all__ = ["Fit", "Teaching"]
