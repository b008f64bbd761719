"""SubspaceAD: config, moments, model, modeler, and presets."""
