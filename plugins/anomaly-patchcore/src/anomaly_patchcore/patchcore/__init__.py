"""PatchCore: config, model, modeler, and presets."""
