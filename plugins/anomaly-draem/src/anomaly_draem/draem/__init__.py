"""DRAEM: config, model, losses, modeler, and presets."""
