"""AnomalyDINO: config, bank, model, modeler, and presets."""
