"""SuperSimpleNet: config, noise, losses, model, modeler, and presets."""
