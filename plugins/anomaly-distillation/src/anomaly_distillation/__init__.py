"""Reverse distillation and EfficientAD."""
