"""``python -m anomaly_core`` is the command ``anomaly``."""

from anomaly_core.cli import main

main()
