"""PaDiM: config, moments, model, modeler, and presets."""
