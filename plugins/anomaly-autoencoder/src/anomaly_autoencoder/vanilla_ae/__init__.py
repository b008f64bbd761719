"""VanillaAE: config, model, modeler, and presets."""
