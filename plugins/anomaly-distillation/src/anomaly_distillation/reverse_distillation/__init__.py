"""RD4AD: config, model, modeler, and presets."""
