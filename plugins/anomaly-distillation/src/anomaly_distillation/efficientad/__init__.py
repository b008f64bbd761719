"""EfficientAD: config, networks, model, teachers, modeler, and presets."""
