"""MuSc: config, model, modeler, and presets."""
