"""SubspaceAD, AnomalyDINO and Dinomaly."""
