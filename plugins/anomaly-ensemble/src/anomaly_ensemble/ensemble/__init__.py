"""The ensemble: config, scale, modeler, and presets."""
