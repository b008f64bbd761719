"""A run: fitting, calibration, evaluation and its folder; and the use of a finished or exported detector."""
