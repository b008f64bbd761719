"""VanillaVAE: config, model, modeler, and presets."""
