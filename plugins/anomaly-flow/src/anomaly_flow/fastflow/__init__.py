"""FastFlow: config, model, extractors, modeler, and presets."""
