"""STFPM: config, model, modeler, and presets."""
