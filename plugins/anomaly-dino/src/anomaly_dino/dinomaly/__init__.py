"""Dinomaly: config, encoder, model, training, modeler, and presets."""
