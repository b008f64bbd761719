"""The figures of a run: what each shows, on the page as SVG, and as files by ``anomaly report RUN --figures``."""
