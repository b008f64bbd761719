"""UNetVAE: config, model, modeler, and presets."""
