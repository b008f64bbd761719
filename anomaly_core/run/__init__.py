"""A run: fitting, calibration, evaluation, and its folder."""
