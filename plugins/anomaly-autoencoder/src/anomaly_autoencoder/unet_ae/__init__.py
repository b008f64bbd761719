"""UNetAE: config, model, modeler, and presets."""
