"""Visual words: config, words, arrangement, surface, model, modeler, and presets."""
